"""Base classes of objectives: each is a small object for a published rule, and returns a loss per transition."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from lit_dqn.branches import Branches
from lit_dqn.errors import ConfigError
from lit_dqn.learning.losses import conservative_penalty, huber, squared
from lit_dqn.learning.networks import Head, HeadedNetwork
from lit_dqn.types import Batch, LossOutput

HeadT = TypeVar("HeadT", bound=Head)


@dataclass(frozen=True)
class OfTDErrors:
    """A loss of TD errors: squared, or Huber's."""

    huber_delta: float | None = None

    def __post_init__(self) -> None:
        if self.huber_delta is not None and not self.huber_delta > 0:
            raise ConfigError(f"huber_delta: {self.huber_delta} must be positive, or null for the squared error.")

    def loss(self, td_error: Tensor) -> Tensor:
        """The loss of each TD error, elementwise."""
        return squared(td_error) if self.huber_delta is None else huber(td_error, self.huber_delta)


@dataclass(frozen=True, kw_only=True)
class Conservative:
    """CQL's regulariser, which can be added to a loss (Kumar et al. 2020, "Conservative Q-learning")."""

    conservative: float = 0.0

    def check_conservative(self) -> None:
        """Refuse an invalid weight.

        Raises:
            ConfigError: if it is negative or NaN.

        """
        if not 0 <= self.conservative < float("inf"):
            raise ConfigError(f"conservative: {self.conservative} must be at least 0; 0 is without CQL's regulariser.")

    def conserve(
        self, loss: Tensor, metrics: dict[str, Tensor], q_values: Tensor, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """A loss [B] with the regulariser, and its metrics with the mean of the unweighted regulariser.

        Args:
            loss: [B].
            metrics: of the loss.
            q_values: [B, A], of the online network, with their gradient.
            batch: to which they belong.

        """
        if self.conservative == 0:
            return loss, metrics
        penalty = self.penalty(q_values, batch)
        return loss + self.conservative * penalty, {**metrics, "conservative": penalty.detach().mean()}

    def penalty(self, q_values: Tensor, batch: Batch) -> Tensor:
        """The unweighted regulariser, [B]."""
        return conservative_penalty(q_values, batch.action, batch.action_mask)


class Objective(ABC):
    """A rule of the Q-learning family, for `LitDQN`."""

    @property
    def draws(self) -> int:
        """How many numbers it draws per transition; they come with the batch, as `uniform`."""
        return 0

    @abstractmethod
    def __call__(self, online: nn.Module, target: nn.Module, batch: Batch) -> LossOutput:
        """The loss [B] of a batch, and its metrics."""

    def of_branches(self, branches: Branches) -> "Objective":
        """The same rule for a network with an output for each choice of each part of an action.

        Raises:
            ConfigError: if there is none.

        """
        raise ConfigError(
            f"objective: {type(self).__name__} needs outputs for each action, and here are {len(branches.choices)} "
            "actions at once, whose choices have outputs of their own; set --model.objective DoubleQLearning."
        )


@torch.no_grad()
def without_gradient(function: Callable[[Tensor], Tensor], observation: Tensor) -> Tensor:
    """The outputs of a network, without gradient."""
    return function(observation)


def observation_after(batch: Batch, objective: object) -> Tensor:
    """The observations at the end of the windows, for an objective that bootstraps by itself.

    Args:
        batch: from any store.
        objective: the one that needs them.

    Raises:
        ConfigError: if there are none, because the rewards are complete returns.

    """
    if batch.next_observation is None:
        raise ConfigError(
            f"objective: {type(objective).__name__} makes its target of what follows a transition, and a rollout gives "
            "whole returns; set --model.objective QLearning."
        )
    return batch.next_observation


def head_of(
    network: nn.Module, kind: type[HeadT], objective: object, observation: Tensor
) -> tuple[Callable[[Tensor], Tensor], HeadT]:
    """The head of a network that an objective needs.

    Args:
        network: any.
        kind: of head.
        objective: the one that needs it.
        observation: [B, *observation_shape], any.

    Returns:
        A function from observations to features, and the head that takes them.

    Raises:
        ConfigError: if the network has no head of that kind.

    """
    head = getattr(network, "head", None)
    if isinstance(head, kind):
        return cast(Callable[[Tensor], Tensor], network.features), head
    with_network = ""
    if not isinstance(network, HeadedNetwork):
        with_network = f"--model.network lit_dqn.{'NatureCNN' if observation.ndim == 4 else 'MLP'} "
    raise ConfigError(
        f"objective: {type(objective).__name__} needs a network with a {kind.__name__}, and {type(network).__name__} "
        f"has none here; set {with_network}--model.network.head lit_dqn.{kind.__name__}."
    )
