"""The contents of a checkpoint. Only this file and the checks in `schema.py` know its keys."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from torch import Tensor

from lit_dqn.exports import with_public_paths
from lit_dqn.saving.sidecar import Sidecar

WEIGHTS, AGENT_SETTINGS, DATA_SETTINGS = "state_dict", "hyper_parameters", "datamodule_hyper_parameters"
OPTIMIZERS, LOOPS_STATE, CALLBACKS_STATE = "optimizer_states", "loops", "callbacks"
"""Lightning's."""

AGENT_NAME, ENV_STEP, RANDOM_STATE, THREADS, DEVICE = "agent", "env_step", "random", "threads", "device"
"""Keys that lit_dqn adds."""

DATA_STATE = "ReplayDataModule"
"""Lightning's key for the state of the data module: the name of its class."""

ASYNCHRONOUS = "asynchronous"
"""The key of the counters of asynchronous play in the state of the data module."""

REPLAY_STATE, REPLAY_FOLDER, MANIFEST_CRC32 = "replay", "folder", "manifest_crc32"
"""The key of the replay in the state of the data module, and of its arrays' places in that."""

ONLINE = "online."
"""The prefix of the online network's weights."""

MAX_SESSIONS = 2**40

INSTANTIATOR_KEY = "_instantiator"
"""Lightning's key among the settings of an agent for how to build it."""

SEGMENTS = "sidecar"
"""The key, in the state of a replay that is being loaded, of its arrays on disk."""


class Settings(NamedTuple):
    """The settings of a run: plain values, `{"class_path": ..., "init_args": {...}}` for classes and objects."""

    agent: dict[str, Any]
    data: dict[str, Any]  # empty if the agent was trained without `ReplayDataModule`


