"""Milliseconds from observations in the host's memory to the agent's action values in the host's memory."""

import inspect
from typing import Any

import numpy as np

from gpu_sections.cases import Case, Figure
from gpu_sections.measuring import Bench
from lit_dqn import LitDQN

SHAPE, ACTIONS = (4, 84, 84), 6
COPIES = 16
"""Sets of observations in turn, so that none waits in a cache."""


def cases(bench: Bench) -> list[Case]:
    """By the number of observations, as `data.num_envs` has them."""
    return [_case(bench, number, way) for number in ((2,) if bench.smoke else (8, 64, 1)) for way in ("graph", "eager")]


def _case(bench: Bench, number: int, way: str) -> Case:
    def measure(seconds: float) -> Figure:
        agent = LitDQN(SHAPE, ACTIONS, **_update(way)).to(bench.device)
        generator = np.random.default_rng(0)
        observations = generator.integers(0, 256, (COPIES, number, *SHAPE), np.uint8)
        calls = 0

        def act() -> None:
            nonlocal calls
            agent.preferences(observations[calls % COPIES])
            calls += 1

        return bench.milliseconds(act, seconds)

    return Case(f"{number} observations, {way}", measure)


def _update(way: str) -> dict[str, Any]:
    if "update" in inspect.signature(LitDQN).parameters:
        return {"update": way}
    if way == "eager":
        return {}  # the only way that there is
    raise RuntimeError(f"this lit_dqn has no model.update {way}")
