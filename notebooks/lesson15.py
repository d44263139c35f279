# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Learning to act with neural networks
#
# The lesson for which lit_dqn was built, from the first transition in a buffer to Atari. Every section has one idea,
# one config and one picture. Sources: Sutton & Barto, *Reinforcement Learning: An Introduction* (2020), chapters 6, 9,
# 10, 13 and 16; Mnih et al. 2013 and 2015; van Hasselt et al. 2016.
#
# With `QUICK = True` the notebook runs in minutes: section 6 learns the maze from pixels, and all other mazes use
# one-hot vectors and a small network, which learns the same in a tenth of the time. With `QUICK = False` all mazes are
# learned from pixels, for as long as in the lesson, which takes an hour or more: `docs/results.md` has the times of
# these runs. At the end are five exercises, with solutions.

# %%
QUICK = True

# %%
# %matplotlib inline
import csv
import importlib.util
import json
import logging
import os
import time
from pathlib import Path

import gymnasium
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

import lit_dqn
from lit_dqn import MLP, Run, plots

# The notebook may be anywhere in the project; its runs are saved where those of the command line are.
os.chdir(next(folder for folder in [Path.cwd(), *Path.cwd().parents] if (folder / "configs").is_dir()))
for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.ERROR)
torch.set_num_threads(1)  # networks as small as these gain nothing from more

QUIET = {"trainer.enable_progress_bar": False, "trainer.logger.init_args.save_dir": "lightning_logs/lesson15"}
# What QUICK changes in a maze: states as one-hot vectors, and a small network that learns ten times faster.
SMALL_MAZE = {
    "data.env_kwargs": {"rewards": "reward_1", "observation": "one_hot"},
    "model.network": MLP,
    "model.optimizer.init_args.lr": 1e-3,
}


def train(config, name, overrides=None, *, ckpt_path=None, live=False):
    """Build and fit a run; return it and its duration in seconds."""
    keys = QUIET | {"trainer.logger.init_args.name": name} | (overrides or {})
    run = Run.from_config(config, keys, ckpt_path=ckpt_path)
    started = time.monotonic()
    run.fit(live=live)
    return run, time.monotonic() - started


# %% [markdown]
# ## 1. A buffer of experience
#
# An agent that learns from each step once, in order, forgets quickly and learns from similar steps. A **replay buffer**
# keeps the newest steps and lets the agent learn from them many times.
#
# lit_dqn's buffer stores each *timestep* once. Here is a buffer for six timesteps, and an episode of ten steps that
# simply counts: the observation of step $t$ is the number $t$, the reward is $10t$, and the episode ends after the
# tenth step.

# %%
from lit_dqn.replay import Latest, ReplayBuffer, Uniform
from lit_dqn.types import Timestep


def count_to(steps, n_step=1):
    buffer = ReplayBuffer(6, num_envs=1, observation_shape=(1,), observation_dtype=np.float32, gamma=0.5, n_step=n_step)
    for t in range(steps):
        last = t == 9
        buffer.add(
            Timestep(
                observation=np.array([[t]]),
                action=np.array([0]),
                reward=np.array([10.0 * t]),
                discount=np.array([not last]),  # no future after the last step
                last=np.array([last]),
                next_observation=np.array([[t + 1]]),
            )
        )
    return buffer


def show(batch):
    """A batch is five arrays: s, a, R, discount, s'."""
    columns = {name: getattr(batch, name).flatten().tolist() for name in batch._fields[:5]}
    return pd.DataFrame(columns)


buffer, generator = count_to(10), np.random.default_rng(0)
print(f"of 10 timesteps {len(buffer.starts)} can still be drawn")

# %% [markdown]
# There are two ways to draw a batch: the **latest** transitions, in order, and **uniformly** at random, here without
# replacement. Look at the column `discount`: it is $\gamma$ to the number of steps until $s'$, and 0 where the episode
# ended. It is all that the update rules know about the future: $y = R + \text{discount} \cdot v(s')$.

# %%
show(buffer.sample(Latest().sample(buffer.starts, 4, generator)))

# %%
show(buffer.sample(Uniform().sample(buffer.starts, 4, generator)))

