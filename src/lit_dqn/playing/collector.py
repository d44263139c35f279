"""Playing to learn: the collector fills the replay."""

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from lit_dqn.envs import check_finite, stored_dtype
from lit_dqn.playing.policies import Policy, UniformRandom
from lit_dqn.playing.resimulation import ActionLog, ResumeEnv, RunningEpisode, frame_hash, resimulate
from lit_dqn.playing.seeds import episode_seed, exploration_generator
from lit_dqn.replay import ReplayBuffer
from lit_dqn.replay.stacking import FrameStack
from lit_dqn.types import ActionPreferences, Episode, Timestep

log = logging.getLogger("lit_dqn")


class Collector:
    """Plays a vector env, stores what happens, and lists the episodes that finish.

    Where an env's infos hold `life_lost` [N], those steps have no future for learning, and the episode goes on.

    Args:
        envs: a vector env that does not reset itself (`make_vec`).
        policy: how actions follow from action values.
        replay: where timesteps go.
        seed: of the run; the seeds of episodes and of each env's exploration follow from it.

    """

    def __init__(self, envs: VectorEnv, policy: Policy, replay: ReplayBuffer, seed: int) -> None:
        self.envs = envs
        self.policy = policy
        self.replay = replay
        self.seed = seed
        self.env_step = 0
        self.episodes = 0
        # Whoever watches takes them out; where nobody does, the list must not grow for ever.
        self.finished: deque[Episode] = deque(maxlen=10_000)
        self._generators = [exploration_generator(seed, env) for env in range(envs.num_envs)]
        self._episode_of_env = np.zeros(envs.num_envs, np.int64)
        self._total_reward = np.zeros(envs.num_envs)
        self._length = np.zeros(envs.num_envs, np.int64)
        self._dtype = stored_dtype(envs.single_observation_space)
        self._stack = FrameStack(envs.num_envs, replay.frame_stack)
        self._actions = ActionLog(envs.num_envs)
        self._seed_of_env = [0] * envs.num_envs  # of the episode that is running
        self._started = False

    def collect(self, agent: ActionPreferences, env_steps: int, policy: Policy | None = None) -> None:
        """Play `env_steps` env steps, a multiple of the number of envs, by `policy` or the collector's own."""
        policy = policy or self.policy
        if not self._started:
            self._start_episodes(np.ones(self.envs.num_envs, bool))
            self._started = True
        for _ in range(env_steps // self.envs.num_envs):
            action = policy.act(agent, self._stack.observation, self.env_step, self._generators)
            next_observation, reward, terminated, truncated, info = self.envs.step(action)
            next_observation = next_observation.astype(self._dtype, copy=False)
            check_finite(next_observation, self.envs, self.env_step + self.envs.num_envs)
            last = terminated | truncated
            no_future = terminated | info.get("life_lost", False)
            self.replay.add(Timestep(self._stack.frames, action, reward, ~no_future, last, next_observation))
            self.env_step += self.envs.num_envs
            self._actions.write(self._length, action)
            self._total_reward += reward
            self._length += 1
            self._stack.push(next_observation)
            if last.any():
                self._finish_episodes(last, terminated)
                self._start_episodes(last)

    def warm_up(
        self,
        agent: ActionPreferences,
        env_steps: int,
        starts: int,
        policy: Policy = UniformRandom(),  # noqa: B008 - policies have no state
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Play before the run's first update, as a rule uniformly at random (Mnih et al. 2015, Methods).

        Args:
            agent: as for `collect`.
            env_steps: played in all.
            starts: that the replay must hold besides, so that a batch can be drawn.
            policy: how actions are chosen meanwhile.
            stopped: asked before each step; True ends the warm-up where it is.

        """
        while (self.env_step < env_steps or len(self.replay.starts) < starts) and not stopped():
            self.collect(agent, self.envs.num_envs, policy)

    def refill(self, agent: ActionPreferences, env_steps: int, stopped: Callable[[], bool]) -> None:
        """Play so many env steps by the collector's own policy, for a replay that was not saved."""
        until = self.env_step + env_steps
        while self.env_step < until and not stopped():
            self.collect(agent, self.envs.num_envs)

    def _finish_episodes(self, last: NDArray[np.bool_], terminated: NDArray[np.bool_]) -> None:
        for env in np.flatnonzero(last):
            self.episodes += 1
            self.finished.append(
                Episode(
                    number=self.episodes,
                    env=int(env),
                    env_step=self.env_step,
                    total_reward=float(self._total_reward[env]),
                    length=int(self._length[env]),
                    terminated=bool(terminated[env]),
                )
            )

    def _start_episodes(self, mask: NDArray[np.bool_]) -> None:
        for env in map(int, np.flatnonzero(mask)):
            self._seed_of_env[env] = episode_seed(self.seed, env, int(self._episode_of_env[env]))
        seeds = [seed if chosen else None for seed, chosen in zip(self._seed_of_env, mask, strict=True)]
        observation, _ = self.envs.reset(seed=seeds, options={"reset_mask": mask.copy()})  # type: ignore[arg-type]
        observation = observation.astype(self._dtype, copy=False)
        check_finite(observation, self.envs, self.env_step)
        self._stack.reset(observation, mask)
        self._episode_of_env[mask] += 1
        self._total_reward[mask] = 0
        self._length[mask] = 0

    def state_dict(self) -> dict[str, Any]:
        """Counters, generators, and what leads the envs to where they are, as plain values and tensors."""
        return {
            "env_step": self.env_step,
            "episodes": self.episodes,
            "episode_of_env": self._episode_of_env.tolist(),
            "generators": [generator.bit_generator.state for generator in self._generators],
            "finished": [tuple(episode) for episode in self.finished],
            "running": [self._running_episode(env).state_dict() for env in range(self.envs.num_envs)]
            if self._started
            else [],
        }

    def _running_episode(self, env: int) -> RunningEpisode:
        return RunningEpisode(
            seed=self._seed_of_env[env],
            actions=self._actions.of(env, int(self._length[env])),
            total_reward=float(self._total_reward[env]),
            frame_hash=frame_hash(self._stack.frames[env]),
        )

    def load_state_dict(self, state: dict[str, Any], resume_env: ResumeEnv = ResumeEnv.exact) -> None:
        """Go on from a saved state; the replay must have been restored before.

        Args:
            state: of `state_dict`.
            resume_env: what becomes of the episodes that were running.

        """
        self.env_step = state["env_step"]
        self.episodes = state["episodes"]
        self._episode_of_env[:] = state["episode_of_env"]
        for generator, saved in zip(self._generators, state["generators"], strict=True):
            generator.bit_generator.state = saved
        self.finished.clear()
        self.finished.extend(Episode(*episode) for episode in state["finished"])
        self._started = False
        if resume_env is ResumeEnv.new_episode:
            self.replay.cut_episodes()
        elif state["running"]:
            self._go_on_with([RunningEpisode.from_state_dict(episode) for episode in state["running"]])

    def _go_on_with(self, episodes: list[RunningEpisode]) -> None:
        differences = resimulate(self.envs, episodes, self._stack, self._dtype)
        for env, episode in enumerate(episodes):
            self._seed_of_env[env] = episode.seed
            self._length[env] = len(episode.actions)
            self._total_reward[env] = episode.total_reward
            self._actions.replace(env, episode.actions)
        self._started = True
        lost = np.array([difference is not None for difference in differences])
        for env in map(int, np.flatnonzero(lost)):
            log.warning(
                "env %d does not come back to where it was: played again with the same seed and actions, %s; it begins "
                "a new episode, so from here on the run is not the one that was saved (data.resume_env: new_episode "
                "does not try)",
                env,
                differences[env],
            )
        if lost.any():
            self.replay.cut_episodes(lost)
            self._start_episodes(lost)
