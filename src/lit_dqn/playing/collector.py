"""Playing to learn: the collector has players play, and keeps what they tell."""

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
"""What of a collector's state there is of each env; its players know it."""


class Collector:
    """Has envs played, stores what happens, and lists the episodes that finish.

    Args:
        players: of the envs.
        policy: how actions follow from action values.
        store: where timesteps go.

    """

    def __init__(self, players: Players, policy: Policy, store: Store) -> None:
        self.players = players
        self.policy = policy
        self.store = store
        self.env_step = 0
        self.episodes = 0
        # Whoever watches takes them out; where nobody does, the list must not grow for ever.
        self.finished: deque[Episode] = deque(maxlen=10_000)

    @property
    def all_envs(self) -> int:
        """Envs of the whole run."""
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
            agent: what it prefers.
            env_steps: over all envs of the run, a multiple of their number.
            policy: how actions are chosen; None: by the collector's own.

        """
        self.players.play(agent, policy or self.policy, env_steps // self.all_envs, self.env_step, self)

    def record(self, timestep: Timestep, finished: Sequence[Finished]) -> None:
        """Keep one step of every env, and the episodes that ended with it."""
        self.store.add(timestep)
        self.env_step += self.players.all_envs
        if finished:
            self._finish_episodes(finished)

    def lose(self, differences: Sequence[str | None]) -> None:
        """Cut the episodes of envs that did not come back to where they were, and say so.

        Args:
            differences: for each env None if it is where it was, or why it is not, [N].

        """
        lost = np.array([difference is not None for difference in differences])
        for env in map(int, np.flatnonzero(lost)):
            log.warning(
                "env %d does not come back to where it was: %s; it begins a new episode, so from here on the run is "
                "not the one that it would have been",
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
        """Play before the run's first update, as a rule uniformly at random (Mnih et al. 2015, Methods).

        Args:
            agent: as for `collect`.
            env_steps: played in all.
            transitions: that the store must hold besides, so that a batch can be drawn.
            policy: how actions are chosen meanwhile.
            stopped: asked before each step; True ends the warm-up where it is.

        """
        while (self.env_step < env_steps or len(self.store) < transitions) and not stopped():
            self.collect(agent, self._patiently(env_steps), policy)

    def let_pass(self, steps: int) -> None:
        """Let the clock of env steps go on though nothing is played: for updates that learn offline."""
        self.env_step += steps

    def refill(self, agent: ActionPreferences, env_steps: int, stopped: Callable[[], bool]) -> None:
        """Play so many env steps by the collector's own policy, for a store that was not saved."""
        until = self.env_step + env_steps
        while self.env_step < until and not stopped():
            self.collect(agent, self._patiently(until))

    def _patiently(self, until: int) -> int:
        """Env steps that can be played before somebody is asked whether the run shall end."""
        missing = -(-(until - self.env_step) // self.all_envs)
        return min(max(missing, 1), self.players.patience) * self.all_envs

    def _finish_episodes(self, finished: Sequence[Finished]) -> None:
        for episode in finished:
            self.episodes += 1
            self.finished.append(Episode(number=self.episodes, env_step=self.env_step, **episode._asdict()))

    def state_dict(self) -> dict[str, Any]:
        """Counters, generators, and what leads the envs to where they are, as plain values and tensors."""
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
            resume_env: what becomes of the episodes that were running.

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
