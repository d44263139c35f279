"""The types that the folders exchange. B is the batch size, N the number of envs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, overload

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch  # takes seconds to import, and policies and settings do not need it
    from torch import Tensor


ALL = slice(None)
"""The range of all envs."""


class Timestep(NamedTuple):
    """One step of every env of a vector env, in Sutton & Barto's time: (o_t, a_t, r_{t+1}, d_{t+1}, o_{t+1})."""

    observation: NDArray[Any]  # [N, *shape], single frames
    action: NDArray[np.integer]  # [N]
    reward: NDArray[np.floating]  # [N], as the env returned it
    discount: NDArray[np.bool_]  # [N], False where the step has no future to learn from: terminated, or a life lost
    last: NDArray[np.bool_]  # [N], True where the episode ended, terminated or truncated
    next_observation: NDArray[Any]  # [N, *shape], the last observation of the episode where it ended
    action_mask: NDArray[np.bool_] | None = None  # [N, num_actions], which actions are allowed at o_t; None: all are
    next_action_mask: NDArray[np.bool_] | None = None  # the same at o_{t+1}
    memory: NDArray[np.float32] | None = None  # [N, M], the agent's memory before it saw o_t; None: it has none


class Batch(NamedTuple):
    """B transitions, each over a window of up to n steps that ends with its episode.

    Or S sequences of L transitions, which are B = S L then, one sequence after the other. Their observations lie in
    `observation` [S, T, *shape], and `place` says where; an objective is handed `ObservedSequences` of both.
    """

    observation: Tensor  # [B, *shape], frames stacked; for objectives, a tensor per name if there are parts
    action: Tensor  # [B] int64
    reward: Tensor  # [B] float32, the discounted sum of the window's rewards
    discount: Tensor  # [B] float32, γ to the length of the window, or 0 if the episode terminated inside it
    next_observation: Tensor | None = None  # [B, *shape], at the end of the window; None: complete returns
    weight: Tensor | None = None  # [B] float32, importance weights of the losses; None: equal weights
    uniform: Tensor | None = None  # [B, D] float32 in [0, 1), for an objective that draws; the learner adds them
    action_mask: Tensor | None = None  # [B, num_actions] bool, which actions are allowed at s; None: all are
    next_action_mask: Tensor | None = None  # [B, num_actions] bool, the same at s', the end of the window
    place: Tensor | None = None  # [2, B] int64, of sequences: the places of s and s' among the S T observations
    memory: Tensor | None = None  # [S, M] float32, of sequences: the memory before the first of all their observations
    burn_in: Tensor | None = None  # [S, b, *shape], of sequences: the observations before; None: b is 0
    burned_in: Tensor | None = None  # [S] bool, of sequences: False for one that begins its episode

    @property
    def given(self) -> dict[str, Tensor]:
        """The fields that a store set, by name; `Batch(**batch.given)` is the same batch."""
        return {name: field for name, field in zip(self._fields, self, strict=True) if field is not None}

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The fields that a store set, in their order."""
        return tuple(self.given.values())


class Lookup(NamedTuple):
    """B transitions like those of `Batch`, with flat rows of the replay's ring buffer in place of frames."""

    rows: NDArray[np.int64]  # [B, k], the k frames of each observation, oldest first
    next_rows: NDArray[np.int64]  # [B, k], at the end of the window
    action: NDArray[np.int64]  # [B]
    reward: NDArray[np.float32]  # [B]
    discount: NDArray[np.float32]  # [B]
    last: NDArray[np.bool_]  # [B], whether the episode ended with the window
    action_mask: NDArray[np.bool_] | None = None  # [B, num_actions], of the observations
    next_action_mask: NDArray[np.bool_] | None = None  # [B, num_actions], at the end of the window

    @property
    def masks(self) -> dict[str, NDArray[np.bool_]]:
        """The action masks by their names in a `Batch`; empty if all actions are allowed."""
        if self.action_mask is None or self.next_action_mask is None:
            return {}
        return {"action_mask": self.action_mask, "next_action_mask": self.next_action_mask}


