"""lit_dqn without Lightning."""

from functools import partial
from typing import Any

from contestants import lit_dqn as with_lightning
from side_by_side import Stopwatch, Work

SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    work: {"bare loop": settings} for work, runs in with_lightning.SETTINGS.items() for settings in runs.values()
}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {work: {} for work in SETTINGS}


def measure(
    work: Work, steps: int, stopwatch: Stopwatch, *, num_envs: int, gradient_steps: int, update: str = "auto"
) -> None:
    """Learn, and lap around the last `steps` env steps.

    Args:
        work: what is done.
        steps: env steps that are timed.
        stopwatch: lapped at their beginning and end.
        num_envs: played side by side.
        gradient_steps: updates in a chunk.
        update: how they are computed.

    """
    import torch

    from bare_loop import BareLoop
    from lit_dqn import MLP, NatureCNN, QLearning, Uniform
    from lit_dqn.envs import make_vec
    from lit_dqn.learning.learner import Update

    loop = BareLoop(
        make_vec(work.env_id, num_envs),
        NatureCNN if work.images else MLP,
        objective=QLearning(huber_delta=1.0),
        optimizer=partial(torch.optim.Adam, lr=work.learning_rate, fused=True),
        sampler=Uniform(replacement=True),
        capacity=work.capacity,
        min_replay_size=work.min_replay_size,
        batch_size=work.batch_size,
        gradient_steps=gradient_steps,
        env_steps_per_update=work.env_steps_per_update,
        target_update_period=work.target_update_period,
        gamma=work.gamma,
        epsilon=work.epsilon,
        seed=work.seed,
        frame_stack=4 if work.images else 1,
        reward_clip=1.0 if work.images else None,
        update=Update(update),
    )
    first = work.min_replay_size + work.burn_in
    loop.run(first - loop.env_steps_per_chunk)
    loop.run(first + steps, lambda env_step: stopwatch.lap(env_step) if env_step >= first else None)
