import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from lightning.pytorch.cli import OptimizerCallable
from numpy.typing import NDArray
from torch import Tensor, nn

from lit_dqn.branches import plain_choices
from lit_dqn.envs import MOST_COMBINATIONS
from lit_dqn.errors import ConfigError
from lit_dqn.learning.learner import Learner, Update
from lit_dqn.learning.networks import NatureCNN, NoisyLinear
from lit_dqn.learning.objectives import ActorCritic
from lit_dqn.playing.policies import Softmax
from lit_dqn.replay import Latest, Rollout
from lit_dqn.schedules import Schedule
from lit_dqn.training.agent import LitAgent
from lit_dqn.training.checks import check_no_head
from lit_dqn.training.given import check_object
from lit_dqn.training.protocols import Data, data_of
from lit_dqn.types import Batch, LossOutput


class LitActorCritic(LitAgent):
    """Advantage actor-critic: one network outputs the policy and V (Sutton & Barto 2020, section 13.5).

    Its outputs are a preference h(s, a) for each action and, last, V(s); all layers but the last are shared. It learns
    from the newest steps of its own policy: `data.policy` Softmax and `data.sampler` Rollout, where each rollout is one
    batch. The weights that learn from a rollout are the weights that played it, and λ-return minus V(s) is the
    generalised advantage estimate (Schulman et al. 2016, eq. 16).

    With `data.sampler` Latest, as in runs of earlier releases, it learns from n-step returns, with as many env steps
    between two updates as there are transitions in a batch; with a smaller batch, some steps are left out. A window is
    complete n - 1 steps after its first step, so some transitions of a batch were played one update earlier.

    Args:
        observation_shape: of one observation, frames stacked; on the command line it comes from the data.
        num_actions: of the env; on the command line it comes from the data.
        network: (observation_shape, num_actions + 1) -> module from [B, *observation_shape] to [B, num_actions + 1].
        objective: the loss of a batch.
        optimizer: called with the parameters of the network.
        learning_rate: of the optimiser, a number or a schedule over env steps; None: the optimiser's default.
        max_grad_norm: the gradient is scaled down to this Euclidean norm; None: it is not clipped.
        update: how updates are computed: `graph` captures one as a CUDA graph and replays it, `eager` computes
            operation by operation, `auto` uses `graph` on a GPU if possible.
        init_from: a checkpoint or a `.safetensors` file with the initial weights.

    Raises:
        ConfigError: if a value is out of its range, the network does not take the observations, or the weights do
            not fit.

    """

    objective: ActorCritic

    output_name = "preferences_and_state_value"
    preferences_name = "h(s, ·)"

    def __init__(
        self,
        observation_shape: tuple[int, ...] | dict[str, Any],
        num_actions: int | tuple[int, ...],
        network: Callable[[tuple[int, ...], int], nn.Module] = NatureCNN,
        objective: ActorCritic = ActorCritic(),  # noqa: B008 - it cannot change
        optimizer: OptimizerCallable = partial(torch.optim.Adam, lr=1e-4, fused=True),  # noqa: B008
        learning_rate: Schedule | float | None = None,
        max_grad_norm: float | None = 0.5,
        update: Update = Update.auto,
        init_from: str | None = None,
    ) -> None:
        num_actions = plain_choices(num_actions)
        check_object("objective", objective, "objective", "__call__", "ActorCritic()")
        if not isinstance(num_actions, int):
            raise ConfigError(_why_no_branches(num_actions))
        super().__init__(
            observation_shape,
            num_actions,
            network=network,
            outputs=(num_actions + 1, "a preference for each action, and V(s)"),
            objective=objective,
            optimizer=optimizer,
            learning_rate=learning_rate,
            target_update_period=None,  # its data are fresh, so it needs no fixed target
            target_update_tau=1.0,
            max_grad_norm=max_grad_norm,
            update=update,
            init_from=init_from,
        )
        check_no_head(self.online, type(self).__name__)
        # Not in checkpoints: it is a function of the env step.
        self.register_buffer("_temperature", torch.ones(()), persistent=False)
        self._temperature: Tensor
        self._temperature_set = 1.0

    def batch_loss(self, batch: Batch) -> LossOutput:
        """The objective's loss of a batch, at the temperature with which the agent acts now."""
        return self.objective(self.online, batch, self._temperature)

    def follow_schedules(self, learner: Learner) -> None:
        """Also set the policy's temperature."""
        super().follow_schedules(learner)
        data = data_of(self.trainer)
        if data is None or not isinstance(data.policy, Softmax):
            return
        temperature = data.policy.temperature(self.env_step)
        if temperature != self._temperature_set:
            self._temperature.fill_(temperature)
            self._temperature_set = temperature

    def check_can_learn_from(self, data: Data) -> None:
        """Refuse to learn from anything but the newest steps of the softmax over the agent's own preferences.

        Raises:
            ConfigError: names the key and its value.

        """
        if not isinstance(data.policy, Softmax):
            raise ConfigError(
                f"policy: LitActorCritic learns from its own policy, which {type(data.policy).__name__} is not; "
                "set --data.policy Softmax."
            )
        _check_no_noise(self.online)
        if isinstance(data.sampler, Rollout):
            _check_one_update(data)
        elif isinstance(data.sampler, Latest):
            _check_latest(data)
        else:
            raise ConfigError(
                f"sampler: LitActorCritic learns from what its policy has just played, not from older transitions "
                f"drawn by {type(data.sampler).__name__}; set --data.sampler Rollout."
            )
        super().check_can_learn_from(data)

    def preferences(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        """h(s, ·), [N, num_actions]; the policy is their softmax (Sutton & Barto 2020, eq. 13.2)."""
        return self._outputs(observation)[:, :-1]

    def state_values(
        self, observation: NDArray[Any], action_mask: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """V(s) of the policy, by the critic, as [N]."""
        return self._outputs(observation)[:, -1]


def _why_no_branches(choices: Sequence[int]) -> str:
    combinations = math.prod(choices)
    said = f"num_actions: LitActorCritic has a preference for each of {combinations:,} combinations of actions"
    if combinations <= MOST_COMBINATIONS:
        return f"{said}, and data.combine_actions keeps their parts apart; set --data.combine_actions null."
    return f"{said}, of which {MOST_COMBINATIONS:,} are the most; learn with a LitDQN, or choose another environment."


def _check_one_update(data: Data) -> None:
    if data.gradient_steps > 1:
        rollout = data.gradient_steps * data.env_steps_per_update
        raise ConfigError(
            f"gradient_steps: {data.gradient_steps} updates from one rollout, of which all but the first would be made "
            "when the policy that played it is gone; set --data.gradient_steps 1 --data.env_steps_per_update "
            f"{rollout} --data.batch_size {rollout}."
        )


def _check_no_noise(network: nn.Module) -> None:
    if any(isinstance(layer, NoisyLinear) for layer in network.modules()):
        raise ConfigError(
            f"network: {type(network).__name__} has noisy layers, which learn with other noise than they act with, so "
            "the policy that learns would not be the one that played; set --model.network.noise null."
        )


def _check_latest(data: Data) -> None:
    if data.play_ahead:
        raise ConfigError(
            "play_ahead: true would let LitActorCritic learn from what its policy of before the last update has "
            "played; set --data.play_ahead false."
        )
    if data.place is not None and data.place.asynchronous:
        raise ConfigError(
            "place: asynchronous players act by older weights, and LitActorCritic learns from the steps of its present "
            "policy; set --data.place.init_args.asynchronous false."
        )
    if data.batch_size > data.env_steps_per_update:
        raise ConfigError(
            f"batch_size: {data.batch_size} transitions from {data.env_steps_per_update} env steps would be "
            "learned from more than once, when the policy that played them is gone; "
            f"set --data.env_steps_per_update {data.batch_size}."
        )
