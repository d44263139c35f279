from lit_dqn.checkpoint.find import Found, find_checkpoint
from lit_dqn.checkpoint.folder import BEST, LAST, CheckpointFolder, env_step_of
from lit_dqn.checkpoint.io import ReplayCheckpointIO
from lit_dqn.checkpoint.read import DATA_KEY, read_checkpoint, verify_checkpoint
from lit_dqn.checkpoint.trust import TRUSTED_PACKAGES, packages_of
from lit_dqn.checkpoint.weights import check_shapes, load_network_weights

__all__ = [
    "BEST",
    "DATA_KEY",
    "LAST",
    "TRUSTED_PACKAGES",
    "CheckpointFolder",
    "Found",
    "ReplayCheckpointIO",
    "check_shapes",
    "env_step_of",
    "find_checkpoint",
    "load_network_weights",
    "packages_of",
    "read_checkpoint",
    "verify_checkpoint",
]
