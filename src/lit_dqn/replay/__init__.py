from lit_dqn.replay.buffer import ReplayBuffer, stack_frames
from lit_dqn.replay.memory import available_bytes, check_fits
from lit_dqn.replay.samplers import Latest, Sampler, Uniform

__all__ = ["Latest", "ReplayBuffer", "Sampler", "Uniform", "available_bytes", "check_fits", "stack_frames"]
