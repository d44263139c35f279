from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from lit_dqn.errors import ConfigError
from lit_dqn.playing.demonstrations import Demonstrations, Task
from lit_dqn.playing.memory import memory_size_of
from lit_dqn.playing.policies import Policy, UniformRandom
from lit_dqn.playing.seeds import demonstration_env, exploration_generator
from lit_dqn.playing.stage import Stage
from lit_dqn.saving.find import find_checkpoint
from lit_dqn.training.loading import load_agent
from lit_dqn.training.settings import Nobody
from lit_dqn.types import ActionPreferences, Timestep


class Play(Demonstrations):
    """Demonstrations that a policy, usually of a trained agent, plays in separate envs before the learner's first step.

    Episodes that are running at its end are truncated.

    Args:
        env_steps: number of env steps over all envs, rounded down to a multiple of the number of envs.
        checkpoint: a `.ckpt` file, or a run's folder for its newest one; None: the policy needs no agent.
        policy: how actions follow from that agent's preferences; a schedule in it keeps its start value.
        trust: your own classes that the checkpoint may name, such as its network.

    Raises:
        ConfigError: if `env_steps` is below 1, or the policy needs an agent and there is no checkpoint.

    """

    def __init__(
        self,
        env_steps: int,
        checkpoint: str | None = None,
        policy: Policy = UniformRandom(),  # noqa: B008 - policies have no state
        trust: Sequence[type] = (),
    ) -> None:
        if env_steps < 1:
            raise ConfigError(f"env_steps: {env_steps} of demonstrations must be at least 1.")
        if checkpoint is None and policy.asks_agent:
            raise ConfigError(
                f"policy: {type(policy).__name__} of demonstrations asks an agent; give its checkpoint, or the policy "
                "UniformRandom."
            )
        self.env_steps = env_steps
        self.checkpoint = checkpoint
        self.policy = policy
        self.trust = trust

    def check(self, task: Task) -> int:
        """Number of env steps that will be played.

        Args:
            task: of the learner.

        Raises:
            ConfigError: if there is no such checkpoint, it belongs to another task, or there are too few env steps.

        """
        if self.env_steps < task.num_envs:
            raise ConfigError(
                f"env_steps: {self.env_steps} of demonstrations are fewer than one for each of {task.num_envs} envs; "
                f"play {task.num_envs} or more, or set --data.num_envs {self.env_steps}."
            )
        self._agent(task)
        return self.env_steps // task.num_envs * task.num_envs

    def timesteps(self, task: Task, number: int) -> Iterator[Timestep]:
        """The timesteps of all envs, step by step."""
        agent, first_env = self._agent(task), demonstration_env(number * task.num_envs)
        generators = [exploration_generator(task.seed, first_env + env) for env in range(task.num_envs)]
        envs = task.make_envs()
        try:
            stage = Stage(
                envs,
                task.frame_stack,
                task.seed,
                first_env,
                action_mask=task.action_mask,
                memory_size=memory_size_of(agent),
            )
            stage.begin(np.ones(task.num_envs, bool))
            for _ in range(self.env_steps // task.num_envs):
                timestep, finished = stage.step(stage.act(self.policy, agent, 0, generators))
                yield timestep
                if finished:
                    stage.begin(timestep.last)
        finally:
            envs.close()

    def _agent(self, task: Task) -> ActionPreferences:
        if self.checkpoint is None:
            return Nobody(task.num_actions)
        path = Path(self.checkpoint)
        agent = load_agent(find_checkpoint(str(path), path).path if path.is_dir() else path, self.trust)
        sees = agent.observation_shape if agent.parts is None else agent.parts.described()
        shown = task.observation_shape
        # The order of the parts determines their places in a row.
        if (sees, list(sees), agent.num_actions) != (shown, list(shown), task.num_actions):
            raise ConfigError(
                f"prefill: the agent of {path} sees {sees} and has {agent.num_actions} actions, and "
                f"{task.env_id} here {shown} and {task.num_actions}; give the checkpoint of another "
                "run."
            )
        return agent
