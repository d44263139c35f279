from lit_dqn.replay.buffer import ReplayBuffer
from lit_dqn.replay.device_frames import DeviceFrames, device_bytes
from lit_dqn.replay.horizon import Horizon
from lit_dqn.replay.memory import available_bytes, check_fits
from lit_dqn.replay.prioritized import Prioritized
from lit_dqn.replay.rollout import Rollout, RolloutStore
from lit_dqn.replay.samplers import Latest, PrioritySampler, Sampler, Uniform
from lit_dqn.replay.sequences import Sequences, SequenceStore
from lit_dqn.replay.sharded import ShardedReplay
from lit_dqn.replay.stacking import stack_frames, stacked_shape
from lit_dqn.replay.store import Replay

__all__ = [
    "DeviceFrames",
    "Horizon",
    "Latest",
    "Prioritized",
    "PrioritySampler",
    "Replay",
    "ReplayBuffer",
    "Rollout",
    "RolloutStore",
    "Sampler",
    "SequenceStore",
    "Sequences",
    "ShardedReplay",
    "Uniform",
    "available_bytes",
    "check_fits",
    "device_bytes",
    "stack_frames",
    "stacked_shape",
]
