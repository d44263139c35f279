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
# The lesson that lit_dqn was built for, from the first transition in a buffer to Atari. Every section is one idea, one
# config and one picture. The books behind it: Sutton & Barto, *Reinforcement Learning: An Introduction* (2020),
# chapters 6, 9, 10, 13 and 16; Mnih et al. 2013 and 2015; van Hasselt et al. 2016.
#
# With `QUICK = True` the notebook runs in minutes. Section 6 learns the maze from pixels in any case; elsewhere the
# mazes are then seen as one-hot vectors by a small network, which learns the same in a tenth of the time. With
# `QUICK = False` all of them are learned from pixels at the length that the lesson asks for, which takes an hour or more:
# `docs/results.md` has the times of these runs. At the end are five exercises, with solutions.

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

# The notebook may lie anywhere below the project; runs go where those of the command line go.
os.chdir(next(folder for folder in [Path.cwd(), *Path.cwd().parents] if (folder / "configs").is_dir()))
for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.ERROR)
torch.set_num_threads(1)  # networks as small as these gain nothing from more

QUIET = {"trainer.enable_progress_bar": False, "trainer.logger.init_args.save_dir": "lightning_logs/lesson15"}
# What QUICK changes about a maze: its states as one-hot vectors, and a small network that learns ten times faster.
SMALL_MAZE = {
    "data.env_kwargs": {"rewards": "reward_1", "observation": "one_hot"},
    "model.network": MLP,
    "model.optimizer.init_args.lr": 1e-3,
}


def train(config, name, overrides=None, *, ckpt_path=None, live=False):
    """Build a run, fit it, and give it back with the seconds that it took."""
    keys = QUIET | {"trainer.logger.init_args.name": name} | (overrides or {})
    run = Run.from_config(config, keys, ckpt_path=ckpt_path)
    started = time.monotonic()
    run.fit(live=live)
    return run, time.monotonic() - started


# %% [markdown]
# ## 1. A buffer of experience
#
# An agent that learns from each step once, in the order in which it happens, forgets quickly and learns from steps that
# look alike. A **replay buffer** keeps the newest steps and lets the agent learn from them many times.
#
# Ours keeps each *timestep* once. Here is one for six timesteps, and ten steps of an episode that counts: the observation
# of step $t$ is the number $t$, the reward is $10t$, and the episode ends after the tenth step.

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
# Two ways to draw a batch: the **latest**, in order, and **uniformly** at random, here without drawing one twice. Look at
# the column `discount`: it is $\gamma$ to the number of steps until $s'$, and 0 where the episode ended. It is all that
# the update rules ever know about the future: $y = R + \text{discount} \cdot v(s')$.

# %%
show(buffer.sample(Latest().sample(buffer.starts, 4, generator)))

# %%
show(buffer.sample(Uniform().sample(buffer.starts, 4, generator)))

# %% [markdown]
# The same buffer can look further ahead: with `n_step=3` the reward is $r_1 + \gamma r_2 + \gamma^2 r_3$, and windows get
# shorter where the episode ends.

# %%
longer = count_to(10, n_step=3)
show(longer.sample(Latest().sample(longer.starts, 4, generator)))

# %% [markdown]
# ## 2. The world, and what the agent sees of it
#
# The maze of Sutton & Barto's figure 8.2. Each step costs 1, the shortest way has 14 steps, so the best return is -14. We
# see numbers, walls and letters; the agent sees a grey image of 50 x 84 pixels and knows nothing about mazes.

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
# The same moves under other rules. The values and arrows below are not learned: a world that is known whole can be solved by
# value iteration (Sutton & Barto, eq. 4.10), and what agents learn can be held against it. First the **wind** of example 6.5,
# which pushes up by the number under each column; then the **cliff** of example 6.6, where a fall costs 100 and leads back
# to the start; last the **large maze**, 16 x 26, with one of its shortest ways.

# %%
from lit_dqn.envs.grid.values import optimal_action_values, policy_state_values


def draw_solved(env_id, gamma=1.0, **kwargs):
    """v* and the best actions, exactly."""
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
# A **policy** turns what the agent prefers into an action. Say it values four actions at 1, 2, 2 and 0. Greedy shares
# all between the best two; ε-greedy gives every action a little; softmax with temperature τ prefers without excluding.


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
# ## 4. Policy evaluation: what is a state worth to somebody who walks at random?
#
# Sutton & Barto's example 6.2: five states in a row, a coin is thrown at each, and only leaving on the right pays 1. The
# values are 1/6 to 5/6. **TD(0)** learns them from the difference between what it expected and what it saw one step
# later; the network here is a linear one on one-hot states, which is the tabular method in disguise.

