from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_dqn.errors import ConfigError
from lit_dqn.replay.buffer import ReplayBuffer
from lit_dqn.replay.horizon import Horizon
from lit_dqn.replay.samplers import Sampler
from lit_dqn.replay.stacking import observations_at, rows_of_stack
from lit_dqn.replay.store import BufferedStore
from lit_dqn.types import Batch, Drawn


class Sequences(Sampler):
    """Draws sequences of transitions, for a network with a memory (`RecurrentNetwork`).

    The steps of an episode are split into sequences of `length`; each one starts `length - overlap` steps after the one
    before. No sequence has steps of two episodes, so the last ones of an episode are shorter. A transition is drawn
    uniformly, and the update uses its sequence. The network starts `burn_in` steps before the sequence, from the memory
    that was stored there, and processes these steps without a loss (Kapturowski et al. 2019: stored state and burn-in).
    The first sequence of an episode needs no burn-in.

    The defaults are the paper's, for Atari; use shorter sequences for episodes of some tens of steps.

    Args:
        length: steps of a sequence, all with a loss; `data.batch_size` is the number of sequences.
        burn_in: steps before them, without a loss; 0 starts with the stored memory.
        overlap: steps that neighbouring sequences share.

    Raises:
        ConfigError: if a number is out of its range, or the burn-in is longer than `length - overlap`.

    """

    def __init__(self, length: int = 80, burn_in: int = 40, overlap: int = 40) -> None:
        if length < 1:
            raise ConfigError(f"length: {length} steps of a sequence must be at least 1; R2D2 takes 80.")
        if not 0 <= overlap < length:
            raise ConfigError(
                f"overlap: {overlap} steps, but sequences of {length} steps can share 0 to {length - 1}; set "
                f"--data.sampler.init_args.overlap {length // 2}."
            )
        if not 0 <= burn_in <= length - overlap:
            raise ConfigError(
                f"burn_in: {burn_in} steps must lie between 0 and length - overlap = {length - overlap}, so that every "
                f"sequence but the first of an episode has them before it; set --data.sampler.init_args.burn_in "
                f"{length - overlap}."
            )
        self.length = length
        self.burn_in = burn_in
        self.overlap = overlap

    @property
    def stride(self) -> int:
        """Steps from the start of one sequence to the start of the next."""
        return self.length - self.overlap

    def sample(self, starts: range, batch_size: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """[batch_size], a transition of each sequence, drawn with replacement."""
        batch: NDArray[np.int64] = self.sample_many(starts, 1, batch_size, generator)[0]
        return batch

    def sample_many(
        self, starts: range, count: int, batch_size: int, generator: np.random.Generator
    ) -> NDArray[np.int64]:
        """[count, batch_size]."""
        numbers: NDArray[np.int64] = generator.integers(starts.start, starts.stop, size=(count, batch_size))
        return numbers

    def oldest_steps(self, n_step: int) -> int:
        """How many of each env's oldest steps may need steps that are already overwritten."""
        return self.stride - 1 + self.burn_in + 2 * n_step

    def least_capacity(self, num_envs: int, n_step: int) -> int:
        """The capacity with which there is always a complete sequence; short episodes take twice their room."""
        return 2 * num_envs * (self.length + self.oldest_steps(n_step))


class SequenceStore(BufferedStore):
    """The `Store` of `Sequences`: a buffer that stores the agent's memory with each timestep.

    The sequences follow from the step numbers of the timesteps in their episodes, so they need no storage of their own.
    A sequence of a running episode ends with its newest complete window.

    Args:
        buffer: of timesteps, with a `memory_size`.
        sequences: the lengths.
        horizon: n and γ of the drawn transitions; None: those of the buffer.

    """

    device = torch.device("cpu")

    def __init__(self, buffer: ReplayBuffer, sequences: Sequences, horizon: Horizon | None = None) -> None:
        self.buffer = buffer
        self.sequences = sequences
        self.horizon = Horizon(buffer.n_step, buffer.gamma) if horizon is None else horizon
        arrays = buffer.arrays
        self._rows = arrays["step"].shape[1]
        self._step = arrays["step"].reshape(-1)
        self._start_number = arrays["start_number"].reshape(-1)
        self._start_column, self._start_row = arrays["start_column"], arrays["start_row"]
        self._memory = arrays["memory"].reshape(-1, arrays["memory"].shape[-1])

    def __len__(self) -> int:
        """The number of transitions whose sequences can be drawn now."""
        return len(self.drawable)

    @property
    def drawable(self) -> range:
        """The starts whose sequences are still stored from the first step of their burn-in on."""
        starts = self.buffer.starts
        if starts.start == 0:
            return starts
        lost = self.buffer.num_envs * self.sequences.oldest_steps(self.buffer.n_step)
        return range(min(starts.start + lost, starts.stop), starts.stop)

    def draw(self, updates: int, batch_size: int, generator: np.random.Generator, env_step: int) -> Drawn:
        """The batches of some updates, `batch_size` sequences each."""
        start = self.sequences.sample_many(self.drawable, updates, batch_size, generator)
        n_step, gamma = self.horizon.steps(env_step), self.horizon.discount(env_step)
        together = self.sample(start.reshape(-1), n_step, gamma)
        return Drawn([_batch(together, slice(s, s + batch_size)) for s in range(0, start.size, batch_size)], start)

    def sample(self, starts: NDArray[np.int64], n_step: int, gamma: float) -> dict[str, NDArray[Any]]:
        """The sequences of the given starts, as arrays with the names of `Batch`.

        Args:
            starts: [S], numbers in `drawable`.
            n_step: steps per window, at most the longest.
            gamma: γ, per step.

        Returns:
            The fields of `Batch`, with [S, L] in place of [B], and places within each sequence. If a sequence has fewer
            than L transitions, copies of its last one with the weight 0 fill it up.

        """
        length, burn_in = self.sequences.length, self.sequences.burn_in
        step = self._step[self._places(starts, np.zeros((len(starts), 1), np.int64))]
        begin = step // self.sequences.stride * self.sequences.stride - step  # of each sequence, relative to its start
        numbers = self._numbers(starts, begin + np.arange(length))
        count = (numbers >= 0).sum(axis=1, keepdims=True)
        assert (numbers[np.arange(len(starts)), 0] >= 0).all()
        place = np.minimum(np.arange(length), count - 1)  # [S, L]
        numbers = np.take_along_axis(numbers, place, axis=1)
        found = self.buffer.lookup(numbers.reshape(-1), n_step, gamma)
        window = (found.next_rows[:, -1] - found.rows[:, -1]) % self._rows
        following = place + window.reshape(place.shape)
        first = numbers[:, 0]
        seen = np.minimum(np.arange(length + self.buffer.n_step), following.max(axis=1, keepdims=True))
        burned_in = step[:, 0] + begin[:, 0] > 0
        before = np.where(burned_in[:, None], np.arange(-burn_in, 0), 0)
        of_memory = np.where(burned_in, -burn_in, 0)[:, None]
        return {
            "observation": self._observations(first, seen),
            "action": found.action.reshape(place.shape),
            "reward": found.reward.reshape(place.shape),
            "discount": found.discount.reshape(place.shape),
            "weight": (np.arange(length) < count).astype(np.float32),
            **{name: mask.reshape(*place.shape, -1) for name, mask in found.masks.items()},
            "place": np.stack([place, following], axis=1),
            "memory": self._memory[self._places(first, of_memory)[:, 0]],
            **({"burn_in": self._observations(first, before)} if burn_in > 0 else {}),
            "burned_in": burned_in,
        }

    def _places(self, starts: NDArray[np.int64], steps: NDArray[np.int64]) -> NDArray[np.int64]:
        """The flat rows that are the given numbers of steps [S, T] after starts [S] in their columns: [S, T]."""
        places = starts % self.buffer.capacity
        first_row = self._start_column[places].astype(np.int64) * self._rows
        return first_row[:, None] + (self._start_row[places][:, None] + steps) % self._rows

    def _numbers(self, starts: NDArray[np.int64], steps: NDArray[np.int64]) -> NDArray[np.int64]:
        """The starts that are the given numbers of steps [S, T] after others [S] in their episodes; -1: none."""
        places = self._places(starts, steps)
        numbers, there = self._start_number[places], self.buffer.starts
        of_episode = self._step[places] == self._step[self._places(starts, np.zeros_like(steps))] + steps
        # In a column the numbers increase with time, so rows from before the last wrap-around have lower ones.
        in_order = np.sign(numbers - starts[:, None]) == np.sign(steps)
        return np.where(of_episode & in_order & (numbers >= there.start) & (numbers < there.stop), numbers, -1)

    def _observations(self, starts: NDArray[np.int64], steps: NDArray[np.int64]) -> NDArray[Any]:
        """The observations the given numbers of steps [S, T] after starts [S]: [S, T, *stacked shape]."""
        places = self._places(starts, steps).reshape(-1)
        row = places % self._rows
        rows = rows_of_stack(places - row, row, self._step, self._rows, self.frame_stack)
        observations = observations_at(self.buffer.frames, rows)
        return observations.reshape(*steps.shape, *observations.shape[1:])

    def settle(self, start: NDArray[np.int64], priority: Tensor) -> None:
        """Does nothing: sequences have no priorities."""

    def state_dict(self) -> dict[str, Any]:
        """The timesteps; the tensors share memory with the buffer."""
        return self.buffer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the state of a store with the same layout.

        Raises:
            ValueError: if n, the frame stack, or an array's shape or dtype differ.
            OSError: if arrays on disk are damaged.

        """
        self.buffer.load_state_dict(state)


PER_SEQUENCE = {"observation", "memory", "burn_in", "burned_in"}
"""The fields of a batch with one row per sequence; the others have one per transition."""


def _batch(together: Mapping[str, NDArray[Any]], rows: slice) -> Batch:
    """A batch of the sequences in the given rows."""
    own = {name: array[rows] for name, array in together.items()}
    # So the mean of the weighted losses is the mean over all transitions but the copies.
    own["weight"] = own["weight"] / own["weight"].mean()
    seen = own["observation"].shape[1]
    own["place"] = own["place"] + np.arange(len(own["memory"]))[:, None, None] * seen  # among all of the batch
    flat = {
        name: array if name in PER_SEQUENCE else array.reshape(-1, *array.shape[2:])
        for name, array in own.items()
        if name != "place"
    }
    flat["place"] = own["place"].swapaxes(0, 1).reshape(2, -1)
    return Batch(**{name: torch.from_numpy(array) for name, array in flat.items()})
