"""The words that travel between the rooms. B is the batch size, N the number of envs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, overload

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch  # takes seconds, and policies and settings do without
    from torch import Tensor


class Timestep(NamedTuple):
    """One step of every env of a vector env, in Sutton & Barto's time: (o_t, a_t, r_{t+1}, d_{t+1}, o_{t+1})."""

    observation: NDArray[Any]  # [N, *shape], single frames
    action: NDArray[np.integer]  # [N]
    reward: NDArray[np.floating]  # [N], as the env gave it
    discount: NDArray[np.bool_]  # [N], False where the step has no future to learn from: terminated, or a life lost
    last: NDArray[np.bool_]  # [N], True where the episode ended, terminated or truncated
    next_observation: NDArray[Any]  # [N, *shape], the last observation of the episode where it ended
    action_mask: NDArray[np.bool_] | None = None  # [N, num_actions], which actions are allowed at o_t; None: all are
    next_action_mask: NDArray[np.bool_] | None = None  # likewise at o_{t+1}


class Batch(NamedTuple):
    """B transitions, each over a window of up to n steps that ends with its episode."""

    observation: Tensor  # [B, *shape], frames stacked; an objective hands on of several parts a tensor for each name
    action: Tensor  # [B] int64
    reward: Tensor  # [B] float32, the discounted sum of the window's rewards
    discount: Tensor  # [B] float32, γ to the length of the window, or 0 if the episode terminated inside it
    next_observation: Tensor | None = None  # [B, *shape], at the end of the window; None: the rewards are whole returns
    weight: Tensor | None = None  # [B] float32, importance weights of the losses; None: all count the same
    uniform: Tensor | None = None  # [B, D] float32 in [0, 1), where an objective draws; the learner adds them
    action_mask: Tensor | None = None  # [B, num_actions] bool, which actions are allowed at s; None: all are
    next_action_mask: Tensor | None = None  # [B, num_actions] bool, likewise at s', the end of the window

    @property
    def given(self) -> dict[str, Tensor]:
        """The fields that a store gave, by their names; `Batch(**batch.given)` is that batch again."""
        return {name: field for name, field in zip(self._fields, self, strict=True) if field is not None}

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The fields that a store gave, in their order."""
        return tuple(self.given.values())


class Lookup(NamedTuple):
    """B transitions as `Batch` has them, with places in place of frames: flat rows of the replay's ring."""

    rows: NDArray[np.int64]  # [B, k], of the k frames of each observation, oldest first
    next_rows: NDArray[np.int64]  # [B, k], at the end of the window
    action: NDArray[np.int64]  # [B]
    reward: NDArray[np.float32]  # [B]
    discount: NDArray[np.float32]  # [B]
    last: NDArray[np.bool_]  # [B], whether the episode ended with the window
    action_mask: NDArray[np.bool_] | None = None  # [B, num_actions], of the observations
    next_action_mask: NDArray[np.bool_] | None = None  # [B, num_actions], at the end of the window

    @property
    def masks(self) -> dict[str, NDArray[np.bool_]]:
        """The action masks by their names in a `Batch`; empty where all actions are allowed."""
        if self.action_mask is None or self.next_action_mask is None:
            return {}
        return {"action_mask": self.action_mask, "next_action_mask": self.next_action_mask}


class StaticBatches(Sequence[Batch]):
    """K batches whose tensors lie at the same places of a device in every chunk, as a captured graph needs them.

    Attributes:
        fields: what batches are made of, [K, ...] each.

    """

    fields: tuple[Tensor, ...]

    @abstractmethod
    def make(self, fields: tuple[Tensor, ...]) -> Batch:
        """One batch of one row of each of the fields."""

    @overload
    def __getitem__(self, index: int) -> Batch: ...

    @overload
    def __getitem__(self, index: slice) -> list[Batch]: ...

    def __getitem__(self, index: int | slice) -> Batch | list[Batch]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return self.make(tuple(field[index] for field in self.fields))

    def __iter__(self) -> Iterator[Batch]:
        return (self[number] for number in range(len(self)))

    def __len__(self) -> int:
        return len(self.fields[0])


