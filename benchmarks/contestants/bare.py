"""A loop without Lightning, of lit_dqn's own parts."""

import copy
from types import SimpleNamespace
from typing import Any

from contestants import lit_dqn as with_lightning
from side_by_side import Stopwatch, Work

SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    work: {"bare loop": settings} for work, runs in with_lightning.SETTINGS.items() for settings in runs.values()
}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {work: {} for work in SETTINGS}


def measure(work: Work, steps: int, stopwatch: Stopwatch, *, num_envs: int, gradient_steps: int) -> None:
    """Learn, and lap around the last `steps` env steps.

    Args:
        work: what is done.
        steps: env steps that are timed.
        stopwatch: lapped at their beginning and end.
        num_envs: played side by side.
        gradient_steps: updates in a chunk.

    """
    import numpy as np
    import torch

    from lit_dqn.envs import make_vec, stored_dtype
    from lit_dqn.learning.networks import MLP, NatureCNN, update_target
    from lit_dqn.learning.objectives import QLearning
    from lit_dqn.playing.collector import Collector
    from lit_dqn.playing.policies import EpsilonGreedy
    from lit_dqn.replay import ReplayBuffer, Uniform, stacked_shape

    torch.set_flush_denormal(True)
    torch.manual_seed(work.seed)
    generator = np.random.default_rng(work.seed)
    frame_stack = 4 if work.images else 1
    envs = make_vec(work.env_id, num_envs)
    space = envs.single_observation_space
    replay = ReplayBuffer(
        work.capacity,
        num_envs,
        space.shape,
        stored_dtype(space),
        gamma=work.gamma,
        frame_stack=frame_stack,
        reward_clip=1.0 if work.images else None,
    )
    collector = Collector(envs, EpsilonGreedy(work.epsilon), replay, work.seed)
    sampler = Uniform(replacement=True)
    shape = stacked_shape(frame_stack, space.shape)
    num_actions = int(envs.single_action_space.n)
    online = (NatureCNN if work.images else MLP)(shape, num_actions)
    target = copy.deepcopy(online).requires_grad_(False)
    objective = QLearning(huber_delta=1.0)
    optimizer = torch.optim.Adam(online.parameters(), lr=work.learning_rate, fused=True)

    @torch.inference_mode()
    def preferences(observation: Any) -> Any:
        return online(torch.as_tensor(observation)).numpy()

    agent = SimpleNamespace(num_actions=num_actions, preferences=preferences)
    first = work.min_replay_size + work.burn_in
    updates = 0
    collector.warm_up(agent, work.min_replay_size, starts=work.batch_size)
    while collector.env_step < first + steps:
        collector.collect(agent, gradient_steps * work.env_steps_per_update)
        batches = [
            replay.sample(sampler.sample(replay.starts, work.batch_size, generator)) for _ in range(gradient_steps)
        ]
        for batch in batches:
            loss = objective(online, target, batch).loss.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            updates += 1
            if updates % work.target_update_period == 0:
                update_target(online, target)
        if collector.env_step >= first:
            stopwatch.lap(collector.env_step)
