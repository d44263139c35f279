"""lit_dqn's command line, with its callbacks, TensorBoard and progress bar."""

import os
import sys
import tempfile
from typing import Any

from processes import ROOT
from side_by_side import Stopwatch, Work

SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "pong": {"lit_dqn": {"num_envs": 8, "gradient_steps": 8}},
    "cartpole": {"lit_dqn": {"num_envs": 10, "gradient_steps": 8, "update": "compiled"}},
}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "pong": {
        "lit_dqn, 1 env": {"num_envs": 1, "gradient_steps": 1},
        "lit_dqn, 8 envs, 2 updates a chunk": {"num_envs": 8, "gradient_steps": 2},
    },
    "cartpole": {
        "lit_dqn, not compiled": {"num_envs": 10, "gradient_steps": 8},
        "lit_dqn, neither compiled nor in chunks": {"num_envs": 10, "gradient_steps": 1},
    },
}


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
    os.environ["FORCE_COLOR"] = "1"  # the progress bar is drawn although nobody sees it, for a person's run has one
    from contestants.laps import Laps
    from lit_dqn.commands.cli import main

    Laps.stopwatch = stopwatch
    first = work.min_replay_size + work.burn_in
    with tempfile.TemporaryDirectory() as folder:
        arguments = {
            "seed_everything": work.seed,
            "data.num_envs": num_envs,
            "data.gradient_steps": gradient_steps,
            "data.env_steps_per_update": work.env_steps_per_update,
            "data.batch_size": work.batch_size,
            "data.capacity": work.capacity,
            "data.min_replay_size": work.min_replay_size,
            # Neither evaluations nor checkpoints while time is taken: no peer has them.
            "data.updates_per_epoch": 1_000_000 * gradient_steps,
            "trainer.limit_val_batches": 0,
            "trainer.precision": "bf16-mixed" if work.bf16 else "32-true",
            "data.gamma": work.gamma,
            "data.n_step": 1,
            "data.policy.init_args.epsilon": work.epsilon,
            "model.update": update,
            "model.objective": "QLearning",
            "model.objective.init_args.huber_delta": 1.0,
            "model.optimizer.init_args.lr": work.learning_rate,
            "model.target_update_period": work.target_update_period,
            "model.max_grad_norm": "null",
            "stop.max_env_steps": first + steps,
            "trainer.logger.init_args.save_dir": folder,
            "trainer.callbacks+": "contestants.laps.Laps",
            "trainer.callbacks.init_args.first": first,
        }
        words = (f"--{key}={value}" for key, value in arguments.items())
        sys.argv = ["lit_dqn", "fit", "--config", str(ROOT / work.config), *words]
        main()