# %% [markdown]
# The same buffer can look further ahead: with `n_step=3` the reward is $r_1 + \gamma r_2 + \gamma^2 r_3$, and windows
# are shorter where the episode ends.

# %%
longer = count_to(10, n_step=3)
show(longer.sample(Latest().sample(longer.starts, 4, generator)))

# %% [markdown]
# ## 2. The world, and what the agent sees
#
# The maze of Sutton & Barto's figure 8.2. Each step costs 1, and the shortest path has 14 steps, so the best return is
# -14. We see numbers, walls and letters; the agent sees a grey image of 50 x 84 pixels and knows nothing about mazes.

# %%
maze = gymnasium.make("lit_dqn/Maze-v0", rewards="reward_1").unwrapped
plots.draw_grid(maze.layout, title="the maze: start S, goal G")

# %%
figure = Figure(figsize=(5, 3), layout="constrained")
figure.add_subplot().imshow(maze.observe(maze.start_state)[0], cmap="gray", vmin=0, vmax=255)
figure

# %% [markdown]
# ### Other worlds
#
# The same moves with other rules. The values and arrows below are not learned: a fully known world can be solved by
# value iteration (Sutton & Barto, eq. 4.10), for comparison with what agents learn. First the **wind** of example 6.5,
# which pushes up by the number under each column; then the **cliff** of example 6.6, where a fall costs 100 and leads
# back to the start; last the **large maze**, 16 x 26, with one of its shortest paths.

# %%
from lit_dqn.envs.grid.values import optimal_action_values, policy_state_values


def draw_solved(env_id, gamma=1.0, **kwargs):
    """Exact v* and best actions."""
    world = gymnasium.make(env_id, **kwargs).unwrapped
    q = optimal_action_values(world, gamma).round(9)
    best = [np.flatnonzero(row == row.max()).tolist() for row in q]
    return plots.draw_grid(world.layout, values=q.max(axis=1), greedy_actions=best, moves=world.moves, title=env_id)


draw_solved("lit_dqn/WindyGrid-v0")

# %%
draw_solved("lit_dqn/CliffWalk-v0")

# %%
large = gymnasium.make("lit_dqn/MazeLarge-v0", rewards="reward_1").unwrapped
best = optimal_action_values(large, gamma=1.0).argmax(axis=1)
large.reset()
path, terminated = [large.start_state], False
while not terminated:
    _, _, terminated, _, info = large.step(best[path[-1]])
    path.append(info["state"])
figure = plots.draw_grid(large.layout, path=path, title=f"the large maze: {len(path) - 1} steps")
figure.set_dpi(50)
figure

# %% [markdown]
# ## 3. Ways to act
#
# A **policy** turns the agent's preferences into an action. Suppose that four actions have the values 1, 2, 2 and 0.
# Greedy chooses one of the best two; ε-greedy gives every action a small probability; softmax with temperature τ
# prefers better actions without excluding others.


# %%
class Prefers:
    num_actions = 4

    def preferences(self, observation):
        return np.array([[1.0, 2.0, 2.0, 0.0]])


policies = {
    "uniformly random": lit_dqn.UniformRandom(),
    "greedy": lit_dqn.Greedy(),
    "ε-greedy, ε = 0.1": lit_dqn.EpsilonGreedy(0.1),
    "softmax, τ = 1": lit_dqn.Softmax(1.0),
    "softmax, τ = 0.2": lit_dqn.Softmax(0.2),
}
pd.DataFrame(
    {name: policy.probabilities(Prefers(), np.zeros((1, 1)), env_step=0)[0] for name, policy in policies.items()},
    index=["Q = 1", "Q = 2", "Q = 2", "Q = 0"],
).T.round(3)

# %% [markdown]
# ε and τ may change while the agent learns: constant, linear, or exponential with a floor.

# %%
schedules = {
    "constant": lit_dqn.Constant(0.1),
    "linear": lit_dqn.Linear(1.0, 0.05, env_steps=4000),
    "exponential": lit_dqn.Exponential(1.0, 0.01, env_steps=4000),
}
figure = Figure(figsize=(7, 3), layout="constrained")
axes = figure.add_subplot(xlabel="env step", ylabel="ε or τ")
for name, schedule in schedules.items():
    axes.plot([schedule(step) for step in range(6000)], label=name)
