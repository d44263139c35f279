"""What `fit --plan` says of envs that are played elsewhere: where the time goes, and what more actors would bring."""

import os
import time
from functools import partial
from typing import NamedTuple

from lit_dqn.envs import is_atari, make_vec
from lit_dqn.playing.actor import Tape
from lit_dqn.playing.player import Player
from lit_dqn.playing.policies import UniformRandom
from lit_dqn.training.data import ReplayDataModule
from lit_dqn.training.settings import Nobody

MEASURED_SECONDS = 0.5
"""Of steps of one env."""

CLEARLY = 1.2
"""A way to play that is so much faster is worth a word."""


class StepCost(NamedTuple):
    """What one step of one env takes, in seconds."""

    wall: float
    cpu: float  # of this process; the rest it waits


def measure_steps(data: ReplayDataModule) -> StepCost:
    """Play one env at random for a moment, here."""
    envs = make_vec(data.env_id, 1, data.env_kwargs, data.wrappers, action_mask=data.action_mask)
    player = Player(envs, data.frame_stack, data.seed, action_mask=data.action_mask)
    play = partial(player.play, Nobody(data.num_combinations), UniformRandom(), env_step=0, recorder=Tape(0))
    try:
        play(steps=1)  # the first episode begins
        steps, wall, cpu = 0, time.perf_counter(), time.process_time()
        while steps == 0 or time.perf_counter() - wall < MEASURED_SECONDS:
            play(steps=1)
            steps += 1
        return StepCost((time.perf_counter() - wall) / steps, (time.process_time() - cpu) / steps)
    finally:
        player.close()


def describe_place(data: ReplayDataModule, step: StepCost, cores: int | None = None) -> str:
    """How fast the envs can be played by their own cost alone, here and elsewhere.

    Args:
        data: of a run with a place.
        step: of one env.
        cores: of this machine; None: as many as it has.

    """
    place = data.place
    assert place is not None
    cores = cores or os.cpu_count() or 1
    players = data.num_envs // place.envs_per_player
    said = f"a step of one env takes {step.wall * 1e3:,.2f} ms, of which it computes {step.cpu * 1e3:,.2f} ms; "
    said += f"{place.actors} actor{'s' if place.actors > 1 else ''}, each of which steps its envs one after the other, "
    said += f"play at most {place.actors / step.wall:,.0f} env steps/s"
    if players > place.actors:
        said += f", and {players}, one for each player, {players / step.wall:,.0f}"
    elif place.envs_per_player > 1:
        said += f"; envs_per_player 1 and {data.num_envs} actors {data.num_envs / step.wall:,.0f}"
    here = processes_per_second(data.num_envs, step, cores)
    if not is_atari(data.env_id) and here > CLEARLY * place.actors / step.wall:
        said += (
            f"; on this machine --data.place null --data.env_processes true plays up to {here:,.0f}, for each env has "
            "a process"
        )
    return said


def processes_per_second(num_envs: int, step: StepCost, cores: int) -> float:
    """Env steps of envs in processes of their own: all at once while they wait, a core for each while they compute."""
    return min(num_envs / step.wall, cores / max(step.cpu, 1e-9))


def describe_time(data: ReplayDataModule, step: StepCost, env_steps_per_second: float) -> str:
    """Where the time of an env step of a trial went.

    Args:
        data: of a run with a place.
        step: of one env.
        env_steps_per_second: of the trial.

    """
    assert data.place is not None
    whole = 1 / env_steps_per_second
    envs = min(step.wall / data.place.actors, whole)
    return (
        f"an env step took {whole * 1e3:,.2f} ms, of which the envs {envs * 1e3:,.2f} ms ({envs / whole:.0%}); the "
        "rest acted, sent, stored and learned, where more actors bring nothing"
    )
