from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from lightning.pytorch.cli import OptimizerCallable
from numpy.typing import NDArray
from torch import Tensor, nn

from lit_dqn.branches import plain_choices
from lit_dqn.errors import ConfigError
from lit_dqn.learning.learner import Update
from lit_dqn.learning.networks import NatureCNN
from lit_dqn.learning.objectives import TDLearning
from lit_dqn.playing.value_errors import value_errors
from lit_dqn.schedules import Schedule
from lit_dqn.training.agent import LitAgent
from lit_dqn.training.checks import check_no_head
from lit_dqn.training.given import check_object
from lit_dqn.training.protocols import Data, data_of
from lit_dqn.types import Batch, Episode, LossOutput


class LitTD(LitAgent):
    """Policy evaluation: a network learns V, the value of the policy that plays (Sutton & Barto 2020, chapter 9).

    The policy is `data.policy` and does not depend on what is learned: uniformly random, or an agent from a checkpoint
    (`CheckpointPolicy`). After each evaluation the error of V is logged (`value_errors`).

    Args:
        observation_shape: of one observation, frames stacked; on the command line it comes from the data.
        num_actions: of the env; on the command line it comes from the data.
        network: (observation_shape, 1) -> module from [B, *observation_shape] to [B, 1].
        objective: the loss of a batch.
        optimizer: called with the parameters of the online network.
        learning_rate: of the optimiser, a number or a schedule over env steps; None: the optimiser's default.
        target_update_period: updates between two updates of the target network. 1 is the book's semi-gradient TD, where
            the online network also evaluates s'; None is the same without a copy.
        target_update_tau: τ of target <- τ online + (1 - τ) target; 1 copies.
        max_grad_norm: the gradient is scaled down to this Euclidean norm; None: it is not clipped.
        update: how updates are computed: `graph` captures one as a CUDA graph and replays it, `eager` computes
            operation by operation, `auto` uses `graph` on a GPU if possible.
        init_from: a checkpoint or a `.safetensors` file with the initial weights.

    Raises:
        ConfigError: if a value is out of its range, the network does not take the observations, or the weights do
            not fit.

    """

    objective: TDLearning

    scores = ("eval/value_rms_error", "eval/return_rms_error")

    has_preferences = False
    output_name = "state_value"

    def __init__(
        self,
        observation_shape: tuple[int, ...] | dict[str, Any],
        num_actions: int | tuple[int, ...],
        network: Callable[[tuple[int, ...], int], nn.Module] = NatureCNN,
        objective: TDLearning = TDLearning(),  # noqa: B008 - it cannot change
        optimizer: OptimizerCallable = partial(torch.optim.Adam, lr=1e-4, fused=True),  # noqa: B008
        learning_rate: Schedule | float | None = None,
        target_update_period: int | None = 1,
        target_update_tau: float = 1.0,
        max_grad_norm: float | None = None,
        update: Update = Update.auto,
        init_from: str | None = None,
    ) -> None:
        check_object("objective", objective, "objective", "__call__", "TDLearning()")
        super().__init__(
            observation_shape,
            plain_choices(num_actions),
            network=network,
            outputs=(1, "V(s) alone"),
            objective=objective,
            optimizer=optimizer,
            learning_rate=learning_rate,
            target_update_period=target_update_period,
            target_update_tau=target_update_tau,
            max_grad_norm=max_grad_norm,
            update=update,
            init_from=init_from,
        )
        check_no_head(self.online, type(self).__name__)

    def batch_loss(self, batch: Batch) -> LossOutput:
        """The objective's loss of a batch."""
        return self.objective(self.online, self.target_network, batch)

    def check_can_learn_from(self, data: Data) -> None:
        """Refuse policies that use the agent's preferences: V prefers no action.

        Raises:
            ConfigError: names the key and the policy.

        """
        super().check_can_learn_from(data)
        policies = {"policy": data.policy, "warm_up_policy": data.warm_up_policy, "eval_policy": data.eval_policy}
        for key, policy in policies.items():
            if policy.asks_agent:
                raise ConfigError(
                    f"{key}: {type(policy).__name__} chooses what the agent prefers, but LitTD learns state values, "
                    f"which prefer no action; set --data.{key} UniformRandom, or CheckpointPolicy."
                )

    def preferences(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        """Not defined for state values.

        Raises:
            ConfigError: always.

        """
        raise ConfigError("LitTD learns state values, which prefer no action; it cannot act by itself.")

    def state_values(
        self, observation: NDArray[Any], action_mask: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """V(s) of the policy that played, [N]."""
        return self._outputs(observation)[:, 0]

    def evaluation_metrics(self, episodes: list[Episode]) -> dict[str, float]:
        """The metrics of the episodes, and the error of V."""
        data = data_of(self.trainer)
        if data is None:
            return super().evaluation_metrics(episodes)
        errors = value_errors(
            self,
            data.env_id,
            data.env_kwargs,
            data.wrappers,
            policy=data.policy,
            gamma=data.horizon.discount(self.env_step),
            frame_stack=data.frame_stack,
            reward_clip=data.reward_clip,
            action_mask=data.action_mask,
            seeds=data.test_seeds if self.trainer.testing else data.evaluation_seeds,
            max_steps=data.eval_max_steps,
            env_step=self.env_step,
        )
        return {**super().evaluation_metrics(episodes), **errors}

    def grade(self, metrics: Mapping[str, Tensor]) -> float | None:
        """The negative error of V, because the policy's return does not change; -inf if there is no error."""
        errors = [metrics[name] for name in ("eval/value_rms_error", "eval/return_rms_error") if name in metrics]
        return -errors[0].item() if errors else float("-inf")