axes.legend(frameon=False)
figure

# %% [markdown]
# ## 4. Policy evaluation: what is a state worth to a random walker?
#
# Sutton & Barto's example 6.2: five states in a row, a random step left or right in each, and only leaving on the right
# pays 1. The values are 1/6 to 5/6. **TD(0)** learns them from the difference between the expectation and the
# observation one step later; here the network is linear on one-hot states, which is equivalent to the tabular method.

# %%
walk, seconds = train(
    "configs/random_walk_td.yaml", "random_walk_td", {"stop.max_env_steps": 15_000 if QUICK else 40_000}
)
errors = walk.evaluate()
print(f"{seconds:.0f} s; RMS error of V {errors['eval/value_rms_error']:.3f}")

# %%
from lit_dqn.playing.value_errors import stacked_observations


def values_of(run):
    """The agent's V of each state."""
    return run.agent.state_values(stacked_observations(run.world, frame_stack=1))


random_policy = np.full((7, 2), 1 / 2)
truth = policy_state_values(walk.world, random_policy, gamma=1.0)
untrained = Run.from_config("configs/random_walk_td.yaml", QUIET)
plots.plot_state_values(
    walk.world.layout, {"before learning": values_of(untrained), "learned by TD(0)": values_of(walk)}, truth
)

# %%
plots.draw_values_beside_truth(walk.world.layout, values_of(walk), truth)

# %% [markdown]
# ## 5. Deep Q-learning on the maze: four experiments
#
# DQN learns $Q(s, a)$ towards $R + \gamma \max_{a'} Q_{target}(s', a')$.
#
# ### The network
#
# The input is an image of the maze, the outputs are four numbers: $Q(s, a)$ of each action. It is the network of Mnih
# et al. (2015), with the strides and widths of the lesson.

# %%
sees_pixels = Run.from_config("configs/maze.yaml", QUIET)
print(sees_pixels.agent.online)
print(f"{sum(weights.numel() for weights in sees_pixels.agent.online.parameters()):,} weights")

# %% [markdown]
# ### The training loop
#
# This is the core of DQN. First one update: the target $y$ from the target network, the loss of the online network's
# values for the actions taken, and a gradient step.

# %%
from lit_dqn.learning.networks import build_network

cliff = gymnasium.make("lit_dqn/CliffWalk-v0", observation="one_hot", max_episode_steps=500)
states = cliff.unwrapped.layout.num_states
torch.manual_seed(0)
online, target = (build_network(MLP, (states,), 4, "one value for each action") for _ in range(2))
optimizer = torch.optim.Adam(online.parameters(), lr=1e-3)


def update(batch):
    with torch.no_grad():
        y = batch.reward + batch.discount * target(batch.next_observation).max(dim=1).values
    q = online(batch.observation).gather(1, batch.action.unsqueeze(1)).squeeze(1)
    loss = torch.nn.functional.smooth_l1_loss(q, y)  # Huber's
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


# %% [markdown]
# Then the loop: play a step, store it, draw a batch, update, and sometimes copy the network to the target. It learns
# the cliff. `fit` does the same, plus everything else: schedules, evaluation, curves, checkpoints, resuming.

# %%
replay = ReplayBuffer(10_000, 1, (states,), np.float32, gamma=0.99)
dice, observation, returns, total = np.random.default_rng(0), cliff.reset(seed=0)[0], [], 0.0

for step in range(8_000):
    epsilon = max(0.1, 1 - step / 4_000)
    with torch.no_grad():
        greedy = int(online(torch.from_numpy(observation)[None]).argmax())
    action = int(dice.integers(4)) if dice.random() < epsilon else greedy
    next_observation, reward, terminated, truncated, _ = cliff.step(action)
    ended = terminated or truncated
    replay.add(
        Timestep(
            observation[None],
            np.array([action]),
            np.array([reward]),
            discount=np.array([not terminated]),  # a truncated episode would have continued
            last=np.array([ended]),
            next_observation=next_observation[None],
        )
    )
    total += reward
    observation = next_observation
    if ended:
        returns.append(total)
        observation, total = cliff.reset()[0], 0.0
    if step >= 500:
        update(replay.sample(Uniform().sample(replay.starts, 32, dice)))
    if step % 100 == 0:
        target.load_state_dict(online.state_dict())

