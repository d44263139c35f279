"""CleanRL's dqn.py and dqn_atari.py, unchanged from a clone, with a clock around their envs."""

import contextlib
import functools
import os
import runpy
import sys
import tempfile
from pathlib import Path
from typing import Any

from side_by_side import Stopwatch, Work

# One env is all that the files allow. They build Adam without `fused`; who copies them, as CleanRL is meant to be used,
# can add it.
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    name: {"CleanRL": {"fused": False}, "CleanRL, fused Adam": {"fused": True}} for name in ("pong", "cartpole")
}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {"pong": {}, "cartpole": {}}


class _TimedEnough(Exception):
    pass


def measure(work: Work, steps: int, stopwatch: Stopwatch, *, fused: bool, clone: str | None) -> None:
    """Learn, and lap around the last `steps` env steps.

    Args:
        work: what is done.
        steps: env steps that are timed.
        stopwatch: lapped at their beginning and end.
        fused: Adam in one kernel.
        clone: of CleanRL's repository.

    """
    if clone is None:
        sys.exit("no clone of CleanRL is given (--cleanrl)")
    script = Path(clone) / "cleanrl" / ("dqn_atari.py" if work.images else "dqn.py")
    if not script.exists():
        sys.exit(f"{clone} has no cleanrl/{script.name}")
    import torch

    if fused:
        torch.optim.Adam = functools.partial(torch.optim.Adam, fused=True)  # type: ignore[misc]
    first = work.min_replay_size + work.burn_in
    _as_in_gymnasium_0(first, first + steps, stopwatch)
    sys.path.insert(0, clone)
    arguments = {
        "env-id": _register(work),
        "total-timesteps": first + steps + 1,
        "learning-rate": work.learning_rate,
        "buffer-size": work.capacity,
        "gamma": work.gamma,
        "target-network-frequency": work.target_update_period * work.env_steps_per_update,
        "batch-size": work.batch_size,
        "start-e": work.epsilon,
        "end-e": work.epsilon,
        "learning-starts": work.min_replay_size,
        "train-frequency": work.env_steps_per_update,
        "seed": work.seed,
    }
    sys.argv = [
        str(script),
        "--no-cuda",
        *(word for key, value in arguments.items() for word in (f"--{key}", str(value))),
    ]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # it writes to ./runs
        with contextlib.suppress(_TimedEnough):
            runpy.run_path(str(script), run_name="__main__")
        os.chdir("/")


def _register(work: Work) -> str:
    """Its file skips frames itself, and can give its env no arguments."""
    if not work.images:
        return work.env_id
    import gymnasium

    import contestants.games  # noqa: F401 - registers the games

    spec = gymnasium.spec(work.env_id)
    gymnasium.register("OneFrame-v5", entry_point=spec.entry_point, kwargs={**spec.kwargs, "frameskip": 1})
    return "OneFrame-v5"


def _as_in_gymnasium_0(first: int, last: int, stopwatch: Stopwatch) -> None:
    """Give Gymnasium 1 the names that CleanRL knows from 0.29, and lap at env steps `first` and `last`."""
    import gymnasium
    from gymnasium.vector import AutoresetMode, SyncVectorEnv

    class Envs(SyncVectorEnv):
        def __init__(self, env_fns: list[Any]) -> None:
            super().__init__(env_fns, autoreset_mode=AutoresetMode.SAME_STEP)
            self.steps = 0

        def step(self, actions: Any) -> Any:
            if self.steps in (first, last):
                stopwatch.lap(self.steps)
            if self.steps == last:
                raise _TimedEnough
            self.steps += 1
            *result, infos = super().step(actions)
            if "final_obs" in infos:
                infos["final_observation"] = infos.pop("final_obs")
                final = infos.pop("final_info")
                infos["final_info"] = (
                    [
                        {"episode": {key: values[env] for key, values in final["episode"].items()}} if ended else None
                        for env, ended in enumerate(final["_episode"])
                    ]
                    if "episode" in final
                    else []
                )
            return (*result, infos)

    gymnasium.vector.SyncVectorEnv = Envs  # type: ignore[misc]
    gymnasium.wrappers.GrayScaleObservation = gymnasium.wrappers.GrayscaleObservation
    gymnasium.wrappers.FrameStack = gymnasium.wrappers.FrameStackObservation
