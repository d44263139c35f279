from lit_dqn.checkpoint.contents import DATA_KEY, check_optimizer
from lit_dqn.checkpoint.find import Found, find_checkpoint
from lit_dqn.checkpoint.folder import BEST, LAST, CheckpointFolder, env_step_of, moment_of
from lit_dqn.checkpoint.io import ReplayCheckpointIO
from lit_dqn.checkpoint.read import read_checkpoint, verify_checkpoint
from lit_dqn.checkpoint.settings import checked_arguments, close_the_parser
from lit_dqn.checkpoint.trust import Trust, imported
from lit_dqn.checkpoint.weights import check_weights, load_network_weights

__all__ = [
    "BEST",
    "DATA_KEY",
    "LAST",
    "CheckpointFolder",
    "Found",
    "ReplayCheckpointIO",
    "Trust",
    "check_optimizer",
    "check_weights",
    "checked_arguments",
    "close_the_parser",
    "env_step_of",
    "find_checkpoint",
    "imported",
    "load_network_weights",
    "moment_of",
    "read_checkpoint",
    "verify_checkpoint",
]
