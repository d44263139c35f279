"""The words that travel between the rooms. B is the batch size, N the number of envs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, overload

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor  # takes seconds, and policies and settings do without


class Timestep(NamedTuple):
    """One step of every env of a vector env, in Sutton & Barto's time: (o_t, a_t, r_{t+1}, d_{t+1}, o_{t+1})."""

    observation: NDArray[Any]  # [N, *shape], single frames
    action: NDArray[np.integer]  # [N]
    reward: NDArray[np.floating]  # [N], as the env gave it
    discount: NDArray[np.bool_]  # [N], False where the step has no future to learn from: terminated, or a life lost
    last: NDArray[np.bool_]  # [N], True where the episode ended, terminated or truncated
    next_observation: NDArray[Any]  # [N, *shape], the last observation of the episode where it ended


class Batch(NamedTuple):
    """B transitions, each over a window of up to n steps that ends with its episode."""

    observation: Tensor  # [B, *shape], frames stacked
    action: Tensor  # [B] int64
    reward: Tensor  # [B] float32, the discounted sum of the window's rewards
    discount: Tensor  # [B] float32, γ to the length of the window, or 0 if the episode terminated inside it
    next_observation: Tensor  # [B, *shape], the observation at the end of the window


class Lookup(NamedTuple):
    """B transitions as `Batch` has them, with places in place of frames: flat rows of the replay's ring."""

    rows: NDArray[np.int64]  # [B, k], of the k frames of each observation, oldest first
    next_rows: NDArray[np.int64]  # [B, k], at the end of the window
    action: NDArray[np.int64]  # [B]
    reward: NDArray[np.float32]  # [B]
    discount: NDArray[np.float32]  # [B]


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


class Chunk(NamedTuple):
    """What one training step consumes: the batches of `gradient_steps` updates."""

    batches: Sequence[Batch]
    env_step: int  # env steps played by the end of the training step
    wait: Callable[[], None] = lambda: None  # for what is played while they are learned from


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
        """An agent that acts as this one does now; an earlier copy is brought up to date."""
        ...
