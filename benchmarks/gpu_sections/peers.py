"""The same work by others: DQN, Nature CNN, batches of 32, an update for four agent steps of sticky Pong.

Stable-Baselines3 has no Double DQN, so that lit_dqn does here what it does: Q-learning of one step.
"""

import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from gpu_sections.cases import Case, Figure
from gpu_sections.loops import LAP, LEAST, SETTLING, Loop, case_of
from gpu_sections.measuring import Bench, arithmetic
from side_by_side import PONG

OURS = {
    "model.objective": "QLearning",
    "model.objective.init_args.huber_delta": 1.0,
    "model.target_update_period": PONG.target_update_period,
    "data.n_step": 1,
}
LOOPS = (Loop(64, play_ahead=True), Loop(8, play_ahead=False))
STABLE_BASELINES3 = {
    "8 envs in processes": {"num_envs": 8, "processes": True},
    "16 envs in processes": {"num_envs": 16, "processes": True},
    "8 envs": {"num_envs": 8},
    "32 envs in processes": {"num_envs": 32, "processes": True},
}
"""Settings of contestants/stable_baselines3.py, besides fused Adam and Gymnasium's wrappers, its fastest on a CPU."""


def cases(bench: Bench) -> list[Case]:
    """lit_dqn by its quickest loop first."""
    if find_spec("stable_baselines3") is None:
        raise ModuleNotFoundError("Stable-Baselines3 is not installed: pip install -e '.[benchmark]'")
    ours = LOOPS[1:] if bench.smoke else LOOPS
    theirs = {"4 envs": {"num_envs": 4}} if bench.smoke else STABLE_BASELINES3
    least = 2.0 if bench.smoke else LEAST
    return [
        *(Case(f"lit_dqn, {loop.name}", case_of(bench, loop, **OURS), least, least + 4) for loop in ours),
        # Its processes need seconds to start.
        *(
            Case(f"Stable-Baselines3, {name}", _stable_baselines3(bench, settings), least + 5, least + 8)
            for name, settings in theirs.items()
        ),
    ]


def _stable_baselines3(bench: Bench, settings: dict[str, Any]) -> Callable[[float], Figure]:
    def measure(seconds: float) -> Figure:
        from stable_baselines3.common.callbacks import BaseCallback

        from contestants.stable_baselines3 import make_agent

        end = time.perf_counter() + seconds
        laps: list[tuple[float, int]] = []
        settling, lap = (0.1, 0.1) if bench.smoke else (SETTLING, LAP)

        class Laps(BaseCallback):
            learning_since: float | None = None

            def _on_step(self) -> bool:
                now = time.perf_counter()
                if self.num_timesteps <= work.min_replay_size:
                    return True
                self.learning_since = self.learning_since or now
                if now - self.learning_since > settling and (not laps or now - laps[-1][0] > lap):
                    bench.synchronise()
                    laps.append((time.perf_counter(), self.num_timesteps))
                return now < end or len(laps) < 5

        work = replace(PONG, min_replay_size=100, capacity=2_000, batch_size=4) if bench.smoke else PONG
        with arithmetic("torch's default"):
            agent = make_agent(work, fused=True, games="gymnasium", device=bench.device.type, **settings)
            try:
                agent.learn(10**9, callback=Laps(), log_interval=None)
            finally:
                agent.env.close()
        pairs = itertools.pairwise(laps)
        return Figure.of([(step - first) / (now - began) for (began, first), (now, step) in pairs], "agent steps/s")

    return measure