# %%
walk, seconds = train(
    "configs/random_walk_td.yaml", "random_walk_td", {"stop.max_env_steps": 15_000 if QUICK else 40_000}
)
errors = walk.evaluate()
print(f"{seconds:.0f} s; RMS error of V {errors['eval/value_rms_error']:.3f}")

# %%
from lit_dqn.playing.value_errors import stacked_observations


def values_of(run):
    """V of each state, as the agent sees it."""
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
# An image of the maze goes in, four numbers come out: $Q(s, a)$ of each action. It is the network of Mnih et al. (2015), with
# the strides and widths of the lesson.

# %%
sees_pixels = Run.from_config("configs/maze.yaml", QUIET)
print(sees_pixels.agent.online)
print(f"{sum(weights.numel() for weights in sees_pixels.agent.online.parameters()):,} weights")

# %% [markdown]
# ### The training loop
#
# This is all of DQN, with nothing around it. First one update: the target $y$ by the target network, the loss of what the
# online network says of the actions that were taken, and a step down its gradient.

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
# Then the loop: play a step, store it, draw a batch, update, and now and then copy the network to the target. It learns the
# cliff. `fit` does the same, and looks after everything else: schedules, evaluation, curves, checkpoints, resuming.

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
# The shortest way leads along the edge, 13 steps. With ε = 0.1 the agent still falls now and then: a fall costs 100.

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
# The experiments of the lesson differ in what they learn from: the latest 32 steps (E1), the last step alone (E2), 8 steps
# shuffled (E3), or 32 drawn out of 1000 (E4).

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
# The lesson's own times are those of 100 episodes from pixels, in Keras on a laptop; ours stand beside them fairly only if
# `QUICK` is off. With it each experiment has 20,000 env steps at most, and those that come to fewer episodes have learned
# less. The same four from pixels, in full, are in [the results](../docs/results.md#the-lessons-experiments-its-own-settings).

# %%
pd.DataFrame(table, columns=["experiment", "episodes", "env steps", "time", "time in the lesson"])

# %%
plots.plot_episodes({name: [run.folder] for name, run in runs.items() if run.data.collector.episodes})

# %% [markdown]
# ### Going on with a run
#
# A run that ended resumes from its last checkpoint: weights, target network, optimiser, buffer, counters and random
# numbers. E1 goes to 103 and to 110 episodes, E4 to 151 and 159 (with `QUICK`, E1 a few episodes further than it got).

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
# `configs/maze_fast.yaml` changes four things about E4: a buffer of 10,000 timesteps, a target network that follows
# sooner, exploration that declines, and twice the episodes. It learns the shortest way, from pixels.

# %%
fast, seconds = train("configs/maze_fast.yaml", "maze_fast", live=True)
print(f"{seconds:.0f} s; without exploration: {fast.evaluate()['eval/mean_ep_length']:.0f} steps")

# %%
watched = Run.from_config(
    "configs/maze_fast.yaml", QUIET | {"trainer.logger.init_args.name": "maze_fast"}, ckpt_path="last"
)
watched.animate()

# %% [markdown]
# What it thinks: $V(s) = \max_a Q(s, a)$ in the cells, the greedy actions as arrows, and the way that it went. Below, every
# $Q(s, a)$: a cell is cut into the directions of its actions, and the greedy ones are bold.

# %%
watched.draw()

# %%
plots.draw_preferences(watched.world, watched.agent)

# %% [markdown]
# What does the trained network look at? We blur one place of the image after the other and see how much the values change
# (Greydanus et al. 2018).

# %%
watched.saliency()

# %% [markdown]
# Beside it the same network before it has learned anything: compare the two.

# %%
Run.from_config("configs/maze_fast.yaml", QUIET | {"data.eval_max_steps": 20}).saliency()

