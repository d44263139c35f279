"""Env steps/s on CartPole, beside Stable-Baselines3, CleanRL, Tianshou and TorchRL.

    python benchmarks/cartpole.py --peer-python .venv-peers/bin/python --cleanrl .venv-peers/cleanrl

An MLP of 120 and 84 units, 128 transitions in a batch, one update for each 10 env steps, in the learning phase.
benchmarks/peers.txt says how to get the peers; each runs with the settings that were fastest here (contestants/,
--variants). The figures mean something on a quiet machine only.
"""

from side_by_side import CARTPOLE, Benchmark

if __name__ == "__main__":
    Benchmark(
        __file__,
        __doc__,
        ["lit_dqn", "stable_baselines3", "cleanrl", "tianshou", "torchrl"],
        steps={CARTPOLE: 40_000},
        goals={CARTPOLE.name: 1.8},
    ).main()
