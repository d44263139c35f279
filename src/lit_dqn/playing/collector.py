"""Playing to learn: the collector fills the store."""

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from lit_dqn.playing.policies import Policy, UniformRandom
from lit_dqn.playing.resimulation import ResumeEnv, resimulate
from lit_dqn.playing.seeds import exploration_generator
from lit_dqn.playing.stage import Finished, RunningEpisode, Stage
from lit_dqn.types import ActionPreferences, Episode, Store

log = logging.getLogger("lit_dqn")


class Collector:
    """Plays a vector env, stores what happens, and lists the episodes that finish.

    Args:
        envs: a vector env that does not reset itself (`make_vec`).
        policy: how actions follow from action values.
        store: where timesteps go.
        seed: of the run; the seeds of episodes and of each env's exploration follow from it.
        first_env: the number of the first env over the whole run.
        action_mask: whether the infos of the envs say which actions are allowed.
        all_envs: envs of the whole run, by which env steps are counted; None: these are all.

    """

    def __init__(
        self,
        envs: VectorEnv,
        policy: Policy,
        store: Store,
        seed: int,
        first_env: int = 0,
        action_mask: bool = False,
        all_envs: int | None = None,
    ) -> None:
        self.envs = envs
        self.all_envs = envs.num_envs if all_envs is None else all_envs
        self.stage = Stage(envs, store.frame_stack, seed, first_env, action_mask=action_mask)
        self.policy = policy
        self.store = store
        self.seed = seed
        self.env_step = 0
        self.episodes = 0
        # Whoever watches takes them out; where nobody does, the list must not grow for ever.
        self.finished: deque[Episode] = deque(maxlen=10_000)
        self._generators = [exploration_generator(seed, first_env + env) for env in range(envs.num_envs)]

    def close(self) -> None:
        """Close the envs."""
        self.envs.close()

    def collect(self, agent: ActionPreferences, env_steps: int, policy: Policy | None = None) -> None:
        """Play some env steps of these envs.

        Args:
            agent: what it prefers.
            env_steps: over all envs of the run, a multiple of their number.
            policy: how actions are chosen; None: by the collector's own.

        """
        policy = policy or self.policy
        stage, all_envs = self.stage, self.all_envs
        if not stage.begun:
            stage.begin(np.ones(self.envs.num_envs, bool))
        for _ in range(env_steps // all_envs):
            action = stage.act(policy, agent, self.env_step, self._generators)
            timestep, finished = stage.step(action)
            self.store.add(timestep)
            self.env_step += all_envs
            if finished:
                self._finish_episodes(finished)
                stage.begin(timestep.last)

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
            self.collect(agent, self.all_envs, policy)

    def refill(self, agent: ActionPreferences, env_steps: int, stopped: Callable[[], bool]) -> None:
        """Play so many env steps by the collector's own policy, for a store that was not saved."""
        until = self.env_step + env_steps
        while self.env_step < until and not stopped():
            self.collect(agent, self.all_envs)

    def _finish_episodes(self, finished: list[Finished]) -> None:
        for episode in finished:
            self.episodes += 1
            self.finished.append(Episode(number=self.episodes, env_step=self.env_step, **episode._asdict()))

    def state_dict(self) -> dict[str, Any]:
        """Counters, generators, and what leads the envs to where they are, as plain values and tensors."""
        return {
            "env_step": self.env_step,
            "episodes": self.episodes,
            "episode_of_env": self.stage.episodes.tolist(),
            "generators": [generator.bit_generator.state for generator in self._generators],
            "finished": [tuple(episode) for episode in self.finished],
            "running": [episode.state_dict() for episode in self.stage.running()],
        }

    def load_state_dict(self, state: dict[str, Any], resume_env: ResumeEnv = ResumeEnv.exact) -> None:
        """Resume from a saved state; the store must have been restored before.

        Args:
            state: of `state_dict`.
            resume_env: what becomes of the episodes that were running.

        """
        self.env_step = state["env_step"]
        self.episodes = state["episodes"]
        self.stage.restore(state["episode_of_env"])
        for generator, saved in zip(self._generators, state["generators"], strict=True):
            generator.bit_generator.state = saved
        self.finished.clear()
        self.finished.extend(Episode(*episode) for episode in state["finished"])
        if resume_env is ResumeEnv.new_episode:
            self.store.cut_episodes()
        elif state["running"]:
            self._resume_episodes([RunningEpisode.from_state_dict(episode) for episode in state["running"]])

    def _resume_episodes(self, episodes: list[RunningEpisode]) -> None:
        differences = resimulate(self.stage, episodes)
        lost = np.array([difference is not None for difference in differences])
        for env in map(int, np.flatnonzero(lost)):
            log.warning(
                "env %d does not come back to where it was: played again with the same seed and actions, %s; it begins "
                "a new episode, so from here on the run is not the one that was saved (data.resume_env: new_episode "
                "does not try)",
                self.stage.first_env + env,
                differences[env],
            )
        if lost.any():
            self.store.cut_episodes(lost)
            self.stage.begin(lost)
