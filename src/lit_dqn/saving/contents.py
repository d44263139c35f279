"""What a checkpoint holds. Its keys are known here and to the checks in `schema.py`, and nowhere else."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from torch import Tensor

from lit_dqn.exports import with_public_paths
from lit_dqn.saving.sidecar import Sidecar

WEIGHTS, AGENT_SETTINGS, DATA_SETTINGS = "state_dict", "hyper_parameters", "datamodule_hyper_parameters"
OPTIMIZERS, LOOPS_STATE, CALLBACKS_STATE = "optimizer_states", "loops", "callbacks"
"""Lightning's."""

AGENT_NAME, ENV_STEP, RANDOM_STATE, THREADS, DEVICE = "agent", "env_step", "random", "threads", "device"
"""What lit_dqn adds."""

DATA_STATE = "ReplayDataModule"
"""Where Lightning keeps the state of the data module: the name of its class."""

REPLAY_STATE, REPLAY_FOLDER, MANIFEST_CRC32 = "replay", "folder", "manifest_crc32"
"""In the state of the data module the replay, and in that where its arrays are."""

ONLINE = "online."
"""How the names of the online network's weights begin."""

MAX_SESSIONS = 2**40

INSTANTIATOR_KEY = "_instantiator"
"""Among the settings of an agent Lightning's word for how it builds it."""

SEGMENTS = "sidecar"
"""In the state of a replay that is being loaded, where its arrays lie on disk."""


class Settings(NamedTuple):
    """What a run was made of: plain values, `{"class_path": ..., "init_args": {...}}` for classes and objects."""

    agent: dict[str, Any]
    data: dict[str, Any]  # empty if the agent was trained without `ReplayDataModule`


class Contents:
    """The contents of a checkpoint, as Lightning's hooks hand them out while it is saved or loaded.

    Args:
        contents: Lightning's dictionary; what is written here is written there.

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
        """What agent and data were made of."""
        agent = {key: value for key, value in self.contents[AGENT_SETTINGS].items() if key != INSTANTIATOR_KEY}
        return Settings(agent, dict(self.contents.get(DATA_SETTINGS, {})))

    @property
    def seed(self) -> int | None:
        """Of the run; None if the agent was trained without `ReplayDataModule`."""
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
        """One state for each optimiser, as torch has it; none before training has begun."""
        states: list[dict[str, Any]] = self.contents.get(OPTIMIZERS, [])
        return states

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
        """With so many torch has computed."""
        return int(self.contents[THREADS])

    @property
    def device(self) -> str | None:
        """The kind of device that it was trained on; None if an earlier release wrote it."""
        return self.contents.get(DEVICE)

    def has_callback(self, name: str) -> bool:
        """Whether it holds the state of a callback, by the name of its class."""
        return name in self.contents[CALLBACKS_STATE]

    @property
    def session(self) -> int:
        """Counted over all starts and resumes of the run's name; 0 before there was a count.

        Raises:
            ValueError: if it is none.

        """
        session = int(self._checkpoints_state.get("session", 0))
        if not 0 <= session <= MAX_SESSIONS:
            raise ValueError(f"{session} is no session")
        return session

    @property
    def is_best(self) -> bool:
        """Whether it was the best of its run when it was made."""
        return self._checkpoints_state.get("best_env_step") == self.env_step

    @property
    def _checkpoints_state(self) -> dict[str, Any]:
        """Of the callback `Checkpoints`."""
        state: dict[str, Any] = self.contents.get(CALLBACKS_STATE, {}).get("Checkpoints", {})
        return state

    # --- its replay ---

    @property
    def replays(self) -> list[dict[str, Any]]:
        """The state of the store of each shard; none if it was saved without."""
        return replays_of(self.contents.get(DATA_STATE, {}).get(REPLAY_STATE))

    def drop_replay(self) -> None:
        """Go without the replay."""
        self.contents.get(DATA_STATE, {}).pop(REPLAY_STATE, None)

    def detach_arrays(self, segments: Mapping[int, Sidecar]) -> None:
        """Keep of the arrays of the stores what is needed to find them again: they have been written.

        Args:
            segments: of each store, by its place in `replays`.

        """
        for shard, own in segments.items():
            replay = self.replays[shard]
            replay["arrays"] = {"head": replay["arrays"]["head"]}
            replay.pop("rewritten", None)
            replay[REPLAY_FOLDER], replay[MANIFEST_CRC32] = own.folder.name, own.manifest_crc32

    # --- what is written into it ---

    def migrate(self) -> Self:
        """Bring what an older release wrote to today's form.

        Returns:
            Itself.

        """
        for key in (AGENT_SETTINGS, DATA_SETTINGS):
            if key in self.contents:
                self.contents[key] = with_public_paths(self.contents[key])  # 0.1.0 named the files of its day
        self.contents.setdefault(AGENT_NAME, "LitDQN")  # there was no other before agents were named
        state = self._checkpoints_state
        if "best_mean_reward" in state:  # the mean return was the only grade once, and gave it its name
            state["best_grade"] = state.pop("best_mean_reward")
        if state:
            state.setdefault("best_env_step", None)
            state.setdefault("session", 0)
        return self

    def describe(self, agent: str, env_step: int) -> None:
        """Say whose it is, by the name of the agent's class, and when it was made."""
        self.contents[AGENT_NAME], self.contents[ENV_STEP] = agent, env_step

    def set_process_state(self, random_state: Mapping[str, Any], threads: int, device: str) -> None:
        """Keep the global generators, the number of torch's threads and the kind of device."""
        self.contents[RANDOM_STATE], self.contents[THREADS], self.contents[DEVICE] = random_state, threads, device


def replays_of(state: Any) -> list[dict[str, Any]]:
    """The state of each store in what a checkpoint holds of them: a list where there are several shards."""
    return state if isinstance(state, list) else [] if state is None else [state]


def lacks_segments(state: Any) -> bool:
    """Whether a replay's arrays lie on disk, and whoever has read the checkpoint did not look for them.

    Args:
        state: what the checkpoint holds of it.

    """
    return any(REPLAY_FOLDER in replay and SEGMENTS not in replay for replay in replays_of(state))
