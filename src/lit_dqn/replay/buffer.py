import uuid
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

from lit_dqn.replay.layout import array_layout, check_same_layout
from lit_dqn.replay.masks import StoredMasks
from lit_dqn.replay.stacking import observations_at, rows_of_stack
from lit_dqn.saving.sidecar import Sidecar
from lit_dqn.types import ALL, Batch, Lookup, Timestep


class ReplayBuffer:
    """The newest `capacity` timesteps of N envs, each stored once.

    Every env has a column of rows, used as a ring buffer: one row per timestep (o_t, a_t, r_{t+1}, d_{t+1}) and one
    more for the last observation of an episode, from which no transition starts. Frame stacks, the next observation and
    n-step returns are built when a batch is drawn.

    A *start* is a timestep whose n-step window is complete: it has n steps, or its episode has ended. Starts are
    numbered in the order in which they become complete; samplers choose among the numbers in `starts`.

    Args:
        capacity: timesteps kept, over all envs. The last observations of episodes do not count: there is extra room for
            as many of them as timesteps, up to 1,024, and for 2 % of the capacity above that. If episodes are so short
            that this is not enough, fewer timesteps are kept.
        num_envs: N.
        observation_shape: of a single frame, as the env returns it.
        observation_dtype: the dtype of the stored frames.
        gamma: γ, per step.
        n_step: number of steps in the longest window of a transition (Sutton & Barto 2020, section 7.1).
        frame_stack: frames in an observation; an episode's first frame replaces the missing earlier ones.
        reward_clip: when a batch is drawn, the reward of each step is clipped to [-reward_clip, reward_clip] (Mnih et
            al. 2015: 1); it is stored unclipped. None: no clipping.
        num_actions: number of actions in the action masks; None: no masks are stored.
        memory_size: size of the agent's memory, stored with each timestep; 0: none is stored.

    Attributes:
        arrays: all arrays by name, as listed by `array_layout`.

    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        observation_shape: tuple[int, ...],
        observation_dtype: DTypeLike,
        *,
        gamma: float,
        n_step: int = 1,
        frame_stack: int = 1,
        reward_clip: float | None = None,
        num_actions: int | None = None,
        memory_size: int = 0,
    ) -> None:
        self.capacity = capacity
        self.num_envs = num_envs
        self.gamma = gamma
        self.n_step = n_step
        self.frame_stack = frame_stack
        self.reward_clip = reward_clip
        layout = array_layout(
            capacity, num_envs, observation_shape, observation_dtype, n_step, frame_stack, num_actions, memory_size
        )
        # The system maps pages of zeros when they are first written: memory grows with the number of timesteps.
        arrays = {name: np.zeros(shape, dtype) for name, (shape, dtype) in layout.items()}
        # Rows of each column, [N, rows, ...], viewed as one long column: NumPy is faster with one index than with two.
        self._observation = arrays["observation"]
        self._action = arrays["action"].reshape(-1)
        self._reward = arrays["reward"].reshape(-1)
        self._discount = arrays["discount"].reshape(-1)
        self._last = arrays["last"].reshape(-1)
        self._step = arrays["step"].reshape(-1)  # since the episode began
        self._start_number = arrays["start_number"].reshape(-1)  # -1: not a start
        self._start_number.fill(-1)
        self._action_mask = None if num_actions is None else StoredMasks(arrays["action_mask"], num_actions)
        self._memory = arrays["memory"].reshape(-1, memory_size) if memory_size > 0 else None
        # The ring of starts; [capacity].
        self._start_column = arrays["start_column"]
        self._start_row = arrays["start_row"]
        self._head = arrays["head"]  # [N], the row of the next timestep, counted without wrap-around
        self.arrays = arrays
        self._rows = self._observation.shape[1]
        self._columns = np.arange(num_envs)
        self._first_row = self._columns * self._rows
        self._ahead = np.arange(frame_stack + 2)[:, None]  # rows, counted from the head
        self._frames = self._observation.reshape(-1, *observation_shape)
        self._oldest_start, self._next_start = 0, 0
        self._identity = uuid.uuid4().hex
        self._written: list[NDArray[np.int64]] | None = None  # rows of frames; None: nobody tracks them, or all

    @property
    def starts(self) -> range:
        """The numbers of the starts that can be drawn, oldest first."""
        return range(self._oldest_start, self._next_start)

    def add(self, timestep: Timestep, envs: slice = ALL) -> None:
        """Store one step of a range of envs, by default of all. O(N), whatever the capacity."""
        ahead = self._places(self._head[envs] + self._ahead, envs)
        place, next_place = ahead[0], ahead[1]
        step = self._step[place]
        first = step == 0
        if np.count_nonzero(first):  # all others are the next observations of the previous `add`
            self._frames[place[first]] = timestep.observation[first]
        self._action[place] = timestep.action
        self._reward[place] = timestep.reward
        self._discount[place] = timestep.discount
        self._last[place] = timestep.last
        self._frames[next_place] = timestep.next_observation
        if self._action_mask is not None:
            self._action_mask.add(timestep, place, next_place, first)
        if self._memory is not None:
            self._memory[place] = timestep.memory
        if self._written is not None:
            self._written += [next_place, place[first]]
        self._start_number[ahead[:2]] = -1
        self._step[next_place] = step + 1
        self._complete_starts(step, timestep.last, self.n_step, envs)
        self._move_on(ahead[1:], timestep.last, envs)

    def cut_episodes(self, envs: NDArray[np.bool_] | None = None) -> None:
        """Truncate the running episodes: the next step belongs to another episode.

        Args:
            envs: [N], True for the envs to truncate; None: all.

        """
        running = self._step[self._places(self._head)] > 0
        if envs is not None:
            running &= envs
        self._head -= 1
        newest = self._places(self._head)
        self._last[newest[running]] = True
        self._complete_starts(self._step[newest], running, self.n_step - 1)
        self._move_on(self._places(self._head + self._ahead[1:]), running)

    def sample(self, starts: NDArray[np.int64], n_step: int | None = None, gamma: float | None = None) -> Batch:
        """The transitions of the given starts.

        Args:
            starts: [B], numbers from `starts`.
            n_step: number of steps in their windows, at most that of the longest window, the default.
            gamma: γ, per step; None: the buffer's.

        """
        found = self.lookup(starts, n_step, gamma)
        return Batch(
            observation=torch.from_numpy(observations_at(self.frames, found.rows)),
            action=torch.from_numpy(found.action),
            reward=torch.from_numpy(found.reward),
            discount=torch.from_numpy(found.discount),
            next_observation=torch.from_numpy(observations_at(self.frames, found.next_rows)),
            **{name: torch.from_numpy(mask) for name, mask in found.masks.items()},
        )

    def lookup(self, starts: NDArray[np.int64], n_step: int | None = None, gamma: float | None = None) -> Lookup:
        """The same transitions as `sample`, with indices into `frames` in place of frames."""
        n_step = self.n_step if n_step is None else n_step
        gamma = self.gamma if gamma is None else gamma
        assert 1 <= n_step <= self.n_step  # a longer window may not be complete
        places = starts % self.capacity
        row = self._start_row[places]
        first_row = self._start_column[places].astype(np.int64) * self._rows
        first_place = first_row + row
        reward, discount = np.zeros(len(starts), np.float32), np.ones(len(starts), np.float32)
        place, end = first_place, row  # the end of each window: the row of its next observation
        goes_on = np.ones(len(starts), bool)
        for _ in range(n_step):
            step_reward = self._reward[place]
            if self.reward_clip is not None:
                step_reward = step_reward.clip(-self.reward_clip, self.reward_clip)
            reward += goes_on * discount * step_reward
            discount *= np.where(goes_on, np.float32(gamma) * self._discount[place], 1)
            ended = self._last[place]
            end = np.where(goes_on, (end + 1) % self._rows, end)
            place = first_row + end
            goes_on &= ~ended
        return Lookup(
            rows_of_stack(first_row, row, self._step, self._rows, self.frame_stack),
            rows_of_stack(first_row, end, self._step, self._rows, self.frame_stack),
            self._action[first_place],
            reward,
            discount,
            ~goes_on,
            None if self._action_mask is None else self._action_mask[first_place],
            None if self._action_mask is None else self._action_mask[place],
        )

    @property
    def frames(self) -> NDArray[Any]:
        """The ring buffer of all frames, [rows of all envs, *shape]; a view."""
        return self._frames

    def take_written(self) -> NDArray[np.int64]:
        """The flat rows of `frames` that were written since the last call; at the first call, all of them."""
        written, self._written = self._written, []
        if written is None:
            return np.arange(len(self.frames))
        return np.concatenate(written) if written else np.zeros(0, np.int64)

    def last_episode(self, env: int) -> NDArray[Any]:
        """The frames of an env's last finished episode, [T + 1, *shape], as far as they are kept; empty without one."""
        head, first_row = int(self._head[env]), int(self._first_row[env])
        final_row = head - int(self._step[first_row + head % self._rows]) - 1
        if final_row < 0:
            return self._observation[env, :0]
        length = int(self._step[first_row + final_row % self._rows])
        oldest_row = max(final_row - length, head - self._rows + 1)
        frames: NDArray[Any] = self._observation[env, np.arange(oldest_row, final_row + 1) % self._rows]
        return frames

    def state_dict(self) -> dict[str, Any]:
        """Everything that determines the next draws; the tensors share the buffer's memory."""
        return {
            "arrays": {name: torch.from_numpy(array) for name, array in self.arrays.items()},
            "windows": [self.n_step, self.frame_stack],
            "next_start": self._next_start,
            "oldest_start": self._oldest_start,
            "identity": self._identity,
        }

    def load_state_dict(
        self, state: Mapping[str, Any], rewritten: Mapping[str, NDArray[Any]] = MappingProxyType({})
    ) -> None:
        """Take over the state of a buffer of the same layout.

        Args:
            state: from `state_dict`; its arrays may be on disk, as a `Sidecar` next to `head`.
            rewritten: arrays of another object that were saved with it, and are read with it.

        Raises:
            ValueError: if n, the frame stack, or an array's shape or dtype differ.
            OSError: if arrays on disk are damaged.

        """
        windows = [self.n_step, self.frame_stack]
        if state["windows"] != windows:
            raise ValueError(f"n_step and frame_stack are {windows} here, and {state['windows']} there")
        sidecar: Sidecar | None = state.get("sidecar")
        arrays = {name: tensor.numpy() for name, tensor in state["arrays"].items()}
        layout = {name: (array.dtype.name, array.shape) for name, array in arrays.items()}
        check_same_layout(self.arrays, layout if sidecar is None else layout | sidecar.layout)
        # Rows that are not stored were never written.
        self._start_number.fill(-1)
        for name, saved in arrays.items():
            self.arrays[name][...] = saved
        for name, array in rewritten.items() if sidecar is None else ():
            array[...] = state["rewritten"][name]
        if sidecar is not None:
            sidecar.read_into({**self.arrays, **rewritten})
            self._identity = sidecar.identity
        self._next_start, self._oldest_start = state["next_start"], state["oldest_start"]
        self._written = None

    def _places(self, row: NDArray[np.int64], envs: slice = ALL) -> NDArray[np.int64]:
        """The positions in the long column of rows [..., n] of n columns, counted without wrap-around."""
        return self._first_row[envs] + row % self._rows

    def _complete_starts(self, step: NDArray[np.int32], last: NDArray[np.bool_], most: int, envs: slice = ALL) -> None:
        """Number the starts whose window the row at the head completes, oldest first in each column.

        Args:
            step: [n], of that row, counted from the start of the episode.
            last: [n], whether it ends its episode.
            most: the longest window, in steps.
            envs: the range of n envs.

        """
        for window in range(most, 0, -1):
            complete = step >= window - 1
            if window < self.n_step:
                if not np.count_nonzero(last):
                    break
                complete &= last
            columns = self._columns[envs] if complete.all() else self._columns[envs][complete]
            if len(columns):
                rows = (self._head[columns] - (window - 1)) % self._rows
                numbers = np.arange(self._next_start, self._next_start + len(columns))
                places = numbers % self.capacity
                self._start_column[places], self._start_row[places] = columns, rows
                self._start_number[self._first_row[columns] + rows] = numbers
                self._next_start += len(columns)
        self._oldest_start = max(self._oldest_start, self._next_start - self.capacity)

    def _move_on(self, ahead: NDArray[np.int64], ended: NDArray[np.bool_], envs: slice = ALL) -> None:
        """Move heads [n] to their next rows, at `ahead` [k + 1, n], and by one more where an episode ended."""
        self._head[envs] += 1
        if np.count_nonzero(ended):
            self._head[envs] += ended
            ahead = self._places(self._head[envs] + self._ahead[:-1], envs)
            self._step[ahead[0, ended]] = 0
        # Discard the starts whose stack reaches back to the two rows that the next `add` overwrites.
        self._oldest_start = max(self._oldest_start, int(self._start_number[ahead].max()) + 1)
