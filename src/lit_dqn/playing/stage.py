"""The only loop over a vector env: everything that plays uses it."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from lit_dqn.envs import check_finite, stored_dtype
from lit_dqn.errors import ConfigError, TrainingError
from lit_dqn.playing.episodes import EpisodeLog, Finished, RunningEpisode, Seeds
from lit_dqn.playing.masks import MaskedAgent
from lit_dqn.playing.memory import RememberingAgent, Remembers
from lit_dqn.playing.policies import Generators, Policy
from lit_dqn.playing.seeds import next_seeds
from lit_dqn.replay.stacking import FrameStack
from lit_dqn.types import ActionPreferences, Timestep


class Stage:
    """A vector env with its frame stacks and its running episodes, each begun with its own seed.

    A player begins episodes with `begin`, lets a policy `act`, and steps. Steps for which the infos have `life_lost`
    [N] have no future for learning, but the episode continues.

    Some vector envs cannot step one env alone. An env that has nothing to play meanwhile is *idle*: it steps with the
    others, and its frames and rewards do not count.

    Args:
        envs: a vector env of N envs that does not reset itself (`make_vec`).
        frame_stack: frames in an observation.
        seed: of the run, which determines the seeds of episodes; None: they are passed to `begin`.
        first_env: the number of the first env over the whole run; the others follow.
        max_steps: cap on the agent steps of an episode, a truncation; None: only the env's own cap.
        action_mask: whether the infos contain action masks.
        memory_size: size of the agent's memory; 0: it has none.

    Attributes:
        episodes: [N], number of episodes that each env has begun with seeds of the run.
        begun: whether `begin` has been called; before that there are no frames.
        total_reward: of each env's episode so far, [N].
        length: agent steps of each env's episode so far, [N].
        action_mask: [N, num_actions], which actions are allowed in each env's state; None: all are.
        memory: [N, memory_size], the agent's memory of each env's episode before the next action; None: it has none.

    """

    def __init__(
        self,
        envs: VectorEnv,
        frame_stack: int,
        seed: int | None,
        first_env: int = 0,
        max_steps: int | None = None,
        action_mask: bool = False,
        memory_size: int = 0,
    ) -> None:
        self.envs = envs
        self.seed = seed
        self.first_env = first_env
        self.max_steps = max_steps
        space = envs.single_observation_space
        assert space.shape is not None
        self._env_id: str = getattr(envs, "env_id", type(envs).__name__)  # `make_vec` gives it
        self._dtype = stored_dtype(space)
        self._stack = FrameStack(envs.num_envs, frame_stack, space.shape, self._dtype)
        self.episodes = np.zeros(envs.num_envs, np.int64)
        self.begun = False
        self._log = EpisodeLog(envs.num_envs, first_env)
        self.total_reward, self.length = self._log.total_reward, self._log.length
        self._idle = np.zeros(envs.num_envs, bool)
        self._someone_is_idle = False
        self.action_mask: NDArray[np.bool_] | None = None
        if action_mask:
            assert isinstance(envs.single_action_space, spaces.Discrete)
            self.action_mask = np.ones((envs.num_envs, int(envs.single_action_space.n)), np.bool_)
        self.memory = np.zeros((envs.num_envs, memory_size), np.float32) if memory_size > 0 else None
        self._memory_after = self.memory  # what `act` leaves to the next step

    @property
    def frames(self) -> NDArray[Any]:
        """The present frame of each env: [N, *shape], valid until the next call."""
        return self._stack.frames

    @property
    def observation(self) -> NDArray[Any]:
        """The present observation of each env: [N, *stacked shape], valid until the next call."""
        return self._stack.observation

    def begin(self, mask: NDArray[np.bool_], seeds: Seeds | None = None) -> None:
        """Begin the next episodes of some envs.

        Args:
            mask: [N], True for the envs that begin one.
            seeds: [N], of the episodes, None for an env that is idle from now on; by default the next seeds of the run.

        Raises:
            TrainingError: if an observation or reward contains NaN.

        """
        if seeds is None:
            assert self.seed is not None
            seeds = next_seeds(self.seed, self.first_env, self.episodes, mask)
            self.episodes[mask] += 1
        given: list[int | None] = [None] * len(mask)
        for env in np.flatnonzero(mask).tolist():
            seed = seeds[env]
            self._idle[env] = seed is None
            given[env] = 0 if seed is None else seed
        self._someone_is_idle = bool(self._idle.any())
        self._log.begin(given)
        frames, info = self.envs.reset(seed=given, options={"reset_mask": mask.copy()})  # type: ignore[arg-type]
        self._stack.reset(self._as_stored(frames), mask)
        if self.action_mask is not None:  # the infos belong only to the envs that begin
            self.action_mask = np.where(mask[:, None], info["action_mask"], self.action_mask)
        if self.memory is not None:
            self.memory = np.where(mask[:, None], np.float32(0), self.memory)
        self.begun = True

    def act(
        self, policy: Policy, agent: ActionPreferences, env_step: int, generators: Generators
    ) -> NDArray[np.integer]:
        """A policy's actions in the present states, [N]; the preferences of forbidden actions are masked.

        Args:
            policy: how actions follow from the agent's preferences.
            agent: the agent that acts.
            env_step: at which the policy's schedules are evaluated.
            generators: of each env.

        Raises:
            TrainingError: if the policy has chosen a forbidden action.

        """
        if self.memory is not None:
            agent = RememberingAgent(cast(Remembers, agent), self.observation, self.memory)
            self._memory_after = agent.memory
        if self.action_mask is None:
            return policy.act(agent, self.observation, env_step, generators)
        actions = policy.act(MaskedAgent(agent, self.action_mask), self.observation, env_step, generators)
        forbidden = ~self.allows(actions)
        if forbidden.any():
            env = int(forbidden.argmax())
            raise TrainingError(
                f"policy: {type(policy).__name__} has chosen action {actions[env]} in env {self.first_env + env} at "
                f"step {self.length[env]:,} of its episode, where it is forbidden; let it choose by what the agent "
                "prefers, or among what lit_dqn.playing.masks.action_mask_of(agent) allows."
            )
        return actions

    def allows(self, actions: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Whether each env's action is allowed in its state, [N]."""
        if self.action_mask is None:
            return np.ones(len(actions), np.bool_)
        allowed: NDArray[np.bool_] = self.action_mask[np.arange(len(actions)), actions]
        return allowed

    def step(self, actions: NDArray[np.integer]) -> tuple[Timestep, list[Finished]]:
        """One agent step of every env.

        Args:
            actions: [N].

        Returns:
            The timestep of all envs, whose arrays are valid until the next call; and the episodes that ended with it,
            in the order of their envs. Envs with `last`, idle ones too, must `begin` next.

        Raises:
            TrainingError: if an observation or reward contains NaN.

        """
        frames, reward, terminated, truncated, info = self.envs.step(actions)
        self._log.step(actions, reward)
        frames = self._as_stored(frames)
        last = terminated | truncated
        if self.max_steps is not None:
            last |= self.length == self.max_steps
        lost = info.get("life_lost")
        no_future = terminated if lost is None else terminated | lost
        mask = self.action_mask
        self.action_mask = None if mask is None else info["action_mask"]
        memory, self.memory = self.memory, self._memory_after
        timestep = Timestep(
            self._stack.frames, actions, reward, ~no_future, last, frames, mask, self.action_mask, memory
        )
        self._stack.push(frames)
        return timestep, self._log.finished(last & ~self._idle, terminated) if np.count_nonzero(last) else []

    def _as_stored(self, frames: NDArray[Any]) -> NDArray[Any]:
        frames = frames.astype(self._dtype, copy=False)
        looked_at = frames
        if self._someone_is_idle:
            looked_at = frames.copy()
            looked_at[self._idle] = 0
        check_finite(looked_at, self.envs.single_observation_space, self._env_id, self.length, self.first_env)
        return frames

    def running(self) -> list[RunningEpisode]:
        """What is needed to restore each env, [N]; empty if no episode has begun."""
        episodes = self._log.running(self._stack.frames) if self.begun else []
        if self.memory is None:
            return episodes
        return [episode._replace(memory=own.copy()) for episode, own in zip(episodes, self.memory, strict=False)]

    def remember(self, episodes: Sequence[RunningEpisode]) -> None:
        """Restore the agent's memory of episodes [N] that were played again.

        Raises:
            ConfigError: if the agent has a memory, and the saved one has another size or is not finite.

        """
        if self.memory is None:
            return
        saved = [episode.memory for episode in episodes]
        size = self.memory.shape[1:]
        if any(memory is None or memory.shape != size or not np.isfinite(memory).all() for memory in saved):
            raise ConfigError(
                f"ckpt_path: its running episodes do not have a memory of {size[0]} numbers, as this agent has; set "
                "--data.resume_env new_episode."
            )
        self.memory = np.stack(cast(list[NDArray[np.float32]], saved))

    def restore(self, episodes: Sequence[int]) -> None:
        """Set the number of episodes that each env has begun, [N]; none is running."""
        self.episodes[:] = episodes
        self.begun = False
