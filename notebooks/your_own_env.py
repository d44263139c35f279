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
# # Your own environment
#
# lit_dqn trains on any Gymnasium environment with discrete actions and array observations. This one takes a minute: a
# thermostat that should keep a room at 20 °C while the weather changes the temperature.

# %%
# %matplotlib inline
import logging
import os
from pathlib import Path

import cv2
import gymnasium
import numpy as np

from lit_dqn import Run

os.chdir(next(folder for folder in [Path.cwd(), *Path.cwd().parents] if (folder / "configs").is_dir()))
for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.ERROR)


# %% [markdown]
# ## 1. Write it
#
# Two spaces, `reset` and `step`. `terminated` means that the episode ended by itself (the pipes froze): there is no
# future to learn from. A limit on the steps belongs in `gymnasium.register`; it *truncates*, and the agent knows that
# the future would continue.


# %%
class Thermostat(gymnasium.Env):
    """Actions: cool, do nothing, heat. Reward: minus the distance to 20 °C, in tens of degrees."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(-10.0, 10.0, (2,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.room, self.weather = self.np_random.uniform(5, 30), 0.0
        return self._observation(), {}

    def step(self, action):
        self.weather = 0.9 * self.weather + self.np_random.normal(0, 0.3)
        self.room += self.weather + 1.5 * (int(action) - 1)
        frozen = self.room < 0
        reward = -10.0 if frozen else -abs(self.room - 20) / 10
        return self._observation(), reward, frozen, False, {}

    def _observation(self):
        return np.array([(self.room - 20) / 10, self.weather], np.float32)

    def render(self):
        picture = np.full((120, 360, 3), 250, np.uint8)
        cv2.line(picture, (180, 20), (180, 100), (0, 158, 115), 2)
        x = int(180 + 9 * (self.room - 20))
        cv2.circle(picture, (x, 60), 12, (213, 94, 0), cv2.FILLED, cv2.LINE_AA)
        cv2.putText(
            picture, f"{self.room:.1f} C", (10, 112), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (60, 60, 60), 1, cv2.LINE_AA
        )
        return picture


gymnasium.register("Thermostat-v0", entry_point=Thermostat, max_episode_steps=100)

# %% [markdown]
# ## 2. Learn it
#
# Take the config of a similar environment and change what differs. With your own module, `my_package.envs`, you can do
# the same on the command line: `python -m lit_dqn fit --config configs/cartpole.yaml --data.env_id
# my_package.envs:Thermostat-v0`.

# %%
run = Run.from_config(
    "configs/cartpole.yaml",
    {
        "data.env_id": "Thermostat-v0",
        "data.eval_max_steps": 100,
        "data.policy.init_args.epsilon.init_args.env_steps": 4000,
        "stop.max_env_steps": 12_000,
        "trainer.logger.init_args.name": "thermostat",
        "trainer.enable_progress_bar": False,
    },
)
before = run.evaluate()["eval/mean_reward"]
run.fit(live=True)
after = run.evaluate()["eval/mean_reward"]
print(f"return before learning {before:.0f}, after {after:.0f}")

# %% [markdown]
# ## 3. Look at it

# %%
run.plot()

# %%
run.animate()

# %% [markdown]
# ## 4. Use it
#
# The present agent, or the best one of the run from its checkpoint:

# %%
from lit_dqn import load_agent

agent = load_agent(run.folder / "checkpoints/best.ckpt")
cold, warm = np.array([-1.0, 0.0], np.float32), np.array([1.0, 0.0], np.float32)
["cool", "wait", "heat"][agent.act(cold)], ["cool", "wait", "heat"][agent.act(warm)]
