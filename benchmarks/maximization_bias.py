"""Example 6.7 of Sutton & Barto (2020) by DQN and Double DQN: how often each goes left, where right is better.

    python benchmarks/maximization_bias.py [--runs 100]

The book's two tabular methods become two objectives on one linear network. Everything else is as there: α = 0.1 by
plain gradient descent, ε = 0.1, γ = 1, 300 episodes, an update after every step from that step alone. What differs is
the second table: Double DQN grades by the target network, a copy of the online one that is up to 50 updates old.
"""

import argparse
import copy
import csv
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from lit_dqn import DoubleQLearning, EpsilonGreedy, Latest, QLearning
from lit_dqn.envs import make_vec
from lit_dqn.envs.maximization_bias import LEFT, MAXIMIZATION_BIAS_ID, STATE_A, action_in_a
from lit_dqn.learning.networks import update_target
from lit_dqn.learning.objectives import Objective
from lit_dqn.playing.collector import Collector
from lit_dqn.playing.player import Player
from lit_dqn.replay import Replay, ReplayBuffer

DOCS = Path(__file__).parent.parent / "docs"
EPISODES, EPSILON, STEP_SIZE, TARGET_UPDATE_PERIOD = 300, 0.1, 0.1, 50
# The share of left when right is known to be better: ε / 2.
OPTIMAL_SHARE = EPSILON / 2
OBJECTIVES: dict[str, Objective] = {"DQN": QLearning(), "Double DQN": DoubleQLearning()}
COLOURS = {"DQN": "#d55e00", "Double DQN": "#0072b2"}


class Linear(nn.Module):
    """Q(s, ·) of a one-hot state, 0 at first. A has two values, shared by the actions that do the same there."""

    def __init__(self, num_states: int, num_actions: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_states, num_actions))
        self.register_buffer("twin", torch.tensor([action_in_a(action) for action in range(num_actions)]))

    def forward(self, observation: Tensor) -> Tensor:
        in_a = observation[:, [STATE_A]]
        return in_a * self.weight[STATE_A, self.twin] + (1 - in_a) * (observation @ self.weight)


class Agent:
    """What a policy asks."""

    def __init__(self, network: nn.Module, num_actions: int) -> None:
        self.network = network
        self.num_actions = num_actions

    @torch.inference_mode()
    def preferences(self, observation: NDArray) -> NDArray[np.float32]:
        return self.network(torch.as_tensor(observation)).numpy()


def play(objective: Objective, seed: int, episodes: int = EPISODES) -> NDArray[np.bool_]:
    """One run: whether each of its episodes went left, [episodes]."""
    envs = make_vec(MAXIMIZATION_BIAS_ID, 1)
    num_states, num_actions = envs.single_observation_space.shape[0], int(envs.single_action_space.n)
    online = Linear(num_states, num_actions)
    target = copy.deepcopy(online)
    agent = Agent(online, num_actions)
    optimizer = torch.optim.SGD(online.parameters(), lr=STEP_SIZE)
    store = Replay(ReplayBuffer(1, 1, (num_states,), np.float32, gamma=1.0), Latest())
    collector = Collector(Player(envs, 1, seed), EpsilonGreedy(EPSILON), store)
    went_left, updates = np.zeros(episodes, bool), 0
    generator = np.random.default_rng()  # the newest transition is no draw
    while (episode := collector.episodes) < episodes:
        collector.collect(agent, 1)
        batch = store.draw(1, 1, generator, collector.env_step).batches[0]
        if batch.observation[0, STATE_A]:
            went_left[episode] = action_in_a(int(batch.action)) == LEFT
        optimizer.zero_grad()
        objective(online, target, batch).loss.mean().backward()
        optimizer.step()
        updates += 1
        if updates % TARGET_UPDATE_PERIOD == 0:
            update_target(online, target)
    envs.close()
    return went_left


def plot(shares: dict[str, NDArray[np.float64]], runs: int) -> Figure:
    """The share of left in each episode, as the book's figure 6.5."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, share in shares.items():
        axes.plot(np.arange(1, len(share) + 1), 100 * share, color=COLOURS[name], linewidth=1.4, label=name)
    axes.axhline(100 * OPTIMAL_SHARE, color="#444444", linestyle="--", linewidth=1)
    axes.text(3, 100 * OPTIMAL_SHARE + 1.5, "optimal", color="#444444")
    axes.set(xlabel="episode", ylabel="% left actions from A", ylim=(0, 100), xlim=(1, len(share)))
    axes.set_title(f"Example 6.7: maximization bias, means over {runs} runs", fontsize=11)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    runs = parser.parse_args().runs
    torch.set_num_threads(1)
    shares = {
        name: np.mean([play(objective, seed) for seed in range(runs)], axis=0) for name, objective in OBJECTIVES.items()
    }
    plot(shares, runs).savefig(DOCS / "images" / "maximization_bias.png", dpi=120)
    path = DOCS / "results" / "maximization_bias.csv"
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["episode", *shares])
        writer.writerows(zip(range(1, EPISODES + 1), *(share.round(4) for share in shares.values()), strict=True))
    for name, share in shares.items():
        blocks = ", ".join(f"{100 * block.mean():.0f} %" for block in share.reshape(6, -1))
        print(f"{name}: share of left in episodes 1-50, 51-100, ... 251-300: {blocks}")


if __name__ == "__main__":
    main()
