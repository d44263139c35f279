"""Playing for training: the collector lets players play, and records their steps."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lit_dqn.playing.episodes import Finished
from lit_dqn.playing.player import Players
from lit_dqn.playing.policies import Policy, UniformRandom
from lit_dqn.playing.resimulation import ResumeEnv
from lit_dqn.types import ActionPreferences, Episode, Store, Timestep

log = logging.getLogger("lit_dqn")

OF_ENVS = ("episode_of_env", "generators", "running")
"""The parts of a collector's state that exist per env; its players hold them."""


class Collector:
    """Lets envs be played, stores the timesteps, and lists the finished episodes.

    Args:
        players: of the envs.
        policy: how actions follow from action values.
        store: receives the timesteps.

    """

    def __init__(self, players: Players, policy: Policy, store: Store) -> None:
        self.players = players
        self.policy = policy
        self.store = store
        self.env_step = 0
        self.episodes = 0
        # Callbacks take them out; without callbacks the list must not grow without bound.
        self.finished: deque[Episode] = deque(maxlen=10_000)

    @property
    def all_envs(self) -> int:
        """Number of envs of the whole run."""
        return self.players.all_envs

    @property
    def closed(self) -> bool:
        """Whether its envs are closed."""
        return self.players.closed

    def close(self) -> None:
        """Close the envs."""
        self.players.close()

    def collect(self, agent: ActionPreferences, env_steps: int, policy: Policy | None = None) -> None:
        """Play some env steps of these envs.

        Args:
            agent: the agent that acts.
            env_steps: over all envs of the run, a multiple of their number.
            policy: how actions are chosen; None: the collector's policy.

        """
        self.players.play(agent, policy or self.policy, env_steps // self.all_envs, self.env_step, self)

    def record(self, timestep: Timestep, finished: Sequence[Finished]) -> None:
        """Record one step of every env, and the episodes that ended with it."""
        self.store.add(timestep)
        self.env_step += self.players.all_envs
        if finished:
            self._finish_episodes(finished)

    def record_some(self, timestep: Timestep, finished: Sequence[Finished], envs: slice) -> None:
        """Keep one step of a range of envs, where these are all envs of the run but do not step together."""
        self.store.add(timestep, envs)
        self.env_step += len(timestep.last)
        if finished:
            self._finish_episodes(finished)

    def lose(self, differences: Sequence[str | None]) -> None:
        """Truncate the episodes of envs that could not be restored, and log a warning.

        Args:
            differences: [N], for each env None if it was restored, or how it differs.

        """
        lost = np.array([difference is not None for difference in differences])
        for env in map(int, np.flatnonzero(lost)):
            log.warning(
                "env %d cannot be restored: %s; it begins a new episode, so from here on the run is not the one that "
                "it would have been",
                self.players.first_env + env,
                differences[env],
            )
        self.store.cut_episodes(lost)

    def warm_up(
        self,
        agent: ActionPreferences,
        env_steps: int,
        transitions: int,
        policy: Policy = UniformRandom(),  # noqa: B008 - policies have no state
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Play before the run's first update, by default uniformly at random (Mnih et al. 2015, Methods).

        Args:
            agent: as for `collect`.
            env_steps: number of env steps in total.
            transitions: number of transitions that the store must also hold, so that a batch can be drawn.
            policy: how actions are chosen meanwhile.
            stopped: called before each step; True ends the warm-up at once.

        """
        while (self.env_step < env_steps or len(self.store) < transitions) and not stopped():
            self.collect(agent, self._patiently(env_steps), policy)

    def let_pass(self, steps: int) -> None:
        """Advance the count of env steps without playing, for offline updates."""
        self.env_step += steps

    def refill(self, agent: ActionPreferences, env_steps: int, stopped: Callable[[], bool]) -> None:
        """Play some env steps with the collector's policy, because the store was not saved."""
        until = self.env_step + env_steps
        while self.env_step < until and not stopped():
            self.collect(agent, self._patiently(until))

    def _patiently(self, until: int) -> int:
        """Number of env steps that can be played between two checks whether the run should end."""
        missing = -(-(until - self.env_step) // self.all_envs)
        return min(max(missing, 1), self.players.patience) * self.all_envs

    def _finish_episodes(self, finished: Sequence[Finished]) -> None:
        for episode in finished:
            self.episodes += 1
            self.finished.append(Episode(number=self.episodes, env_step=self.env_step, **episode._asdict()))

    def state_dict(self) -> dict[str, Any]:
        """Counters, generators, and what is needed to restore the envs, as plain values and tensors."""
        return {
            "env_step": self.env_step,
            "episodes": self.episodes,
            "finished": [tuple(episode) for episode in self.finished],
            **self.players.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], resume_env: ResumeEnv = ResumeEnv.exact) -> None:
        """Resume from a saved state; the store must have been restored before.

        Args:
            state: of `state_dict`.
            resume_env: how to treat the episodes that were running.

        """
        self.env_step = state["env_step"]
        self.episodes = state["episodes"]
        self.finished.clear()
        self.finished.extend(Episode(*episode) for episode in state["finished"])
        of_envs = {key: state[key] for key in OF_ENVS}
        if resume_env is ResumeEnv.new_episode:
            of_envs["running"] = []
            self.store.cut_episodes()
        self.players.load_state_dict(of_envs, self)
