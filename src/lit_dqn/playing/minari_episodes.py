"""Data sets of Minari (Farama Foundation), the standard of offline reinforcement learning."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from lit_dqn.errors import ConfigError, one_line
from lit_dqn.playing.demonstrations import Demonstrations, Task
from lit_dqn.types import Timestep

if TYPE_CHECKING:
    from minari.dataset.minari_storage import MinariStorage

INSTALL = "install the extra minari: pip install 'lit-dqn[minari]', in a clone pip install -e '.[minari]'"


class MinariEpisodes(Demonstrations):
    """The episodes of a Minari data set on this machine, from `minari download` or a `DataCollector`.

    Its observations and actions must match those of the run's env after its wrappers; only HDF5 is read. If a set does
    not store its spaces, Minari would create the env that it names, and so run code: such a set is refused.

    The timesteps are divided equally among several envs, in their order. An episode that this cuts is truncated; a
    remainder of fewer timesteps than envs is left out.

    Args:
        dataset_id: such as `cartpole/medium-v0`.
        folder: the folder of the data sets; None: Minari's folder, `MINARI_DATASETS_PATH` or `~/.minari/datasets`.
        episodes: use only this many first episodes; None: all.

    Raises:
        ConfigError: if `episodes` is below 1.

    """

    def __init__(self, dataset_id: str, folder: str | None = None, episodes: int | None = None) -> None:
        if episodes is not None and episodes < 1:
            raise ConfigError(f"episodes: {episodes} of {dataset_id} must be at least 1, or null for all.")
        self.dataset_id = dataset_id
        self.folder = folder
        self.episodes = episodes

    def check(self, task: Task) -> int:
        """The number of timesteps for `num_envs` envs.

        Args:
            task: of the learner.

        Raises:
            ConfigError: if Minari is not installed, there is no such data set, or it belongs to another task.

        """
        return int(self._read(task).lengths.sum()) // task.num_envs * task.num_envs

    def timesteps(self, task: Task, number: int) -> Iterator[Timestep]:
        """The timesteps of all envs, step by step."""
        dataset = self._read(task)
        each = int(dataset.lengths.sum()) // task.num_envs
        columns = [dataset.steps(env * each, each) for env in range(task.num_envs)]
        for steps in zip(*columns, strict=True):
            yield Timestep(*map(np.stack, zip(*(step.present for step in steps), strict=True)))

    def _read(self, task: Task) -> "_Dataset":
        try:
            from minari.dataset.minari_storage import MinariStorage
            from minari.storage.datasets_root_dir import get_dataset_path
        except ImportError as error:
            raise ConfigError(
                f"prefill: the data set {self.dataset_id} needs the package minari, which is not installed; {INSTALL}."
            ) from error
        path = Path(get_dataset_path()) if self.folder is None else Path(self.folder)
        data = path / self.dataset_id / "data"
        if not (data / "metadata.json").is_file():
            raise ConfigError(
                f"prefill: there is no data set {self.dataset_id} in {path}; fetch it with minari download "
                f"{self.dataset_id}, or give another folder."
            )
        try:
            metadata = MinariStorage.read_raw_metadata(data)
            missing = {"observation_space", "action_space"} - metadata.keys()
            if missing or metadata.get("data_format") != "hdf5":
                without = f"does not say its {min(missing)}" if missing else f"is {metadata.get('data_format')}"
                raise ConfigError(
                    f"prefill: the data set {self.dataset_id} {without}, and only sets in HDF5 that say their spaces "
                    "are read; give another one."
                )
            return _Dataset(self, MinariStorage.read(data), task)
        except ConfigError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AssertionError, AttributeError, RecursionError) as error:
            raise ConfigError(
                f"prefill: the data set {self.dataset_id} in {path} cannot be read: {one_line(error)}; fetch it again, "
                "or give another one."
            ) from error


class _Step(NamedTuple):
    """The fields of a timestep, in the order of `Timestep`."""

    observation: NDArray[Any]
    action: np.integer
    reward: np.floating
    discount: np.bool_
    last: np.bool_
    next_observation: NDArray[Any]
    action_mask: NDArray[np.bool_] | None
    next_action_mask: NDArray[np.bool_] | None

    @property
    def present(self) -> tuple[Any, ...]:
        """The fields without absent masks."""
        return self if self.action_mask is not None else self[:-2]


class _Dataset:
    """An opened data set that fits a task.

    Args:
        asked: the data set, and how much of it is used.
        storage: Minari's.
        task: of the learner.

    Attributes:
        lengths: number of timesteps of each episode.

    Raises:
        ConfigError: if it belongs to another task.

    """

    def __init__(self, asked: MinariEpisodes, storage: "MinariStorage", task: Task) -> None:
        self._id = asked.dataset_id
        self._storage = storage
        self._task = task
        seen, actions = storage.observation_space, storage.action_space
        if not isinstance(actions, spaces.Discrete) or int(actions.n) != task.num_actions:
            self._refuse(f"takes actions of {actions}, and {task.env_id} has {task.num_actions}")
        if seen.shape != task.frame_shape:
            self._refuse(f"shows {seen}, and {task.env_id} here frames of shape {task.frame_shape}")
        if not np.can_cast(seen.dtype, task.frame_dtype, "same_kind"):
            self._refuse(f"shows {seen}, and {task.env_id} here numbers of {np.dtype(task.frame_dtype)}, not of those")
        self._first_action = int(actions.start)
        count = storage.total_episodes if asked.episodes is None else min(asked.episodes, storage.total_episodes)
        found = list(storage.get_episode_metadata(range(count)))
        self.lengths = np.array([int(episode["total_steps"]) for episode in found], np.int64)
        if self.lengths.sum() < task.num_envs:
            self._refuse(f"has {self.lengths.sum()} timesteps, fewer than the {task.num_envs} envs of the run")

    def steps(self, first: int, count: int) -> Iterator[_Step]:
        """Some timesteps in their order; the last one ends its episode.

        Args:
            first: number of the first timestep, counted over all episodes.
            count: number of timesteps.

        """
        ends = self.lengths.cumsum()
        episode = int(np.searchsorted(ends, first, side="right"))
        step = first - int(ends[episode] - self.lengths[episode])
        while count:
            played = self._episode(episode)
            for now in range(step, min(step + count, len(played["action"]))):
                count -= 1
                yield self._step(played, now, cut=count == 0)
            episode, step = episode + 1, 0

    @staticmethod
    def _step(played: dict[str, NDArray[Any]], now: int, cut: bool) -> _Step:
        masks = played.get("action_mask")
        return _Step(
            played["observation"][now],
            played["action"][now],
            played["reward"][now],
            ~played["terminated"][now],
            np.bool_(played["last"][now] or cut),
            played["observation"][now + 1],
            None if masks is None else masks[now],
            None if masks is None else masks[now + 1],
        )

    def _episode(self, number: int) -> dict[str, NDArray[Any]]:
        try:
            (found,) = self._storage.get_episodes([number])
            ends = np.asarray(found["terminations"], np.bool_)
            action = np.asarray(found["actions"])
            played = {
                "observation": np.asarray(found["observations"]).astype(self._task.frame_dtype, copy=False),
                "action": action.astype(np.int64) - self._first_action,
                "reward": np.asarray(found["rewards"], np.float64),
                "terminated": ends,
                "last": ends | np.asarray(found["truncations"], np.bool_),
            }
            if self._task.action_mask and (said := (found["infos"] or {}).get("action_mask")) is not None:
                played["action_mask"] = np.array(said, np.bool_)
        except (OSError, ValueError, KeyError, TypeError, AssertionError, MemoryError) as error:
            self._refuse(f"cannot be read in episode {number}: {one_line(error)}", error)
        if self._task.action_mask and "action_mask" not in played:
            self._refuse("has no infos of action_mask, which the run learns with")
        steps = int(self.lengths[number])
        of_one = {"observation": self._task.frame_shape, "action_mask": (self._task.num_actions,)}
        for name, array in played.items():
            more = name in of_one  # also recorded after the last step
            count = len(np.atleast_1d(array))
            if count != steps + more:
                self._refuse(f"has {count} values of {name} for the {steps} steps of episode {number}")
            if array.shape[1:] != of_one.get(name, ()):
                self._refuse(f"has {name} of shape {array.shape[1:]} in episode {number}, not {of_one.get(name, ())}")
        if not np.isfinite(played["reward"]).all() or not np.isfinite(played["observation"]).all():
            self._refuse(f"has a value that is not a number in episode {number}")
        in_range = (played["action"] >= 0) & (played["action"] < self._task.num_actions)
        if action.dtype.kind not in "iu" or not in_range.all():
            self._refuse(f"has actions in episode {number} that {self._task.env_id} does not have")
        played["last"][-1:] = True  # the recording may have stopped here
        if "action_mask" in played:
            self._check_masks(played, number)
        return played

    def _check_masks(self, played: dict[str, NDArray[Any]], number: int) -> None:
        """As in `MaskedEnv`: after a termination all actions count as allowed, and elsewhere at least one must be."""
        masks = played["action_mask"]
        masks[1:][played["terminated"]] = True
        if not masks.any(axis=1).all():
            self._refuse(f"forbids every action somewhere in episode {number}")

    def _refuse(self, reason: str, error: Exception | None = None) -> NoReturn:
        sentence = f"prefill: the data set {self._id} {reason}; give another one, or another data.env_id."
        raise ConfigError(sentence) from error