class StaticBatches(Sequence[Batch]):
    """K batches whose tensors have the same addresses on a device in every chunk, as a captured graph needs.

    Attributes:
        fields: the arrays of the batches, [K, ...] each.

    """

    fields: tuple[Tensor, ...]

    @abstractmethod
    def make(self, fields: tuple[Tensor, ...]) -> Batch:
        """The batch that consists of one row of each field."""

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
    """K batches, and the numbers of their transitions in the store."""

    batches: Sequence[Batch]
    start: NDArray[np.int64]  # [K, B]; it stays on the host, because only the host uses it


class Store(Protocol):
    """The played transitions: the collector adds them, the learner draws them and returns their priorities."""

    device: torch.device
    """The device of the batches."""

    @property
    def frame_stack(self) -> int:
        """Frames in an observation."""
        ...

    def __len__(self) -> int:
        """The number of transitions that can be drawn now."""
        ...

    def add(self, timestep: Timestep, envs: slice = ALL) -> None:
        """Store one step of a range of envs, by default of all."""
        ...

    def cut_episodes(self, envs: NDArray[np.bool_] | None = None) -> None:
        """Truncate the running episodes: the next step belongs to another episode.

        Args:
            envs: [N], True for the envs to truncate; None: all.

        """
        ...

    def draw(self, updates: int, batch_size: int, generator: np.random.Generator, env_step: int) -> Drawn:
        """The batches of some updates, all drawn from the present contents.

        Args:
            updates: K.
            batch_size: B.
            generator: makes the random choices.
            env_step: env steps played so far, the clock of schedules.

        """
        ...

    def settle(self, start: NDArray[np.int64], priority: Tensor) -> None:
        """Take the new priorities of the transitions from the updates.

        Args:
            start: [K, B], from `draw`; other transitions may have been added since.
            priority: [K, B], of each transition, at least 0.

        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that determines the next draws."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of a store of the same layout."""
        ...


class Chunk(NamedTuple):
    """The input of one training step: the batches of `gradient_steps` updates."""

    batches: Sequence[Batch]
    env_step: int  # env steps played by the end of the training step
    settle: Callable[[Tensor | None], None] = lambda priority: None
    """Called once, at the end of the step: waits until the concurrent play is done, and returns the new priorities [K,
    B] to the store; None if there are none.
    """
    wait: Callable[[], None] = lambda: None  # for the concurrent play
    share: Callable[[], None] = lambda: None
    """Called after `settle` if the step succeeded: merges what the shards have played."""


class Episode(NamedTuple):
    """A finished episode."""

    number: int  # counted from 1 over all envs
    env: int
    env_step: int  # env steps played over all envs when it ended
    total_reward: float  # the undiscounted return, with rewards as the env returned them
    length: int  # agent steps
    terminated: bool  # False: truncated, by the env or by a cap on the steps


class LossOutput(NamedTuple):
    """The result of an objective for a batch."""

    loss: Tensor  # [B]
    metrics: Mapping[str, Tensor]  # scalars, without gradient
    priority: Tensor | None = None  # [B], without gradient: how much is left to learn, usually |δ|; None: unknown


class Learned(NamedTuple):
    """The result of an update; for K updates with a leading axis K."""

    metrics: Mapping[str, Tensor]  # scalars: `loss`, the weighted mean over the batch, and those of the objective
    priority: Tensor | None  # [B]; None if the batch has no weights, or the objective returns none


class ActionPreferences(Protocol):
    """What a policy needs from an agent."""

    num_actions: int

    def preferences(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        """The numbers by which actions are chosen, higher is better, for observations [N, *shape], as [N, num_actions].

        Q(s, ·) for an agent with action values, otherwise h(s, ·) of Sutton & Barto (2020), section 13.1.
        """
        ...


class CopiedAgent(ActionPreferences, Protocol):
    """An agent that can act with its present weights while it learns."""

    def acting_copy(self, earlier: Self | None) -> Self:
        """An agent that acts as this one does now, with its noise; an earlier copy is updated."""
        ...

    def state_values(
        self, observation: NDArray[Any], action_mask: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """V(s) of observations [N, *shape], as [N]; with masks [N, num_actions], None: all actions are allowed."""
        ...

    def exploring(self) -> AbstractContextManager[None]:
        """A context in which it acts with noise, if its network has noisy layers."""
        ...
