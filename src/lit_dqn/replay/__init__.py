from lit_dqn.replay.buffer import ReplayBuffer, stack_frames
from lit_dqn.replay.memory import check_fits
from lit_dqn.replay.samplers import Latest, Sampler, Uniform
from lit_dqn.replay.sidecar import Sidecar, SidecarWriter

__all__ = [
    "Latest",
    "ReplayBuffer",
    "Sampler",
    "Sidecar",
    "SidecarWriter",
    "Uniform",
    "check_fits",
    "stack_frames",
]
