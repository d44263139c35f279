"""The cost of a step by place: in this process, in separate processes, in Ray actors.

    python benchmarks/places.py            # some minutes; needs ray, and ale-py for Pong

CPU time is that of this process and of all that it has begun, Ray's own processes included; each figure is the median
of several rounds, in which the places take turns.
"""

import argparse
import os
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import psutil
import torch

sys.path.insert(0, str(Path(__file__).parent))  # actors find `slow_env` by its name
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])

from lit_dqn import MLP, NatureCNN, RayActors, make_env
from lit_dqn.envs import make_vec, stored_dtype
from lit_dqn.playing.actor import PlayerSpec
from lit_dqn.playing.collector import Collector
from lit_dqn.playing.distant import DistantPlayers
from lit_dqn.playing.player import Player
from lit_dqn.playing.policies import EpsilonGreedy
from lit_dqn.replay import Replay, ReplayBuffer, Uniform, stacked_shape

SLOW = "places:lit_dqn_benchmarks/Slow-v0"
ENVS, SECONDS = 8, 0.005


class Slow(gymnasium.Wrapper):
    """CartPole, whose steps wait as for another machine."""

    def __init__(self) -> None:
        super().__init__(gymnasium.make("CartPole-v1"))

    def step(self, action: Any) -> Any:
        time.sleep(SECONDS)
        return super().step(action)


if SLOW.split(":")[1] not in gymnasium.registry:
    gymnasium.register(SLOW.split(":")[1], Slow, disable_env_checker=True)

WORKS = {  # env, frames in an observation, steps of each env in a chunk, chunks in a round
    "CartPole": ("CartPole-v1", 1, 8, 40),
    "Pong": ("ALE/Pong-v5", 4, 8, 10),
    "5 ms": (SLOW, 1, 8, 3),
}


def collector_of(env_id: str, frame_stack: int, place: str) -> tuple[Collector, Any]:
    env = make_env(env_id)
    shape, dtype = env.observation_space.shape, stored_dtype(env.observation_space)
    num_actions = int(env.action_space.n)
    observation_shape = stacked_shape(frame_stack, shape)
    torch.manual_seed(0)
    online = (NatureCNN if len(observation_shape) == 3 else MLP)(observation_shape, num_actions)

    @torch.inference_mode()
    def preferences(observation: Any) -> Any:
        return online(torch.as_tensor(observation)).numpy()

    agent = SimpleNamespace(num_actions=num_actions, preferences=preferences, online=online)
    buffer = ReplayBuffer(20_000, ENVS, shape, dtype, gamma=0.99, frame_stack=frame_stack)
    make_envs = partial(make_vec, env_id)
    if place.startswith("ray"):
        actors = int(place.split()[1])
        spec = PlayerSpec(make_envs, ENVS // actors, ENVS, ENVS, 0, frame_stack, 1, num_actions, False)
        players: Any = DistantPlayers(spec, RayActors(actors, ENVS // actors), True, np.zeros(observation_shape, dtype))
    else:
        players = Player(make_envs(ENVS, processes=place == "processes"), frame_stack, 1)
    return Collector(players, EpsilonGreedy(0.1), Replay(buffer, Uniform())), agent


def cpu_seconds() -> float:
    total = time.process_time()
    for process in psutil.Process().children(recursive=True):
        try:
            times = process.cpu_times()
            total += times.user + times.system
        except psutil.NoSuchProcess:
            pass
    return total


def measure(work: str, rounds: int) -> None:
    env_id, frame_stack, steps, chunks = WORKS[work]
    # ALE's games have threads of their own instead of processes. One Ray at a time: it belongs to the process.
    places = ["here", *(["processes"] if work != "Pong" else []), "ray 1", "ray 2"]
    for group in (places[:-2], places[-2:-1], places[-1:]):
        playing = {place: collector_of(env_id, frame_stack, place) for place in group}
        figures: dict[str, list[tuple[float, float]]] = {place: [] for place in group}
        for collector, agent in playing.values():
            collector.collect(agent, 2 * steps * ENVS)
        for _ in range(rounds):
            for place, (collector, agent) in playing.items():
                cpu, wall = cpu_seconds(), time.perf_counter()
                for _ in range(chunks):
                    collector.collect(agent, steps * ENVS)
                count = chunks * steps * ENVS
                figures[place].append(((cpu_seconds() - cpu) / count, (time.perf_counter() - wall) / count))
        for place, found in figures.items():
            cpu, wall = (statistics.median(column) for column in zip(*found, strict=True))
            print(f"| {work} | {place} | {cpu * 1e6:,.0f} | {wall * 1e6:,.0f} | {1 / wall:,.0f} |", flush=True)
        for collector, _ in playing.values():
            collector.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| env | played | CPU time of an env step, us | wall time, us | env steps/s |\n|---|---|---|---|---|")
    for work in arguments.works:
        measure(work, arguments.rounds)


if __name__ == "__main__":
    main()
