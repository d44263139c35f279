"""The networks, for peers that leave them to their user."""

import math

import gymnasium
from torch import Tensor, nn

from side_by_side import Work


class _Pixels(nn.Module):
    def forward(self, observation: Tensor) -> Tensor:
        return observation.float().mul_(1 / 255)


def make_network(work: Work, env: gymnasium.Env) -> nn.Sequential:
    """[B, *observation_shape] to [B, num_actions]; images come as uint8."""
    assert isinstance(env.action_space, gymnasium.spaces.Discrete)
    num_actions = int(env.action_space.n)
    if not work.images:
        size = math.prod(env.observation_space.shape or ())
        return nn.Sequential(nn.Linear(size, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, num_actions))
    return nn.Sequential(
        _Pixels(),
        nn.Conv2d(4, 32, kernel_size=8, stride=4),
        nn.ReLU(),
        nn.Conv2d(32, 64, kernel_size=4, stride=2),
        nn.ReLU(),
        nn.Conv2d(64, 64, kernel_size=3, stride=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * 7 * 7, 512),
        nn.ReLU(),
        nn.Linear(512, num_actions),
    )
