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
# With `QUICK = True` the notebook runs in a few minutes: the mazes are then seen as one-hot vectors by a small network,
# for fewer episodes. With `QUICK = False` the mazes are learned from pixels at the length that the lesson asks for, which
# takes an hour or more: `docs/results.md` has the times of these runs.

# %%
QUICK = True

# %%
# %matplotlib inline
import csv
import importlib.util
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
    columns = {name: getattr(batch, name).flatten().tolist() for name in batch._fields}
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
from lit_dqn.envs.grid_values import optimal_action_values, policy_state_values
from lit_dqn.value_errors import stacked_observations


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
# DQN learns $Q(s, a)$ towards $R + \gamma \max_{a'} Q_{target}(s', a')$. The experiments of the lesson differ in what they
# learn from: the latest 32 steps (E1), the last step alone (E2), 8 steps shuffled (E3), or 32 drawn out of 1000 (E4).

# %%
EXPERIMENTS = {
    "E1 latest 32": ("configs/lesson/e1_latest_32.yaml", "3:11:34"),
    "E2 no replay": ("configs/lesson/e2_no_replay.yaml", "6:44:08"),
    "E3 replay 8": ("configs/lesson/e3_replay_8.yaml", "4:39:39"),
    "E4 replay 1000": ("configs/maze.yaml", "1:33:50"),
}
limits = {"stop.max_episodes": 30 if QUICK else 100, "data.eval_max_steps": 100}
if QUICK:  # besides, episodes are cut at 200 steps
    limits |= SMALL_MAZE | {"stop.max_env_steps": 5000, "trainer.check_val_every_n_epoch": 10}
    limits["data.env_kwargs"] = SMALL_MAZE["data.env_kwargs"] | {"max_episode_steps": 200}

runs, table = {}, []
for name, (config, lesson_time) in EXPERIMENTS.items():
    run, seconds = train(config, name.split()[0], limits, live=name.startswith("E4"))
    runs[name] = run
    collector = run.data.collector
    table.append([name, collector.episodes, collector.env_step, f"{seconds / 60:.1f} min", lesson_time])

# %% [markdown]
# The lesson's own times are those of 100 episodes from pixels, in Keras on a laptop; ours stand beside them fairly only if
# `QUICK` is off. With it, what these experiments have to say is in [the results](../docs/results.md).

# %%
pd.DataFrame(table, columns=["experiment", "episodes", "env steps", "time", "time in the lesson"])

# %%
plots.plot_episodes({name: [run.folder] for name, run in runs.items() if run.data.collector.episodes})

# %% [markdown]
# ### Going on with a run
#
# A run that ended goes on from its last checkpoint: weights, target network, optimiser, buffer, counters and random
# numbers. E1 goes to 103 and to 110 episodes, E4 to 151 and 159 (with `QUICK`, a few episodes further than it got).

# %%
further = {
    "E1 latest 32": (103, 110),
    "E4 replay 1000": (151, 159),
}
for name, goals in further.items():
    config = EXPERIMENTS[name][0]
    for goal in goals:
        if QUICK:
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
# sooner, exploration that declines, and twice the episodes. It learns the shortest way.

# %%
quick_maze = SMALL_MAZE | {"stop.max_episodes": 150, "trainer.check_val_every_n_epoch": 10} if QUICK else {}
fast, seconds = train("configs/maze_fast.yaml", "maze_fast", quick_maze, live=True)
print(f"{seconds:.0f} s; without exploration: {fast.evaluate()['eval/mean_ep_length']:.0f} steps")

# %%
watched = Run.from_config(
    "configs/maze_fast.yaml", QUIET | {"trainer.logger.init_args.name": "maze_fast"} | quick_maze, ckpt_path="last"
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
# What does a network that sees pixels look at? We blur one place of the image after the other and see how much the
# values change (Greydanus et al. 2018). An agent that has learned looks at itself and at the walls in its way. With
# `QUICK` the network below has not learned anything yet: compare the two.

# %%
seeing = Run.from_config("configs/maze.yaml", QUIET | {"data.eval_max_steps": 30}) if QUICK else watched
seeing.saliency()

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
double, _ = train(["configs/maze_fast.yaml", "configs/double.yaml"], "maze_double", quick_maze)
truth = optimal_action_values(fast.world, gamma=0.99).max(axis=1)
plots.draw_values_beside_truth(fast.world.layout, values_of(fast), truth)

# %%
plots.draw_values_beside_truth(double.world.layout, values_of(double), truth)

# %%
acting = [s for s in range(54) if fast.world.layout.acts_in(fast.world.layout.cell_of(s))]
for name, run in (("DQN", fast), ("Double DQN", double)):
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
# Learning a game takes hours to days (the comments in `configs/atari` say what each config is for); here we only see
# what the agent sees, and what an untrained network looks at. ALE's games come with the extra `atari`: `pip install -e '.[atari]'`.

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
    display(figure, plots.draw_episode_saliency(pong.agent, episode, moments=3))

# %% [markdown]
# ## Going on
#
# `your_own_env.ipynb` does all this for an environment of yours. Every run above is a folder under
# `lightning_logs/lesson15`; `tensorboard --logdir lightning_logs` shows their curves and pictures.