class Contents:
    """The contents of a checkpoint, which Lightning's hooks pass while it is saved or loaded.

    Args:
        contents: Lightning's dictionary, which is changed in place.

    """

    def __init__(self, contents: dict[str, Any]) -> None:
        self.contents = contents

    @property
    def agent(self) -> str:
        """The name of the agent's class."""
        name: str = self.contents[AGENT_NAME]
        return name

    @property
    def env_step(self) -> int:
        """When it was made."""
        return int(self.contents[ENV_STEP])

    @property
    def settings(self) -> Settings:
        """The settings of agent and data."""
        agent = {key: value for key, value in self.contents[AGENT_SETTINGS].items() if key != INSTANTIATOR_KEY}
        return Settings(agent, dict(self.contents.get(DATA_SETTINGS, {})))

    @property
    def seed(self) -> int | None:
        """The env step of the run; None if the agent was trained without `ReplayDataModule`."""
        seed: int | None = self.contents.get(DATA_STATE, {}).get("seed")
        return seed

    def weights(self) -> dict[str, Tensor]:
        """All weights of the agent, by the names of its `state_dict`."""
        weights: dict[str, Tensor] = self.contents[WEIGHTS]
        return weights

    def online_weights(self) -> dict[str, Tensor]:
        """The weights of the online network, by the names of its own `state_dict`."""
        return {name.removeprefix(ONLINE): weight for name, weight in self.weights().items() if name.startswith(ONLINE)}

    @property
    def optimizer_states(self) -> list[dict[str, Any]]:
        """One state per optimiser, in torch's form; empty before training has begun."""
        states: list[dict[str, Any]] = self.contents.get(OPTIMIZERS, [])
        return states

    @property
    def asynchronous(self) -> dict[str, int] | None:
        """The counters of asynchronous play; None without it."""
        counters: dict[str, int] | None = self.contents.get(DATA_STATE, {}).get(ASYNCHRONOUS)
        return counters

    @property
    def fit_loop(self) -> dict[str, Any]:
        """The counters of Lightning's loops."""
        loops: dict[str, Any] = self.contents[LOOPS_STATE]["fit_loop"]
        return loops

    @property
    def random_state(self) -> dict[str, Any]:
        """The global generators."""
        state: dict[str, Any] = self.contents[RANDOM_STATE]
        return state

    @property
    def threads(self) -> int:
        """The number of torch's threads."""
        return int(self.contents[THREADS])

    @property
    def device(self) -> str | None:
        """The kind of device on which it was trained; None if an earlier release wrote it."""
        return self.contents.get(DEVICE)

    def has_callback(self, name: str) -> bool:
        """Whether it holds the state of a callback, by the name of its class."""
        return name in self.contents[CALLBACKS_STATE]

    @property
    def session(self) -> int:
        """The number of the session, over all starts and resumes of the run's name; 0 if an earlier release did not
        count.

        Raises:
            ValueError: if it is invalid.

        """
        session = int(self._checkpoints_state.get("session", 0))
        if not 0 <= session <= MAX_SESSIONS:
            raise ValueError(f"{session} is not a session")
        return session

    @property
    def is_best(self) -> bool:
        """Whether it was the best of its run when it was made."""
        return self._checkpoints_state.get("best_env_step") == self.env_step

    @property
    def _checkpoints_state(self) -> dict[str, Any]:
        """The state of the callback `Checkpoints`."""
        state: dict[str, Any] = self.contents.get(CALLBACKS_STATE, {}).get("Checkpoints", {})
        return state

    # --- its replay ---

    @property
    def replays(self) -> list[dict[str, Any]]:
        """The state of each shard's store; empty if it was saved without replay."""
        return replays_of(self.contents.get(DATA_STATE, {}).get(REPLAY_STATE))

    def drop_replay(self) -> None:
        """Remove the replay."""
        self.contents.get(DATA_STATE, {}).pop(REPLAY_STATE, None)

    def detach_arrays(self, segments: Mapping[int, Sidecar]) -> None:
        """Replace the arrays of the stores, which have been written, by references to them.

        Args:
            segments: of each store, by its index in `replays`.

        """
        for shard, own in segments.items():
            replay = self.replays[shard]
            replay["arrays"] = {"head": replay["arrays"]["head"]}
            replay.pop("rewritten", None)
            replay[REPLAY_FOLDER], replay[MANIFEST_CRC32] = own.folder.name, own.manifest_crc32

    # --- what is written into it ---

    def migrate(self) -> Self:
        """Migrate the contents of an older release.

        Returns:
            The contents themselves.

        """
        for key in (AGENT_SETTINGS, DATA_SETTINGS):
            if key in self.contents:
                self.contents[key] = with_public_paths(self.contents[key])  # 0.1.0 named modules that have moved
        self.contents.setdefault(AGENT_NAME, "LitDQN")  # the only agent before agents were named
        state = self._checkpoints_state
        if "best_mean_reward" in state:  # the old name, when the mean return was the only score
            state["best_grade"] = state.pop("best_mean_reward")
        if state:
            state.setdefault("best_env_step", None)
            state.setdefault("session", 0)
        return self

    def describe(self, agent: str, env_step: int) -> None:
        """Record the agent's class, and when the checkpoint was made."""
        self.contents[AGENT_NAME], self.contents[ENV_STEP] = agent, env_step

    def set_process_state(self, random_state: Mapping[str, Any], threads: int, device: str) -> None:
        """Record the global generators, the number of torch's threads and the kind of device."""
        self.contents[RANDOM_STATE], self.contents[THREADS], self.contents[DEVICE] = random_state, threads, device


def replays_of(state: Any) -> list[dict[str, Any]]:
    """The states of all stores; a checkpoint holds a list of them if there are several shards."""
    return state if isinstance(state, list) else [] if state is None else [state]


def lacks_segments(state: Any) -> bool:
    """Whether a replay's arrays are on disk, and the reader of the checkpoint did not open them.

    Args:
        state: of the replay in the checkpoint.

    """
    return any(REPLAY_FOLDER in replay and SEGMENTS not in replay for replay in replays_of(state))