print(f"{len(returns)} episodes; return of the first five {returns[:5]}, of the last five {returns[-5:]}")

# %% [markdown]
# The shortest path runs along the edge, 13 steps. With ε = 0.1 the agent still falls sometimes: a fall costs 100.

# %%
with torch.no_grad():
    learned = online(torch.eye(states)).numpy()
plots.draw_grid(
    cliff.unwrapped.layout,
    values=learned.max(axis=1),
    greedy_actions=[np.flatnonzero(row == row.max()).tolist() for row in learned],
    moves=cliff.unwrapped.moves,
    title="the cliff, learned by the loop above",
)

# %% [markdown]
# ### What to learn from
#
# The experiments of the lesson differ in their data: the latest 32 steps (E1), only the last step (E2), 8 steps,
# shuffled (E3), or 32 steps drawn from 1000 (E4).

# %%
EXPERIMENTS = {
    "E1 latest 32": ("configs/lesson/e1_latest_32.yaml", "3:11:34"),
    "E2 no replay": ("configs/lesson/e2_no_replay.yaml", "6:44:08"),
    "E3 replay 8": ("configs/lesson/e3_replay_8.yaml", "4:39:39"),
    "E4 replay 1000": ("configs/maze.yaml", "1:33:50"),
}
limits = {"stop.max_episodes": 100, "data.eval_max_steps": 100}
if QUICK:
    limits |= SMALL_MAZE | {"stop.max_env_steps": 20_000, "trainer.check_val_every_n_epoch": 10}

runs, table = {}, []
for name, (config, lesson_time) in EXPERIMENTS.items():
    run, seconds = train(config, name.split()[0], limits, live=name.startswith("E4"))
    runs[name] = run
    collector = run.data.collector
    table.append([name, collector.episodes, collector.env_step, f"{seconds / 60:.1f} min", lesson_time])

# %% [markdown]
# The lesson's own times are for 100 episodes from pixels, in Keras on a laptop; compare them only with `QUICK` off.
# With `QUICK` each experiment has at most 20,000 env steps, and those with fewer episodes have learned less. The
# complete four experiments from pixels are in [the
# results](../docs/results.md#the-lessons-experiments-its-own-settings).

# %%
pd.DataFrame(table, columns=["experiment", "episodes", "env steps", "time", "time in the lesson"])

# %%
plots.plot_episodes({name: [run.folder] for name, run in runs.items() if run.data.collector.episodes})

# %% [markdown]
# ### Resuming a run
#
# A finished run resumes from its last checkpoint: weights, target network, optimiser, buffer, counters and random
# numbers. E1 is extended to 103 and 110 episodes, E4 to 151 and 159 (with `QUICK`, E1 by a few episodes).

# %%
further = {
    "E1 latest 32": (103, 110),
    "E4 replay 1000": (151, 159),
}
for name, goals in further.items():
    config = EXPERIMENTS[name][0]
    for goal in goals:
        if QUICK and name.startswith("E1"):
            goal = runs[name].data.collector.episodes + 2
        longer = limits | {"stop.max_episodes": goal, "stop.max_env_steps": 200_000}
        runs[name], seconds = train(config, name.split()[0], longer, ckpt_path="last")
        collector = runs[name].data.collector
        print(f"{name}: {collector.episodes} episodes, {collector.env_step:,} env steps, {seconds:.0f} s more")

# %%
runs["E4 replay 1000"].plot()

# %% [markdown]
# ## 6. Watching an agent without training it
#
# `configs/maze_fast.yaml` changes four things about E4: a buffer of 10,000 timesteps, a target network that is updated
# more often, exploration that decays, and twice the episodes. It learns the shortest path, from pixels.

# %%
fast, seconds = train("configs/maze_fast.yaml", "maze_fast", live=True)
print(f"{seconds:.0f} s; without exploration: {fast.evaluate()['eval/mean_ep_length']:.0f} steps")