class Drawn(NamedTuple):
    """K batches, and by which numbers their store knows the transitions."""

    batches: Sequence[Batch]
    start: NDArray[np.int64]  # [K, B]; it stays on the host, which alone has use for it


class Store(Protocol):
    """What was played, and what is learned from: whoever plays adds, whoever learns draws and settles."""

    device: torch.device
    """Where the batches lie."""

    @property
    def frame_stack(self) -> int:
        """Frames in an observation."""
        ...

    def __len__(self) -> int:
        """How many transitions can be drawn now."""
        ...

    def add(self, timestep: Timestep) -> None:
        """Store one step of every env."""
        ...

    def cut_episodes(self, envs: NDArray[np.bool_] | None = None) -> None:
        """End the episodes that are running, as a truncation: what follows is another episode.

        Args:
            envs: [N], whose episodes; None: of all.

        """
        ...

    def draw(self, updates: int, batch_size: int, generator: np.random.Generator, env_step: int) -> Drawn:
        """The batches of some updates, all drawn from what is there now.

        Args:
            updates: K.
            batch_size: B.
            generator: decides.
            env_step: env steps played, by which schedules go.

        """
        ...

    def settle(self, start: NDArray[np.int64], priority: Tensor) -> None:
        """Take back what the updates say of the transitions they learned from.

        Args:
            start: [K, B], of `draw`; between then and now others may have been added.
            priority: [K, B], of each transition, at least 0.

        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides what is drawn next."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of a store of the same layout."""
        ...


class Chunk(NamedTuple):
    """What one training step consumes: the batches of `gradient_steps` updates."""

    batches: Sequence[Batch]
    env_step: int  # env steps played by the end of the training step
    settle: Callable[[Tensor | None], None] = lambda priority: None
    """Called once, at the end of the step: waits for what is played meanwhile, and takes the priorities [K, B] of what
    was learned from back to the store; None where there are none.
    """
    wait: Callable[[], None] = lambda: None  # for what is played meanwhile
    share: Callable[[], None] = lambda: None
    """Called after `settle`, of a step that went well: puts together what the shards have played."""


class Episode(NamedTuple):
    """A finished episode."""

    number: int  # counted from 1 over all envs
    env: int
    env_step: int  # env steps played over all envs when it ended
    total_reward: float  # the undiscounted return, rewards as the env gave them
    length: int  # agent steps
    terminated: bool  # False: truncated, by the env or by a cap on the steps


class LossOutput(NamedTuple):
    """What an objective says of a batch."""

    loss: Tensor  # [B]
    metrics: Mapping[str, Tensor]  # scalars, without gradient
    priority: Tensor | None = None  # [B], without gradient: how much is left to learn, as a rule |δ|; None: it says not


class Learned(NamedTuple):
    """What an update says; of K updates with K in front."""

    metrics: Mapping[str, Tensor]  # scalars: `loss`, the weighed mean over the batch, and those of the objective
    priority: Tensor | None  # [B]; None where the batch has no weights, or the objective says none


class ActionPreferences(Protocol):
    """What a policy needs to know of an agent."""

    num_actions: int

    def preferences(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        """What actions are chosen by, higher is better, for observations [N, *shape], as [N, num_actions].

        Q(s, ·) of an agent with action values, otherwise h(s, ·) of Sutton & Barto (2020), section 13.1.
        """
        ...


class CopiedAgent(ActionPreferences, Protocol):
    """An agent that can act by weights of now while it learns."""

    def acting_copy(self, earlier: Self | None) -> Self:
        """An agent that acts as this one does now, with its noise; an earlier copy is brought up to date."""
        ...

    def state_values(
        self, observation: NDArray[Any], action_mask: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """V(s) of observations [N, *shape], as [N]; of masks [N, num_actions], None: all actions are allowed."""
        ...

    def exploring(self) -> AbstractContextManager[None]:
        """Inside it acts with noise, if its network has noisy layers."""
        ...
