"""An env that goes wrong. It imports little, for each env that has a process of its own imports this file."""

import gymnasium
import numpy as np
from gymnasium import spaces

NAN = float("nan")


class Faulty(gymnasium.Env):
    """Right until a step of its first episode, where `fault` takes the place of what it should give."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, fault=None, step=7):
        self.fault, self.faulty_step = fault, step

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        observation = np.zeros(2, np.float32)
        if self.faulty_step == 0:
            wrong = {
                "observation": np.array([0, NAN], np.float32),
                "no observation": None,
                "shape": np.zeros(3),
                "too large": np.array([0, 1e300]),
            }
            observation = wrong.get(self.fault, observation)
            if self.fault in ("info", "nothing"):
                return (observation, None) if self.fault == "info" else None
        return observation if self.fault == "no info" else (observation, {})

    def step(self, action):
        self.steps += 1
        observation, reward = np.zeros(2, np.float32), 1.0
        if self.steps == self.faulty_step:
            rewards = {"reward": NAN, "infinite": float("-inf"), "none": None, "word": "1"}
            reward = rewards.get(self.fault, reward)
            observations = {
                "observation": np.array([0, NAN], np.float32),
                "no observation": None,
                "shape": np.zeros(3, np.float32),
                "large": np.full(2, 3e38, np.float32),
                "too large": np.array([0, -1e300]),
            }
            observation = observations.get(self.fault, observation)
            if self.fault == "four values":
                return observation, reward, False, {}
            if self.fault == "one value":
                return observation
            if self.fault == "nothing":
                return None
            if self.fault == "own mistake":
                _, _ = (1, 2, 3)
            ends = {"two ends": np.zeros(2, bool), "no end": None}
            if self.fault in ends:
                return observation, reward, ends[self.fault], False, {}
            if self.fault == "two truncations":
                return observation, reward, False, np.zeros(2, bool), {}
            if self.fault == "info":
                return observation, reward, False, False, None
        return observation, reward, False, self.steps == 20, {}


gymnasium.register("lit_dqn_tests/Faulty-v0", Faulty)
gymnasium.register("lit_dqn_tests/FaultyLimited-v0", Faulty, max_episode_steps=1000)