# %% [markdown]
# ### A warm start, and stopping at a return
#
# Whoever knows a world already needs not begin from nothing: `model.init_from` takes the weights of a checkpoint and nothing
# else of it, neither its buffer nor its optimiser. And a run needs not be given a length: `stop.mean_return` ends it when the
# mean return of the last `stop.window` training episodes is good enough. So we ask how many steps each needs until it walks
# the maze in some twenty steps, exploration included. The second begins with what the first has learned.

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
# ## 7. Double DQN, and the overestimation that it cures
#
# A maximum over noisy values is too high on average: the noise that is chosen is the noise that is large. Sutton & Barto's
# example 6.7 makes this an experiment. From A, right ends the episode with 0; left leads to B, where every action pays
# -0.1 on average, but with much noise. Going left is a mistake, and Q-learning makes it for a long time. Double
# Q-learning picks the action with one network and grades it with the other.
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
# And on the maze, where the true $v_*$ is known: how far above it are the values of the two?

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
# ## 8. Actor-critic: a policy that is learned itself
#
# Instead of values from which actions follow, one network gives preferences for actions (the actor, through a softmax) and
# $V(s)$ (the critic), which says by how much things went better than expected (Sutton & Barto, section 13.5). It learns from
# what it has just played and keeps nothing: capacity = batch.

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
# Any environment of Gymnasium with discrete actions and array observations can be learned; the config of a similar one is a
# good start. Acrobot has two links and a motor
# between them; the tip should swing above the line, and every step until then costs 1.

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
# The same code and another config: 84 x 84 pixels, four frames in an observation, a network with the shape of the maze's.
# Learning a game takes an hour to days (the comments in `configs/atari` say what each config is for). First what the agent
# sees; ALE's games come with the extra `atari`: `pip install -e '.[atari]'`.

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
# And what it learns: the games that lit_dqn has been trained on, each on one core for the time that
# [the results](../docs/results.md) say. `python -m lit_dqn test` wrote these files. The human-normalised score is 0 for random play and 1 for
# the person of Mnih et al. (2015).

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
# **1. Shorter windows.** In section 1, what are R and discount of the step that shows 8 with `n_step=3`, and why?
#
# <details><summary>Solution</summary>
#
# The episode ends after the step that shows 9, so the window has two steps: R = 80 + 0.5 · 90 = 125. The second step
# terminates, so the discount is 0: there is no future, whatever $v(s')$ says.
#
# </details>
#
# **2. The wind.** Learn the windy grid by DQN and say how far its way is from the best, 15 steps.
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
# `draw_solved` above gives the best: the value of S is -15.
#
# </details>
#
# **3. The safe way.** Near the cliff an agent that explores falls. Which way is best for somebody who takes a random action
# every tenth step? Work it out exactly, without learning.
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
# The arrows lead away from the edge. Q-learning learns the values of the greedy policy whatever plays, and so walks along
# it (Sutton & Barto, example 6.6).
#
# </details>
#
# **4. A maximum over noise.** All four actions are worth 0, and each estimate is off by a normal error of standard deviation
# 1. What is the mean of the largest estimate? And of the second estimate of the action that the first prefers?
#
# <details><summary>Solution</summary>
#
# ```python
# first, second = np.random.default_rng(0).normal(size=(2, 100_000, 4))
# first.max(axis=1).mean(), second[np.arange(100_000), first.argmax(axis=1)].mean()   # 1.03 and -0.01
# ```
#
# The first is what Q-learning bootstraps from, the second is the idea of Double Q-learning.
#
# </details>
#
# **5. The large maze.** Why does an agent with ε = 0.1 and a reward of 0 for each step and 1 at the goal hardly ever learn
# the large maze, and what would you change first?
#
# <details><summary>Solution</summary>
#
# Until the goal has been found once, all values are equal and the agent walks at random: it has nothing to learn from, and
# the maze has hundreds of cells. With -1 for each step every cell that was visited becomes worse than those that were not,
# which drives it on (optimistic values, Sutton & Barto, section 2.6). Besides: a larger buffer, a decline of ε that is as
# long as the first walks, and n-step returns, which carry the goal further back in one update.
#
# ```python
# overrides = {"data.env_id": "lit_dqn/MazeLarge-v0", "data.env_kwargs": {"rewards": "reward_1", "observation": "one_hot"},
#              "model.network": MLP, "model.optimizer.init_args.lr": 1e-3, "data.capacity": 50_000, "data.n_step": 3}
# ```
#
# </details>
#
# ## Going on
#
# `your_own_env.ipynb` does all this for an environment of yours. Every run above is a folder under
# `lightning_logs/lesson15`; `tensorboard --logdir lightning_logs` shows their curves and pictures.
