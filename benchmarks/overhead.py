"""The cost of Lightning: lit_dqn's command line against a loop of the same parts without it, on Pong and CartPole.

    python benchmarks/overhead.py

Both do the work of pong.py and cartpole.py with the same settings. The figures mean something on a quiet machine only.
"""

from side_by_side import CARTPOLE, PONG, Benchmark

if __name__ == "__main__":
    Benchmark(
        __file__,
        __doc__,
        ["lit_dqn", "bare"],
        steps={PONG: 3200, CARTPOLE: 80_000},
        goals={PONG.name: 0.97, CARTPOLE.name: 0.93},
    ).main()
