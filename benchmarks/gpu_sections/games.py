"""The games alone, on all cores: sticky Pong, four frames a step, with random actions."""

import numpy as np

from gpu_sections.cases import Case, Figure
from gpu_sections.measuring import Bench
from lit_dqn.envs import make_vec
from side_by_side import PONG

NUM_ENVS = (8, 64, 16, 32, 128, 1)
STEPS = 1_000
"""Number of steps for which actions are drawn before the measurement."""


def cases(bench: Bench) -> list[Case]:
    """By the number of envs."""
    return [_case(bench, num_envs) for num_envs in ((2,) if bench.smoke else NUM_ENVS)]


def _case(bench: Bench, num_envs: int) -> Case:
    def measure(seconds: float) -> Figure:
        envs = make_vec(PONG.env_id, num_envs)
        try:
            envs.reset(seed=PONG.seed)
            num_actions = int(envs.single_action_space.n)  # type: ignore[attr-defined]
            actions = np.random.default_rng(PONG.seed).integers(0, num_actions, (STEPS, num_envs))
            steps = 0

            def step() -> None:
                nonlocal steps
                _, _, terminated, truncated, _ = envs.step(actions[steps % STEPS])
                steps += 1
                ended = terminated | truncated
                if ended.any():
                    envs.reset(options={"reset_mask": ended})

            repeats = bench.time_of(step, seconds)
        finally:
            envs.close()
        return Figure.of([num_envs / repeat for repeat in repeats], "agent steps/s")

    return Case(f"{num_envs} envs", measure, most=3.0)