# %%
watched = Run.from_config(
    "configs/maze_fast.yaml", QUIET | {"trainer.logger.init_args.name": "maze_fast"}, ckpt_path="last"
)
watched.animate()

# %% [markdown]
# Its values: $V(s) = \max_a Q(s, a)$ in the cells, the greedy actions as arrows, and its path. Below, every $Q(s, a)$:
# each cell is divided among the directions of its actions, and the greedy ones are bold.

# %%
watched.draw()

# %%
plots.draw_preferences(watched.world, watched.agent)

# %% [markdown]
# What does the trained network look at? We blur the image at one position after another and measure how much the values
# change (Greydanus et al. 2018).

# %%
watched.saliency()

# %% [markdown]
# For comparison, the same network before it has learned anything:

# %%
Run.from_config("configs/maze_fast.yaml", QUIET | {"data.eval_max_steps": 20}).saliency()

# %% [markdown]
# ### A warm start, and stopping at a return
#
# An agent that already knows a world need not start from scratch: `model.init_from` loads the weights of a checkpoint,
# but neither its buffer nor its optimiser. And a run needs no fixed length: `stop.mean_return` ends it when the mean
# return of the last `stop.window` training episodes is good enough. We measure how many steps each run needs until it
# walks the maze in about twenty steps, exploration included. The second starts with the weights of the first.

# %%
goal = {"stop.mean_return": -20, "stop.window": 10, "stop.max_env_steps": 30_000}
goal |= {"stop.max_episodes": 1000, "trainer.check_val_every_n_epoch": 10}
maze_of_vectors = SMALL_MAZE if QUICK else {}
few_random_steps = {"data.policy": lit_dqn.EpsilonGreedy(0.1), "data.min_replay_size": 100}
cold, _ = train("configs/maze_fast.yaml", "cold", maze_of_vectors | goal | few_random_steps)
weights = {"model.init_from": str(cold.folder / "checkpoints/last.ckpt")}
warm, _ = train("configs/maze_fast.yaml", "warm", maze_of_vectors | goal | few_random_steps | weights)
for name, run in (("from nothing", cold), ("warm start", warm)):
    print(f"{name}: {run.data.collector.env_step:,} env steps, {run.data.collector.episodes} episodes")

# %% [markdown]
# ## 7. Double DQN, and the overestimation that it corrects
#
# A maximum over noisy values is too high on average, because it selects large noise. Sutton & Barto's example 6.7 makes
# this an experiment. From A, right ends the episode with 0; left leads to B, where every action pays -0.1 on average,
# but with much noise. Going left is a mistake, and Q-learning makes it for a long time. Double Q-learning selects the
# action with one network and evaluates it with the other.
#
# The mean over the runs of `make maximization-bias`:

# %%
with open("docs/results/maximization_bias.csv") as file:
    rows = list(csv.DictReader(file))
figure = Figure(figsize=(7, 3.5), layout="constrained")
axes = figure.add_subplot(xlabel="episode", ylabel="share of left in A", ylim=(0, 1))
for name, colour in (("DQN", "#d55e00"), ("Double DQN", "#0072b2")):
    axes.plot([float(row[name]) for row in rows], color=colour, label=name)
axes.axhline(0.05, color="black", linestyle="--", linewidth=1, label="best possible with ε = 0.1")
axes.legend(frameon=False)
figure

# %% [markdown]
# And in the maze, where the true $v_*$ is known: how far above it are the values of the two agents?

# %%
quick_maze = SMALL_MAZE | {"stop.max_episodes": 150, "trainer.check_val_every_n_epoch": 10} if QUICK else {}
single = train("configs/maze_fast.yaml", "maze_single", quick_maze)[0] if QUICK else fast
double, _ = train(["configs/maze_fast.yaml", "configs/double.yaml"], "maze_double", quick_maze)
truth = optimal_action_values(single.world, gamma=0.99).max(axis=1)
plots.draw_values_beside_truth(single.world.layout, values_of(single), truth)

# %%
plots.draw_values_beside_truth(double.world.layout, values_of(double), truth)

