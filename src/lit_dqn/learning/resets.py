"""Resets: a network that has learned for a long time learns new things badly, so part of it is initialised again."""

from collections.abc import Callable

import torch
from torch import nn

from lit_dqn.errors import ConfigError
from lit_dqn.learning.draws import reset_seed
from lit_dqn.learning.networks import SpectralNorms, torso_parameters
from lit_dqn.schedules import beginnings


class ShrinkAndPerturb:
    """At intervals, moves the torso towards fresh weights, initialises the head again, and clears the optimiser's
    state.

    Ash & Adams 2020, "On warm-starting neural network training"; in this form D'Oro et al. 2023 (SR-SPR, with 0.8 in
    place of 0.5) and Schwarzer et al. 2023 (BBF, whose settings are the default). Online and target network get the
    same fresh weights. Spectral norms are estimated anew; statistics in buffers, such as those of batch norm, are not
    reset.

    Args:
        every_env_steps: interval between resets. Before the first update there is nothing to reset.
        until_env_steps: there are no resets from here on, so that the run has time to recover; None: no limit.
        shrink: α of torso <- α torso + (1 - α) fresh weights; 1 keeps the torso (Nikishin et al. 2022).

    Raises:
        ConfigError: if a value is out of its range.

    """

    def __init__(
        self, every_env_steps: int = 20_000, until_env_steps: int | None = 100_000, shrink: float = 0.5
    ) -> None:
        if every_env_steps < 1:
            raise ConfigError(f"every_env_steps: {every_env_steps} must be at least 1 env step.")
        if until_env_steps is not None and until_env_steps < 0:
            raise ConfigError(f"until_env_steps: {until_env_steps} must be at least 0, or null for resets without end.")
        if not 0 <= shrink <= 1:
            raise ConfigError(f"shrink: {shrink} is the share of the old weights and must lie in [0, 1].")
        self.every_env_steps = every_env_steps
        self.until_env_steps = until_env_steps
        self.shrink = shrink

    def count(self, env_step: int) -> int:
        """The number of resets that are due by an env step."""
        return beginnings(env_step, self.every_env_steps, self.until_env_steps)

    @torch.no_grad()
    def __call__(self, network: nn.Module, fresh: nn.Module) -> None:
        """Reset a network.

        Args:
            network: changed in place.
            fresh: a new network of the same kind, on the same device.

        """
        torso = {id(parameter) for parameter in torso_parameters(network)}
        for parameter, new in zip(network.parameters(), fresh.parameters(), strict=True):
            if id(parameter) in torso:
                parameter.lerp_(new, 1 - self.shrink)
            else:
                parameter.copy_(new)
        SpectralNorms(network).settle()


def fresh_network(make: Callable[[], nn.Module], seed: int, number: int) -> nn.Module:
    """A network whose weights are a function of the run's seed and the number of the reset; no generator changes.

    Args:
        make: creates it on the CPU.
        seed: of the run.
        number: of the reset, from 1.

    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(reset_seed(seed, number))
        return make()
