from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from lightning.pytorch.cli import OptimizerCallable
from numpy.typing import NDArray
from torch import nn

from lit_dqn.branches import Branches, plain_choices
from lit_dqn.errors import ConfigError, one_line
from lit_dqn.learning.learner import Update
from lit_dqn.learning.networks import NatureCNN, torso_parameters
from lit_dqn.learning.objectives import Objective, QLearning
from lit_dqn.learning.resets import ShrinkAndPerturb
from lit_dqn.schedules import Schedule
from lit_dqn.training.actions import check_policies_of_branches
from lit_dqn.training.agent import LitAgent
from lit_dqn.training.given import check_object
from lit_dqn.training.protocols import Data
from lit_dqn.types import Batch, LossOutput


class LitDQN(LitAgent):
    """Deep Q-learning: an online network that learns and acts, and a target network that evaluates s'.

    One training step takes a chunk and makes one update per batch (`LitAgent.training_step`).

    Args:
        observation_shape: of one observation, frames stacked; on the command line it comes from the data.
        num_actions: of the env; on the command line it comes from the data. Several numbers are those of the choices of
            each part of an action; the network then has an output for each choice of each part, and Q(s, a) is the mean
            over the parts (Tavakoli et al. 2018; Seyde et al. 2023, eq. 3).
        network: (observation_shape, num_actions) -> module from [B, *observation_shape] to [B, num_actions].
        objective: the loss of a batch.
        optimizer: called with the parameters of the online network.
        learning_rate: of the optimiser, a number or a schedule over env steps; None: the optimiser's default.
        weight_decay: the same for its weight decay, whose meaning depends on the optimiser: AdamW's is decoupled from
            the gradient.
        decay_biases: whether biases and normalisation parameters, which have fewer than two axes, decay as well. False
            is common with AdamW (BBF, for example); True is torch's default.
        resets: when and how both networks are partly reset (`ShrinkAndPerturb`); None: never.
        target_update_period: updates between two updates of the target network (Mnih et al. 2015: C). None: there is no
            target network, and the online network evaluates s' (Mnih et al. 2013), if the objective needs it.
        target_update_tau: τ of target <- τ online + (1 - τ) target; 1 copies. For Polyak averaging use a small τ with
            period 1.
        max_grad_norm: the gradient is scaled down to this Euclidean norm; None: it is not clipped.
        update: how updates are computed: `graph` captures one as a CUDA graph and replays it, `eager` computes
            operation by operation, `auto` uses `graph` on a GPU if possible.
        init_from: a checkpoint or a `.safetensors` file: both networks start with its online weights; nothing else in
            it is used.

    Raises:
        ConfigError: if a value is out of its range, the network does not take the observations, or the weights do
            not fit.

    """

    objective: Objective

    output_name = "q_values"
    learns_sequences = True

    def __init__(
        self,
        observation_shape: tuple[int, ...] | dict[str, Any],
        num_actions: int | tuple[int, ...],
        network: Callable[[tuple[int, ...], int], nn.Module] = NatureCNN,
        objective: Objective = QLearning(),  # noqa: B008 - it cannot change
        optimizer: OptimizerCallable = partial(torch.optim.Adam, lr=1e-4, fused=True),  # noqa: B008
        learning_rate: Schedule | float | None = None,
        weight_decay: Schedule | float | None = None,
        decay_biases: bool = True,
        resets: ShrinkAndPerturb | None = None,
        target_update_period: int | None = 1000,
        target_update_tau: float = 1.0,
        max_grad_norm: float | None = None,
        update: Update = Update.auto,
        init_from: str | None = None,
    ) -> None:
        num_actions = plain_choices(num_actions)
        check_object("objective", objective, "objective", "__call__", "DoubleQLearning()")
        if isinstance(num_actions, int):
            rule, outputs = objective, (num_actions, "one value for each action")
        else:
            branches = Branches(num_actions)
            rule = objective.of_branches(branches)
            outputs = (branches.num_outputs, "one value for each choice of each part of an action")
        super().__init__(
            observation_shape,
            num_actions,
            network=network,
            outputs=outputs,
            objective=objective,
            optimizer=optimizer,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            decay_biases=decay_biases,
            resets=resets,
            target_update_period=target_update_period,
            target_update_tau=target_update_tau,
            max_grad_norm=max_grad_norm,
            update=update,
            init_from=init_from,
        )
        self._rule = rule
        if self.branches is not None:
            self.output_name = "choice_values"
        if resets is not None:
            torso_parameters(self.online)
        self._try_objective()

    def check_can_learn_from(self, data: Data) -> None:
        """Also refuse policies that compare all actions, if only the choices of their parts have values.

        Raises:
            ConfigError: names the key and the policy.

        """
        super().check_can_learn_from(data)
        if self.branches is not None:
            check_policies_of_branches(self, data)

    def _try_objective(self) -> None:
        """Try two transitions of zeros, so that a misfit is reported now and not after the warm-up."""
        name = type(self.objective).__name__
        try:
            shape = tuple(self.loss_of_blanks().loss.shape)
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(
                f"objective: {name} makes no loss of the outputs of {type(self.online).__name__}: {one_line(error)}"
            ) from error
        if shape != (2,):
            raise ConfigError(
                f"objective: {name} makes a loss of shape {shape} of 2 transitions; it must be (2,), one for each: "
                "the agent takes the mean."
            )

    def batch_loss(self, batch: Batch) -> LossOutput:
        """The objective's loss of a batch."""
        return self._rule(self.online, self.target_network, batch)

    def q_values(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        """Q(s, ·) of the online network; with a memory, as if each observation began an episode.

        Args:
            observation: [N, *observation_shape].

        Returns:
            [N, num_actions].

        Raises:
            ConfigError: if there is no value for each action, but one for each choice of each part (`choice_values`).

        """
        if self.branches is not None:
            raise ConfigError(
                "LitDQN has a value for each choice of each part of an action here, and none for each action: call "
                "choice_values."
            )
        return self._outputs(observation)

    def choice_values(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        """The values of the choices of each part of an action, one part after the other; Q(s, a) is the mean over the
        parts of those of its choices. If actions have no parts, it is Q(s, ·).

        Args:
            observation: [N, *observation_shape].

        Returns:
            [N, number of outputs].

        """
        return self._outputs(observation)

    def preferences(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        """Q(s, ·), [N, num_actions]."""
        return self.q_values(observation)

    def state_values(
        self, observation: NDArray[Any], action_mask: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """V(s) of the greedy policy, max_a Q(s, a) over the allowed actions, as [N]."""
        if self.branches is not None:
            parts = self.branches.of_each_part(self.choice_values(observation))
            means: NDArray[np.float32] = np.mean([values.max(axis=1) for values in parts], axis=0, dtype=np.float32)
            return means
        q_values = self.q_values(observation)
        if action_mask is not None:
            q_values = np.where(action_mask, q_values, np.float32(-np.inf))
        values: NDArray[np.float32] = q_values.max(axis=1)
        return values
