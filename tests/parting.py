"""Envs with observations of several parts, none of which says enough alone."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from audit import AuditEnv

SIGNPOST_ENV = "parting:lit_dqn_tests/Signpost-v0"
STEPS = 4


class Signpost(gymnasium.Env):
    """A lamp on the left or on the right of an image, and a sign that says whether to go there or away from it.

    Each right answer pays 1, and there are `STEPS` of them in an episode; so V of what is left is known. What is seen
    is a `Dict` with a `Dict` inside, or a `Tuple`.

    Args:
        form: `dict`, `tuple`; `masked` with an `action_mask` that forbids a third action; or what is wrong with it:
            `text`, `shape`, `missing`, `nan`, `number`.

    """

    def __init__(self, form: str = "dict") -> None:
        self.form = form
        self.action_space = spaces.Discrete(3 if form == "masked" else 2)
        image, sign = spaces.Box(0, 255, (8, 10, 1), np.uint8), spaces.Discrete(2, start=1)
        left = spaces.Box(0, STEPS, (1,), np.float64)
        others = {}
        if form == "masked":
            others["action_mask"] = spaces.Box(0, 1, (3,), np.int8)
        if form == "text":
            others["mission"] = spaces.Text(10)
        self.observation_space = (
            spaces.Tuple((image, sign, left))
            if form == "tuple"
            else spaces.Dict({"image": image, "told": spaces.Dict({"sign": sign, "left": left}), **others})
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.left = STEPS
        return self.show(), {}

    def step(self, action):
        right = int(action) == (self.lamp if self.sign == 2 else 1 - self.lamp)
        self.left -= 1
        return self.show(), float(right), self.left == 0, False, {}

    def show(self):
        self.lamp, self.sign = int(self.np_random.integers(2)), int(self.np_random.integers(1, 3))
        image = np.zeros((8, 10, 1), np.uint8)
        image[:, 5 * self.lamp : 5 * self.lamp + 5] = 200
        sign, left = np.int64(self.sign), np.array([self.left], np.float64)
        if self.left < STEPS:  # what is wrong is so after the reset
            image = image[:-1] if self.form == "shape" else image
            left = left * np.nan if self.form == "nan" else left
            sign = np.int64(3) if self.form == "number" else sign
        if self.form == "tuple":
            return image, sign, left
        told = {"sign": sign} if self.form == "missing" and self.left < STEPS else {"sign": sign, "left": left}
        shown: dict[str, Any] = {"image": image, "told": told}
        if self.form == "masked":
            shown["action_mask"] = np.array([1, 1, 0], np.int8)
        if self.form == "text":
            shown["mission"] = "x"
        return shown


class PartsAuditEnv(AuditEnv):
    """The audit's env with images, which also shows what is in them as numbers, and its step as one of five."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(image=True, **kwargs)
        parts = {"image": self.observation_space, "place": spaces.Box(0, 255, (3,), np.float32)}
        self.observation_space = spaces.Dict(parts | {"phase": spaces.Discrete(5)})

    def observe(self):
        seen = np.array([self.index, self.episode, self.t])
        image = seen.astype(np.uint8).reshape(3, 1, 1)
        return {"image": image, "place": seen.astype(np.float32), "phase": np.int64(self.t % 5)}


if "lit_dqn_tests/Signpost-v0" not in gymnasium.registry:
    gymnasium.register("lit_dqn_tests/Signpost-v0", "parting:Signpost", disable_env_checker=True)
    gymnasium.register("lit_dqn_tests/PartsAudit-v0", PartsAuditEnv, disable_env_checker=True)
