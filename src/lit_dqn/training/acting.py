import contextlib
import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import lightning
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from lit_dqn.branches import Branches
from lit_dqn.learning.draws import ACTING_NOISE_STREAM
from lit_dqn.learning.inference import Inference
from lit_dqn.learning.learner import Update
from lit_dqn.learning.networks import Noise, ObservationShape, ObservedSequences, update_target
from lit_dqn.parts import Parts
from lit_dqn.playing.masks import MaskedAgent
from lit_dqn.playing.policies import Greedy
from lit_dqn.types import ActionPreferences, Batch

STORED = (np.float32, np.uint8, np.bool_)
"""Dtypes in which observations are stored, and which networks take."""


class Acting(lightning.LightningModule, ABC):
    """A module that chooses actions: the interface of an agent for policies, pictures and reports."""

    online: nn.Module
    observation_shape: ObservationShape
    parts: Parts | None
    num_actions: int
    branches: Branches | None
    update_way: Update
    env_step: int
    _inference: Inference
    _noise: Noise

    learns_sequences = False
    """Whether it can learn from sequences, with a network that has a memory."""

    has_preferences = True
    """Whether it can choose actions by itself."""

    preferences_name = "Q(s, ·)"
    """The symbol of its preferences, for pictures."""

    @abstractmethod
    def preferences(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        """The numbers by which policies choose actions, higher is better: observations [N, *observation_shape] to [N,
        num_actions].

        Q(s, ·) if there are action values, otherwise the preferences h(s, ·) of Sutton & Barto (2020), section 13.1.
        """

    @abstractmethod
    def state_values(
        self, observation: NDArray[Any], action_mask: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """V(s) of observations [N, *observation_shape], as [N].

        Args:
            observation: of each state.
            action_mask: [N, num_actions], which actions are allowed in each state; None: all are.

        """

    def _outputs(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        """The outputs of the online network, [N, number of outputs].

        Raises:
            ValueError: if the observations have another shape.

        """
        shape = self.parts.row_shape if self.parts is not None else self.observation_shape
        if np.shape(observation)[1:] != shape:
            raise ValueError(f"the agent takes N observations of shape {shape}, not {np.shape(observation)}.")
        array = np.asarray(observation)
        return self._inference(array if array.dtype in STORED else array.astype(np.float32))

    @property
    def memory_size(self) -> int:
        """How many numbers it keeps in memory during an episode; 0: it has no memory."""
        return getattr(self.online, "memory_size", 0)

    def remember(
        self, observation: NDArray[Any], memory: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The preferences for the next observations of N episodes, and the memory after them.

        Args:
            observation: [N, *observation_shape].
            memory: before them, [N, memory_size]; all 0 at the start of an episode.

        Returns:
            [N, num_actions] and [N, memory_size].

        Raises:
            ValueError: if one has another shape.

        """
        shape = self.parts.row_shape if self.parts is not None else self.observation_shape
        if np.shape(observation)[1:] != shape or np.shape(memory) != (len(observation), self.memory_size):
            raise ValueError(
                f"remember takes N observations of shape {shape} and a memory of shape (N, {self.memory_size}), not "
                f"arrays of shapes {np.shape(observation)} and {np.shape(memory)}."
            )
        return self._inference.remember(observation, memory)

    def _will_see(self, observation_shape: tuple[int, ...] | dict[str, Any]) -> None:
        if isinstance(observation_shape, dict):
            self.parts = Parts.of(observation_shape)
            self.observation_shape = self.parts.shapes
        else:
            self.parts, self.observation_shape = None, tuple(observation_shape)

    def _will_play(self, num_actions: int | Sequence[int]) -> None:
        if isinstance(num_actions, int):
            self.branches, self.num_actions = None, num_actions
        else:
            self.branches = Branches(num_actions)
            self.num_actions = self.branches.num_actions

    def by_parts(self, observation: Tensor) -> Any:
        """Observations [B, ...] of a store, in the form that networks take."""
        return observation if self.parts is None else self.parts.tensors(observation)

    def batch_by_parts(self, batch: Batch) -> Batch:
        """A batch in the form that objectives take."""
        if batch.place is not None:
            return self._sequences_by_parts(batch, batch.place)
        if self.parts is None:
            return batch
        following = None if batch.next_observation is None else self.by_parts(batch.next_observation)
        return batch._replace(observation=self.by_parts(batch.observation), next_observation=following)

    def _sequences_by_parts(self, batch: Batch, place: Tensor) -> Batch:
        before = None if batch.burn_in is None else self.by_parts(batch.burn_in.flatten(0, 1))
        assert batch.memory is not None
        assert batch.burned_in is not None
        seen = ObservedSequences(
            self.by_parts(batch.observation.flatten(0, 1)), before, batch.memory, batch.burned_in, place[0]
        )
        following: Any = seen._replace(place=place[1])
        return batch._replace(observation=seen, next_observation=following)  # type: ignore[arg-type]

    def acting_copy(self, earlier: Self | None = None) -> Self:
        """An agent that acts with a copy of the present weights, and shares everything else.

        Args:
            earlier: a copy to update; None: make a new one.

        """
        if earlier is None:
            earlier = copy.copy(self)
            online = copy.deepcopy(self.online).requires_grad_(False)
            earlier._modules = {**self._modules, "online": online}
            earlier._inference = Inference(
                online, captures=self.update_way is not Update.eager, aside=True, parts=self.parts
            )
            earlier._noise = Noise(online)
        else:
            update_target(self.online, earlier.online)
        earlier._noise.draw(*self._noise_seed)
        earlier._inference.follow()
        return earlier

    @contextlib.contextmanager
    def exploring(self) -> Iterator[None]:
        """A context in which noisy layers have noise: a function of the run's seed and the env step."""
        self._noise.draw(*self._noise_seed)
        try:
            yield
        finally:
            self._noise.silence()

    @property
    def _noise_seed(self) -> tuple[int, ...]:
        data = None if self._trainer is None else self.trainer.datamodule  # type: ignore[attr-defined]
        return getattr(data, "seed", 0), self.env_step, 0, ACTING_NOISE_STREAM

    def act(self, observation: NDArray[Any] | Mapping[str, Any], action_mask: NDArray[Any] | None = None) -> int:
        """The greedy action for one observation.

        Args:
            observation: of shape `observation_shape`; with several parts, a dictionary of them, or an observation of
                `make_env`'s env.
            action_mask: [num_actions], which actions are allowed; None: all are.

        Raises:
            ValueError: if one has another shape, or no action is allowed, or the agent has a memory.

        """
        if self.memory_size > 0:
            raise ValueError(
                "act takes one observation, and this agent also acts by those before it; call remember(observation, "
                "memory) at each step, with a memory of zeros at the start of an episode."
            )
        frame = self._one_row(observation) if self.parts is not None else self._one_array(observation)
        agent: ActionPreferences = self
        if action_mask is not None:
            allowed = np.asarray(action_mask).astype(np.bool_)
            if allowed.shape != (self.num_actions,) or not allowed.any():
                raise ValueError(
                    f"act takes a mask of shape ({self.num_actions},) that allows at least one action, not "
                    f"{allowed.astype(int).tolist()}."
                )
            agent = MaskedAgent(self, allowed[None])
        return int(Greedy().act(agent, frame[None], 0, [np.random.default_rng()])[0])

    def _one_array(self, observation: Any) -> NDArray[Any]:
        if np.shape(observation) != self.observation_shape:
            raise ValueError(
                f"act takes one observation of shape {self.observation_shape}, not {np.shape(observation)}."
            )
        frame = np.asarray(observation)
        if frame.dtype != np.uint8 or frame.ndim < 2:  # as during training: only images stay uint8
            frame = frame.astype(np.float32)
        return frame

    def _one_row(self, observation: Any) -> NDArray[np.uint8]:
        assert self.parts is not None
        if isinstance(observation, Mapping):
            shapes = {name: np.shape(part) for name, part in observation.items()}
            if shapes == self.observation_shape:
                return self.parts.pack_stack(observation)
        elif np.shape(observation) == self.parts.row_shape:
            return np.asarray(observation)
        else:
            shapes = np.shape(observation)
        raise ValueError(f"act takes one observation with parts of shapes {self.observation_shape}, not {shapes}.")
