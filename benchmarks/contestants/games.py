"""Envs for the peers, by Gymnasium's own wrappers and by EnvPool."""

from typing import Any

import ale_py
import gymnasium

from side_by_side import Work

gymnasium.register_envs(ale_py)


def make_single(work: Work) -> gymnasium.Env:
    """One env; Pong's observations are uint8 [4, 84, 84]."""
    if not work.images:
        return gymnasium.make(work.env_id)
    # ALE's own frame skip cannot take the maximum of the last two frames, so the wrapper skips.
    env = gymnasium.make(work.env_id, frameskip=1)  # repeat_action_probability is 0.25 by the id
    env = gymnasium.wrappers.AtariPreprocessing(env, noop_max=0, frame_skip=4)
    return gymnasium.wrappers.FrameStackObservation(env, 4)


def make_pool(work: Work, num_envs: int) -> Any:
    """Envs of EnvPool, with the observations of `make_single`."""
    import envpool

    # More threads than cores do not help.
    threads = {"num_envs": num_envs, "num_threads": min(num_envs, 2), "seed": work.seed}
    if not work.images:
        return envpool.make_gymnasium(work.env_id, **threads)
    return envpool.make_gymnasium(
        work.env_id.removeprefix("ALE/"), repeat_action_probability=0.25, noop_max=1, stack_num=4, **threads
    )


def make_vector(work: Work, num_envs: int, *, ale: bool) -> Any:
    """Envs side by side, with the observations of `make_single`: ALE's own in C++, or Gymnasium's in this process."""
    from gymnasium.vector import AutoresetMode, SyncVectorEnv

    if ale:
        # It has no mode without auto-reset.
        return ale_py.AtariVectorEnv(
            work.env_id.removeprefix("ALE/").removesuffix("-v5").lower(),
            num_envs,
            repeat_action_probability=0.25,
            noop_max=0,
            use_fire_reset=False,
            autoreset_mode=AutoresetMode.SAME_STEP,
        )
    return SyncVectorEnv([lambda: make_single(work)] * num_envs, autoreset_mode=AutoresetMode.DISABLED)