# %%
acting = [s for s in range(54) if single.world.layout.acts_in(single.world.layout.cell_of(s))]
for name, run in (("DQN", single), ("Double DQN", double)):
    error = (values_of(run) - truth)[acting]
    print(f"{name}: V minus the truth, mean over all states: {error.mean():+.3f}")

# %% [markdown]
# ## 8. Actor-critic: learning the policy itself
#
# Instead of action values, one network outputs preferences for actions (the actor, through a softmax) and $V(s)$ (the
# critic), which measures how much better things went than expected (Sutton & Barto, section 13.5). It learns from its
# newest steps and keeps nothing: capacity = batch size.

# %%
pole, seconds = train(
    "configs/cartpole_actor_critic.yaml",
    "actor_critic",
    {"stop.max_env_steps": 60_000} if QUICK else None,
)
print(f"{seconds:.0f} s; mean evaluation return {pole.evaluate()['eval/mean_reward']:.0f} of 500")

# %%
pole.plot(smooth=20)

# %%
pole.animate()

# %% [markdown]
# ## 9. Acrobot
#
# Agents can learn any Gymnasium environment with discrete actions and array observations; the config of a similar one
# is a good start. Acrobot has two links and a motor between them; the tip should swing above the line, and every step
# until then costs 1.

# %%
acrobot, seconds = train(
    "configs/acrobot.yaml", "acrobot", {"stop.max_env_steps": 30_000, "data.eval_episodes": 3} if QUICK else None
)
print(f"{seconds:.0f} s; mean evaluation return {acrobot.evaluate()['eval/mean_reward']:.0f}")

# %%
acrobot.plot()

# %%
acrobot.animate()

# %% [markdown]
# ## 10. Atari
#
# The same code with another config: 84 x 84 pixels, four frames in an observation, and the network architecture of the
# maze. Learning a game takes from an hour to days (the comments in `configs/atari` explain each config). First what the
# agent sees; ALE's games need the extra `atari`: `pip install -e '.[atari]'`.

# %%
if importlib.util.find_spec("ale_py") is None:
    print("ale-py is not installed; no Atari here.")
else:
    few = {"data.capacity": 1000, "data.min_replay_size": 100, "data.eval_max_steps": 60, "data.eval_episodes": 1}
    pong = Run.from_config("configs/atari/pong.yaml", QUIET | few | {"trainer.accelerator": "cpu"})
    (episode,) = pong.watch()
    figure = Figure(figsize=(10, 2.8), layout="constrained")
    panels = figure.subplots(1, 4)
    for number, (axes, frame) in enumerate(zip(panels, episode.seen(40), strict=True)):
        axes.imshow(frame, cmap="gray")
        axes.set_title(f"frame {number + 1} of 4")
        axes.set_axis_off()
    display(figure)

# %% [markdown]
# And what it learns: the games on which lit_dqn has been trained, each on one core for the time given in [the
# results](../docs/results.md). `python -m lit_dqn test` wrote these files. The human-normalised score is 0 for random
# play and 1 for the person of Mnih et al. (2015).

# %%
scores = [
    (f"{file.parent.name}/{file.stem}", score)
    for file in sorted(Path("docs/results").glob("*/results*.json"))
    for score in json.loads(file.read_text())
]
pd.DataFrame(
    {
        "file": name,
        "game": score["env_id"],
        "env steps": score["env_step"],
        "games": score["protocol"]["episodes"],
        "mean score": round(score["return"]["mean"], 1),
        "standard error": round(score["return"]["standard_error"], 1),
        "human-normalised": round(score["human_normalised_score"], 2),
    }
    for name, score in scores
)

# %% [markdown]
# Pong, each training game of three seeds:

# %%
paths = {seed: Path(f"docs/results/pong/seed_{seed}.csv") for seed in (1, 2, 3)}
games = {f"seed {seed}": list(csv.DictReader(path.read_text().splitlines())) for seed, path in paths.items()}
figure = Figure(figsize=(8, 3.5), layout="constrained")
axes = figure.add_subplot(xlabel="million env steps", ylabel="return, mean of 20 games", ylim=(-21.5, 21.5))
for name, rows in games.items():
    returns = np.array([float(row["return"]) for row in rows])
    smooth = np.convolve(returns, np.ones(20) / 20, mode="valid")
    axes.plot([int(row["env_step"]) / 1e6 for row in rows[19:]], smooth, label=name)
