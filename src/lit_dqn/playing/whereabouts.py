"""What this process knows of envs that are played elsewhere: enough to restore each of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_dqn.playing.actor import Played, PlayerSpec, joined
from lit_dqn.playing.collector import Collector
from lit_dqn.playing.episodes import EpisodeLog, RunningEpisode
from lit_dqn.playing.player import Recorder
from lit_dqn.playing.seeds import exploration_generator, next_seeds


class Whereabouts:
    """Seeds, actions, generators and present frames of N envs.

    Args:
        spec: the specification of their players.

    """

    def __init__(self, spec: PlayerSpec) -> None:
        self._spec = spec
        self._log = EpisodeLog(spec.num_envs, spec.first_env)
        self._episodes = np.zeros(spec.num_envs, np.int64)
        generators = [exploration_generator(spec.seed, spec.first_env + env) for env in range(spec.num_envs)]
        self._generators = [generator.bit_generator.state for generator in generators]
        self._frames: list[NDArray[Any] | None] = [None] * spec.num_envs  # present frames, after the first steps
        self._running: list[dict[str, Any]] = []  # before that, the state from which they resume

    @property
    def begun(self) -> bool:
        """Whether the first episodes have begun."""
        return bool(self._running) or self._frames[0] is not None

    def was_played(self, player: int) -> bool:
        """Whether a chunk of a player was recorded since the start or the resume of this process."""
        return self._frames[self._spec.envs_of(player).start] is not None

    def record(self, played: Sequence[Played], recorder: Recorder) -> None:
        """Record one chunk of all players, as steps of every env."""
        spec = self._spec
        if not self.begun:
            self._begin(np.ones(spec.num_envs, bool))
        lost = [difference for part in played for difference in part.lost or [None] * spec.envs_per_player]
        self._lose(lost, recorder)
        terminated = np.concatenate([part.terminated for part in played], axis=1)
        streams = zip(*(part.timesteps() for part in played), strict=True)
        for timesteps, ended in zip(streams, terminated, strict=True):
            timestep = timesteps[0] if len(timesteps) == 1 else joined(timesteps, np.concatenate)
            self._log.step(timestep.action, timestep.reward)
            last = timestep.last
            recorder.record(timestep, self._log.finished(last, ended) if last.any() else [])
            if last.any():
                self._begin(last)
        for player, part in enumerate(played):
            self._remember(player, part)

    def record_one(self, player: int, played: Played, recorder: Collector) -> None:
        """Record a chunk of one player, after the first steps of all."""
        envs = self._spec.envs_of(player)
        lost: list[str | None] = [None] * self._spec.num_envs
        lost[envs] = played.lost or lost[envs]
        self._lose(lost, recorder)
        for timestep, ended in zip(played.timesteps(), played.terminated, strict=True):
            self._log.step(timestep.action, timestep.reward, envs)
            finished = self._log.finished(timestep.last, ended, envs) if timestep.last.any() else []
            recorder.record_some(timestep, finished, envs)
            if finished:
                mask = np.zeros(self._spec.num_envs, bool)
                mask[envs] = timestep.last
                self._begin(mask)
        self._remember(player, played)

    def _lose(self, lost: Sequence[str | None], recorder: Recorder) -> None:
        if any(difference is not None for difference in lost):
            recorder.lose(lost)
            self._begin(np.array([difference is not None for difference in lost]))

    def _begin(self, mask: NDArray[np.bool_]) -> None:
        self._log.begin(next_seeds(self._spec.seed, self._spec.first_env, self._episodes, mask))
        self._episodes[mask] += 1

    def _remember(self, player: int, played: Played) -> None:
        envs = self._spec.envs_of(player)
        self._frames[envs] = played.frames[-1].copy()  # a view would keep the whole chunk in memory
        self._generators[envs] = played.generators

    def state_dict(self) -> dict[str, Any]:
        """What is needed to restore each env, as plain values and tensors."""
        running = [
            then if frame is None else self._log.running_in(env, frame).state_dict()
            for env, (then, frame) in enumerate(
                zip(self._running or [{}] * self._spec.num_envs, self._frames, strict=True)
            )
        ]
        return {
            "episode_of_env": self._episodes.tolist(),
            "generators": list(self._generators),
            "running": running if self.begun else [],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        self._episodes[:] = state["episode_of_env"]
        self._generators = list(state["generators"])
        self._frames, self._running = [None] * self._spec.num_envs, list(state["running"])
        self._log.take_over([RunningEpisode.from_state_dict(episode) for episode in self._running])
