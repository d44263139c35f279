"""The cost of a step by place: in this process, in separate processes, in Ray actors.

    python benchmarks/places.py            # some minutes; needs ray, and ale-py for Pong
    unshare --net sh -c "ip link set lo up; python benchmarks/places.py --exchange"    # as root

With `--exchange`: what an update's exchange of gradients costs each of several processes, with `data.strict` and
without, by gloo over the loopback interface, whose bytes are counted; with another program on it they mean nothing.

CPU time is that of this process and of all that it has begun, Ray's own processes included, and that of this process
alone, which bounds the env steps that a learner can take in. Each figure is the median of several rounds, in which the
places take turns. The start-up is from nothing until the first two chunks are stored: Ray, actors, envs.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import psutil
import torch
import torch.distributed as dist
import torch.multiprocessing

sys.path.insert(0, str(Path(__file__).parent))  # actors find `slow_env` by its name
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])

from lit_dqn import MLP, NatureCNN, RayActors, make_env
from lit_dqn.envs import make_vec, stored_dtype
from lit_dqn.playing.actor import PlayerSpec
from lit_dqn.playing.collector import Collector
from lit_dqn.playing.distant import DistantPlayers
from lit_dqn.playing.player import Player
from lit_dqn.playing.policies import EpsilonGreedy
from lit_dqn.ranks import Ranks
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
        playing, start_up = {}, {}
        for place in group:
            began = time.perf_counter()
            playing[place] = collector, agent = collector_of(env_id, frame_stack, place)
            collector.collect(agent, 2 * steps * ENVS)
            start_up[place] = time.perf_counter() - began
        figures: dict[str, list[tuple[float, ...]]] = {place: [] for place in group}
        for _ in range(rounds):
            for place, (collector, agent) in playing.items():
                cpu, own, wall = cpu_seconds(), time.process_time(), time.perf_counter()
                for _ in range(chunks):
                    collector.collect(agent, steps * ENVS)
                spent = cpu_seconds() - cpu, time.process_time() - own, time.perf_counter() - wall
                count = chunks * steps * ENVS
                figures[place].append(tuple(figure / count for figure in spent))
        for place, found in figures.items():
            cpu, own, wall = (statistics.median(column) for column in zip(*found, strict=True))
            row = f"{cpu * 1e6:,.0f} | {own * 1e6:,.0f} | {wall * 1e6:,.0f} | {1 / wall:,.0f} | {start_up[place]:.1f}"
            print(f"| {work} | {place} | {row} |", flush=True)
        for collector, _ in playing.values():
            collector.close()


NETWORKS = {  # and exchanges in a round
    "MLP": (lambda: MLP((4,), 2), 200),
    "NatureCNN": (lambda: NatureCNN((4, 84, 84), 6), 20),
}


def sent_bytes() -> int:
    """What this network namespace has sent over the loopback interface."""
    (line,) = (line for line in Path("/proc/net/dev").read_text().splitlines() if line.split(":")[0].strip() == "lo")
    return int(line.split(":")[1].split()[8])


def exchange(rank: int, count: int, rounds: int, folder: str) -> None:
    """Measure in one of so many processes; the first one prints."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=count)
    ranks = Ranks.now()
    ways = {"true": ranks.add_up, "false": ranks.all_reduce}
    for name, (network, exchanges) in NETWORKS.items():
        gradient = torch.randn(sum(weight.numel() for weight in network().parameters()) + 1)  # and the loss
        figures: dict[str, list[tuple[float, ...]]] = {strict: [] for strict in ways}
        for _ in range(rounds + 1):
            for strict, add_up in ways.items():
                dist.barrier()
                before = sent_bytes(), time.perf_counter(), time.process_time()
                for _ in range(exchanges):
                    add_up(gradient.clone())
                dist.barrier()
                after = sent_bytes() / count, time.perf_counter(), time.process_time()
                spent = after[0] - before[0] / count, after[1] - before[1], after[2] - before[2]
                figures[strict].append(tuple(figure / exchanges for figure in spent))
        for strict, found in figures.items() if rank == 0 else ():
            sent, wall, cpu = (statistics.median(column) for column in zip(*found[1:], strict=True))
            print(f"| {name} | {count} | {strict} | {sent:,.0f} | {wall * 1e3:.2f} | {cpu * 1e3:.2f} |", flush=True)
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--exchange", action="store_true", help="of gradients, instead of steps")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.exchange:
        print("| network | processes | strict | bytes sent by each | wall time, ms | CPU time of the first, ms |")
        print("|---|---|---|---|---|---|")
        for count in (2, 4):
            with tempfile.TemporaryDirectory() as folder:
                torch.multiprocessing.spawn(exchange, (count, arguments.rounds, folder), nprocs=count)
        return
    print(
        "| env | played | CPU time of an env step, us | of this process | wall time, us | env steps/s | start-up, s |"
    )
    print("|---|---|---|---|---|---|---|")
    for work in arguments.works:
        measure(work, arguments.rounds)


if __name__ == "__main__":
    main()
