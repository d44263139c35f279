"""Env steps/s on Pong, beside Stable-Baselines3, CleanRL, Tianshou and TorchRL.

    python benchmarks/pong.py --peer-python .venv-peers/bin/python --cleanrl .venv-peers/cleanrl

The CNN of Mnih et al. (2015), 32 transitions in a batch, one update for each 4 agent steps, in the learning phase;
games as ALE/Pong-v5 means them (sticky actions 0.25, 4 frames a step), 84 x 84 pixels, 4 frames stacked. Networks
compute in float32, with --bf16 all in bfloat16. benchmarks/peers.txt says how to get the peers; each runs with the
settings that were fastest here (contestants/, --variants). The figures mean something on a quiet machine only.
"""

from side_by_side import PONG, Benchmark

if __name__ == "__main__":
    Benchmark(
        __file__,
        __doc__,
        ["lit_dqn", "stable_baselines3", "cleanrl", "tianshou", "torchrl"],
        steps={PONG: 1600},
        goals={PONG.name: 1.4},
    ).main()
