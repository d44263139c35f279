"""Players for training: each has a range of envs and their generators, and plays them; the collector records."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from gymnasium.vector import VectorEnv

from lit_dqn.playing.episodes import Finished, RunningEpisode
from lit_dqn.playing.policies import Policy
from lit_dqn.playing.resimulation import resimulate
from lit_dqn.playing.seeds import exploration_generator
from lit_dqn.playing.stage import Stage
from lit_dqn.types import ActionPreferences, Timestep

PLAYED_AGAIN = "played again with the same seed and actions, {} (data.resume_env: new_episode does not try)"


class Recorder(Protocol):
    """Receives a player's steps."""

    def record(self, timestep: Timestep, finished: Sequence[Finished]) -> None:
        """One step of every env, whose arrays are valid until this returns; and the episodes that ended with it."""
        ...

    def lose(self, differences: Sequence[str | None]) -> None:
        """Some envs could not be restored, and begin new episodes.

        Args:
            differences: [N], for each env None if it was restored, or how it differs.

        """
        ...


class Players(Protocol):
    """Envs that are played, in sequence or in parallel, here or elsewhere."""

    num_envs: int
    """N."""

    first_env: int
    """The number of the first env over the whole run."""

    all_envs: int
    """The number of envs of the whole run, by which env steps are counted."""

    patience: int
    """Steps per env between two checks whether the run should end."""

    @property
    def closed(self) -> bool:
        """Whether the envs are closed."""
        ...

    def play(self, agent: ActionPreferences, policy: Policy, steps: int, env_step: int, recorder: Recorder) -> None:
        """Play some steps of each env.

        Args:
            agent: the agent that acts.
            policy: how actions follow from its preferences.
            steps: number of steps of each env.
            env_step: env step of the run before the first step.
            recorder: receives each step.

        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """What is needed to restore each env: `episode_of_env`, `generators`, `running`, [N] each."""
        ...

    def load_state_dict(self, state: Mapping[str, Any], recorder: Recorder) -> None:
        """Restore a state, now or before the next step.

        Args:
            state: from `state_dict`; envs without a running episode begin a new one.
            recorder: is notified of envs that cannot be restored.

        """
        ...

    def close(self) -> None:
        """Close the envs."""
        ...


class Player:
    """Plays a vector env in this process.

    Args:
        envs: a vector env of N envs that does not reset itself (`make_vec`).
        frame_stack: frames in an observation.
        seed: of the run; it determines the seeds of episodes and of each env's exploration.
        first_env: the number of the first env over the whole run.
        action_mask: whether the infos of the envs contain action masks.
        all_envs: number of envs of the whole run; None: these are all.
        memory_size: size of the agent's memory; 0: it has none.

    """

    patience = 1

    def __init__(
        self,
        envs: VectorEnv,
        frame_stack: int,
        seed: int,
        first_env: int = 0,
        action_mask: bool = False,
        all_envs: int | None = None,
        memory_size: int = 0,
    ) -> None:
        self.envs = envs
        self.num_envs = envs.num_envs
        self.all_envs = envs.num_envs if all_envs is None else all_envs
        self.first_env = first_env
        self.seed = seed
        self.stage = Stage(envs, frame_stack, seed, first_env, action_mask=action_mask, memory_size=memory_size)
        self.generators = [exploration_generator(seed, first_env + env) for env in range(envs.num_envs)]

    @property
    def closed(self) -> bool:
        """Whether the envs are closed."""
        return self.envs.closed

    def play(self, agent: ActionPreferences, policy: Policy, steps: int, env_step: int, recorder: Recorder) -> None:
        """Play some steps of each env, as for `Players`."""
        stage, policy = self.stage, policy.of_envs(self.first_env, self.num_envs, self.all_envs)
        if not stage.begun:
            stage.begin(np.ones(self.num_envs, bool))
        for step in range(env_step, env_step + steps * self.all_envs, self.all_envs):
            timestep, finished = stage.step(stage.act(policy, agent, step, self.generators))
            recorder.record(timestep, finished)
            if finished:
                stage.begin(timestep.last)

    def state_dict(self) -> dict[str, Any]:
        """What is needed to restore each env, as plain values and tensors."""
        return {
            "episode_of_env": self.stage.episodes.tolist(),
            "generators": [generator.bit_generator.state for generator in self.generators],
            "running": [episode.state_dict() for episode in self.stage.running()],
        }

    def load_state_dict(self, state: Mapping[str, Any], recorder: Recorder) -> None:
        """Restore the running episodes by playing them again."""
        self.stage.restore(state["episode_of_env"])
        for generator, saved in zip(self.generators, state["generators"], strict=True):
            generator.bit_generator.state = saved
        if not state["running"]:
            return
        episodes = [RunningEpisode.from_state_dict(episode) for episode in state["running"]]
        differences = resimulate(self.stage, episodes)
        self.stage.remember(episodes)
        lost = np.array([difference is not None for difference in differences])
        if lost.any():
            recorder.lose([None if found is None else PLAYED_AGAIN.format(found) for found in differences])
            self.stage.begin(lost)

    def close(self) -> None:
        """Close the envs."""
        self.envs.close()