axes.legend(frameon=False)
figure

# %% [markdown]
# ## Exercises
#
# Try each before you look.
#
# **1. Shorter windows.** In section 1, what are R and discount of the step with observation 8 with `n_step=3`, and why?
#
# <details><summary>Solution</summary>
#
# The episode ends after the step with observation 9, so the window has two steps: R = 80 + 0.5 · 90 = 125. The second
# step terminates, so the discount is 0: there is no future, whatever $v(s')$ is.
#
# </details>
#
# **2. The wind.** Learn the windy grid by DQN. How far is its path from the best, 15 steps?
#
# <details><summary>Solution</summary>
#
# ```python
# windy, _ = train("configs/maze_fast.yaml", "windy", SMALL_MAZE | {
#     "data.env_id": "lit_dqn/WindyGrid-v0", "stop.mean_return": -20, "stop.window": 10, "stop.max_env_steps": 30_000,
# })
# print(windy.evaluate()["eval/mean_ep_length"])
# windy.draw()
# ```
#
# `draw_solved` above shows the optimum: the value of S is -15.
#
# </details>
#
# **3. The safe path.** Near the cliff an exploring agent falls. Which path is best for an agent that takes a random
# action every tenth step? Compute it exactly, without learning.
#
# <details><summary>Solution</summary>
#
# Policy iteration on the ε-greedy policies: evaluate, become ε-greedy for the new values, again.
#
# ```python
# world = gymnasium.make("lit_dqn/CliffWalk-v0").unwrapped
# policy = np.full((48, 4), 1 / 4)
# for _ in range(50):
#     q = policy_action_values(world, policy, gamma=0.99).round(9)  # from lit_dqn.envs.grid.values
#     best = q == q.max(axis=1, keepdims=True)
#     policy = 0.1 / 4 + 0.9 * best / best.sum(axis=1, keepdims=True)
# plots.draw_grid(world.layout, values=q.max(axis=1), moves=world.moves,
#                 greedy_actions=[np.flatnonzero(row).tolist() for row in best])
# ```
#
# The arrows lead away from the edge. Q-learning learns the values of the greedy policy, whatever policy plays, and so
# walks along the edge (Sutton & Barto, example 6.6).
#
# </details>
#
# **4. A maximum over noise.** All four actions have the value 0, and each estimate has a normal error of standard
# deviation 1. What is the mean of the largest estimate? And of a second, independent estimate for the action that the
# first one prefers?
#
# <details><summary>Solution</summary>
#
# ```python
# first, second = np.random.default_rng(0).normal(size=(2, 100_000, 4))
# first.max(axis=1).mean(), second[np.arange(100_000), first.argmax(axis=1)].mean()   # 1.03 and -0.01
# ```
#
# Q-learning bootstraps from the first; the second is the idea of Double Q-learning.
#
# </details>
#
# **5. The large maze.** Why does an agent with ε = 0.1 and a reward of 0 for each step and 1 at the goal hardly ever learn
# the large maze, and what would you change first?
#
# <details><summary>Solution</summary>
#
# Until the goal has been found once, all values are equal and the agent walks at random: it has nothing to learn from,
# and the maze has hundreds of cells. With -1 per step every visited cell becomes worse than the others, which drives
# exploration (optimistic values, Sutton & Barto, section 2.6). Also use a larger buffer, a decay of ε that is as long
# as the first walks, and n-step returns, which carry the goal further back in one update.
#
# ```python
# overrides = {"data.env_id": "lit_dqn/MazeLarge-v0", "data.env_kwargs": {"rewards": "reward_1", "observation": "one_hot"},
#              "model.network": MLP, "model.optimizer.init_args.lr": 1e-3, "data.capacity": 50_000, "data.n_step": 3}
# ```
#
# </details>
#
# ## Next steps
#
# `your_own_env.ipynb` does all this for your own environment. Every run above is a folder under
# `lightning_logs/lesson15`; `tensorboard --logdir lightning_logs` shows their curves and pictures.
