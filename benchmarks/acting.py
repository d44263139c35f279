"""Env steps/s without learning, by the number of envs: the envs alone, and lit_dqn's collector acting by its network.

    python benchmarks/acting.py

"envs" steps the vector env with random actions; "collector" also asks the network for actions (ε 0.05), stacks frames
and stores timesteps.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from processes import MARK, add_options, machine, run_process, versions, write
from side_by_side import CARTPOLE, PONG, Work

WORKS = {work.name: work for work in (PONG, CARTPOLE)}
NUM_ENVS = [1, 2, 4, 8, 16, 32]


def measure(work: Work, num_envs: int, seconds: float) -> dict[str, float]:
    """Env steps/s of both, in this process."""
    import numpy as np
    import torch

    from lit_dqn.envs import make_vec, stored_dtype
    from lit_dqn.learning.networks import MLP, NatureCNN
    from lit_dqn.playing.collector import Collector
    from lit_dqn.playing.player import Player
    from lit_dqn.playing.policies import EpsilonGreedy
    from lit_dqn.replay import Replay, ReplayBuffer, Uniform

    envs = make_vec(work.env_id, num_envs)
    space = envs.single_observation_space
    num_actions = int(envs.single_action_space.n)
    frame_stack, shape = (4, (4, 84, 84)) if work.images else (1, space.shape)
    online = (NatureCNN if work.images else MLP)(shape, num_actions)

    @torch.inference_mode()
    def preferences(observation: Any) -> Any:
        return online(torch.as_tensor(observation)).numpy()

    agent = SimpleNamespace(num_actions=num_actions, preferences=preferences)
    dtype = stored_dtype(space)
    replay = ReplayBuffer(50_000, num_envs, space.shape, dtype, gamma=work.gamma, frame_stack=frame_stack)
    collector = Collector(Player(envs, frame_stack, work.seed), EpsilonGreedy(work.epsilon), Replay(replay, Uniform()))
    collector.collect(agent, 100 * num_envs)
    collector_speed = _speed(lambda: collector.collect(agent, 10 * num_envs), 10 * num_envs, seconds)
    envs.close()

    envs = make_vec(work.env_id, num_envs)
    envs.reset(seed=work.seed)
    actions = np.random.default_rng(work.seed).integers(0, num_actions, (1000, num_envs))
    steps = iter(range(10**9))

    def step() -> None:
        _, _, terminated, truncated, _ = envs.step(actions[next(steps) % len(actions)])
        if (terminated | truncated).any():
            envs.reset(options={"reset_mask": terminated | truncated})

    for _ in range(100):
        step()
    return {"envs": _speed(step, num_envs, seconds), "collector": collector_speed}


def _speed(call: Any, env_steps: int, seconds: float) -> float:
    calls, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        call()
        calls += 1
    return calls * env_steps / elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, Path(__file__).stem)
    parser.add_argument("--seconds", type=float, default=4.0, help="each speed is measured for (default: 4)")
    parser.add_argument("--run", nargs=2, metavar=("WORK", "NUM_ENVS"), help=argparse.SUPPRESS)  # one process
    options = parser.parse_args()
    if options.run:
        name, num_envs = options.run
        print(f"{MARK}{json.dumps(measure(WORKS[name], int(num_envs), options.seconds))}")
        return
    record = machine(options) | {"versions": versions(options, ["lit_dqn"])}
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    results: dict[str, dict[str, dict[str, float]]] = {}
    print("| env steps/s | envs side by side | envs | collector |\n|---|---|---|---|")
    for name in WORKS:
        for number in NUM_ENVS:
            command = [sys.executable, __file__, "--run", name, str(number), "--seconds", str(options.seconds)]
            speeds = json.loads(run_process(command).rpartition(MARK)[2])
            results.setdefault(name, {})[str(number)] = speeds
            print(f"| {name} | {number} | {speeds['envs']:,.0f} | {speeds['collector']:,.0f} |", flush=True)
    write(options, record | {"results": results})


if __name__ == "__main__":
    main()
