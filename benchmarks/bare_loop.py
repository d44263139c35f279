"""A loop without Lightning, of lit_dqn's own parts: acts, draws, learns."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from lit_dqn.envs import stored_dtype
from lit_dqn.learning.learner import Learner, Update
from lit_dqn.learning.objectives import QLearning
from lit_dqn.playing.collector import Collector
from lit_dqn.playing.player import Player
from lit_dqn.playing.policies import EpsilonGreedy
from lit_dqn.replay import Replay, ReplayBuffer, Sampler
from lit_dqn.replay.stacking import stacked_shape


class BareLoop:
    """lit_dqn's DQN without Trainer, callbacks and logs.

    Args:
        envs: played side by side.
        network: (observation_shape, num_actions) -> module.
        objective: the loss.
        optimizer: called with the parameters.
        sampler: of the batches.
        capacity: of the replay, in transitions.
        min_replay_size: env steps played before the first update.
        batch_size: of an update.
        gradient_steps: updates in a chunk.
        env_steps_per_update: played for each.
        target_update_period: updates from one copy to the target to the next.
        gamma: γ.
        epsilon: of the ε-greedy policy.
        frame_stack: frames in an observation.
        reward_clip: of the rewards that are learned from; None leaves them.
        seed: of everything.
        update: how updates are computed.

    """

    def __init__(
        self,
        envs: VectorEnv,
        network: Callable[[tuple[int, ...], int], torch.nn.Module],
        *,
        objective: QLearning,
        optimizer: Callable[..., torch.optim.Optimizer],
        sampler: Sampler,
        capacity: int,
        min_replay_size: int,
        batch_size: int,
        gradient_steps: int,
        env_steps_per_update: int,
        target_update_period: int,
        gamma: float,
        epsilon: float,
        seed: int,
        frame_stack: int = 1,
        reward_clip: float | None = None,
        update: Update = Update.auto,
    ) -> None:
        torch.set_flush_denormal(True)
        torch.manual_seed(seed)
        space: Any = envs.single_observation_space
        buffer = ReplayBuffer(
            capacity,
            envs.num_envs,
            space.shape,
            stored_dtype(space),
            gamma=gamma,
            frame_stack=frame_stack,
            reward_clip=reward_clip,
        )
        self.num_actions = int(envs.single_action_space.n)  # type: ignore[attr-defined]
        online = network(stacked_shape(frame_stack, space.shape), self.num_actions)
        target = copy.deepcopy(online).requires_grad_(False)
        self.learner = Learner(
            online,
            target,
            objective,
            optimizer(online.parameters()),
            target_update_period=target_update_period,
            update=update,
        )
        self.store = Replay(buffer, sampler)
        self.collector = Collector(Player(envs, buffer.frame_stack, seed), EpsilonGreedy(epsilon), self.store)
        self.batch_size = batch_size
        self.gradient_steps = gradient_steps
        self.env_steps_per_chunk = gradient_steps * env_steps_per_update
        self._generator = np.random.default_rng(seed)
        self.collector.warm_up(self, min_replay_size, transitions=batch_size)

    @torch.inference_mode()
    def preferences(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        """Q(s, ·), by which the policy acts."""
        return self.learner.online(torch.as_tensor(observation)).numpy()

    def run(self, env_step: int, after_each: Callable[[int], None] = lambda env_step: None) -> None:
        """Continue learning up to an env step; `after_each` is called after each chunk with the number of env steps."""
        while self.collector.env_step < env_step:
            self.collector.collect(self, self.env_steps_per_chunk)
            drawn = self.store.draw(self.gradient_steps, self.batch_size, self._generator, self.collector.env_step)
            self.learner.update_many(drawn.batches)
            after_each(self.collector.env_step)
