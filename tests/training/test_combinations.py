"""Parts combine freely: what fits trains, resumes bit for bit and exports; what does not fit is refused."""

import copy
import itertools
import random
from functools import partial
from typing import NamedTuple

import gymnasium
import numpy as np
import pytest
import torch

from helpers import make_data, make_trainer
from lit_dqn import (
    C51,
    CNN,
    MLP,
    CategoricalHead,
    CategoricalQLearning,
    ConfigError,
    DoubleQLearning,
    HLGauss,
    ImpalaCNN,
    ImplicitQuantileHead,
    ImplicitQuantileLearning,
    Latest,
    LitDQN,
    Munchausen,
    MunchausenQLearning,
    Prioritized,
    QLearning,
    QuantileHead,
    QuantileRegression,
    ReplayCheckpointIO,
    Rollout,
    Uniform,
)
from lit_dqn.commands.export import export_agent


class Dot(gymnasium.Env):
    """A dot on an image of 2 x 4 x 5 pixels; the actions move it, and sometimes the episode ends."""

    observation_space = gymnasium.spaces.Box(0, 255, (2, 4, 5), np.uint8)
    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(20))
        return self.shown(), {}

    def step(self, action):
        self.place = (self.place + (1, -1, 5)[action]) % 20
        terminated, truncated = (self.np_random.random(2) < 0.08).tolist()
        return self.shown(), float(self.np_random.normal() + (self.place == 7)), terminated, truncated, {}

    def shown(self):
        image = np.zeros(40, np.uint8)
        image[self.place], image[20 + (3 * self.place) % 20] = 255, 120
        return image.reshape(2, 4, 5)


gymnasium.register("lit_dqn_tests/Dot-v0", entry_point=Dot)

NETWORKS = {
    "MLP": partial(MLP, hidden_sizes=(8, 6)),
    "MLP, dueling": partial(MLP, hidden_sizes=(8,), dueling=True),
    "CNN, layer norm": partial(CNN, filters=(3,), kernel_sizes=(2,), strides=(1,), dense_size=6, layer_norm=True),
    "Impala, spectral norm": partial(ImpalaCNN, pool="adaptive_max", dense_size=6, spectral_norm=True, dueling=True),
    "Impala, mean": partial(ImpalaCNN, pool="average", dense_size=6),
}
HEADS = {
    "values": None,
    "quantiles": partial(QuantileHead, num_quantiles=5),
    "categories": partial(CategoricalHead, v_min=-3.0, v_max=3.0, num_atoms=7),
    "implicit": partial(ImplicitQuantileHead, embedding_size=4, num_midpoints=3),
}
IMPLICIT = partial(ImplicitQuantileLearning, num_samples=4, num_target_samples=3)
OBJECTIVES = {
    "Q": QLearning(huber_delta=1.0),
    "double": DoubleQLearning(),
    "Munchausen": MunchausenQLearning(),
    "QR": QuantileRegression(),
    "C51": CategoricalQLearning(C51(), double=True),
    "HL-Gauss": CategoricalQLearning(HLGauss()),
    "IQN": IMPLICIT(),
    "M-IQN": IMPLICIT(munchausen=Munchausen()),
}
SAMPLERS = {
    "uniform": {"sampler": Uniform(replacement=True)},
    "prioritized": {"sampler": Prioritized(alpha=0.6)},
    "latest": {"sampler": Latest(), "gradient_steps": 1, "env_steps_per_update": 2},
    "rollout": {"sampler": Rollout(0.7), "capacity": 16, "min_replay_size": 0, "env_steps_per_update": 4,
                "gradient_steps": 4, "batch_size": 8, "updates_per_epoch": 8},
}  # fmt: skip
NEEDS = {"QR": "quantiles", "C51": "categories", "HL-Gauss": "categories", "IQN": "implicit", "M-IQN": "implicit"}
"""The head that an objective learns; the others take the action values of any."""


class Combination(NamedTuple):
    network: str
    head: str
    noise: float | None
    objective: str
    sampler: str
    n_step: int

    def __str__(self) -> str:
        return ", ".join(map(str, self))

    @property
    def fits(self) -> bool:
        """Whether it can be; a rollout has whole returns, which only Q-learning takes, and no windows of n steps."""
        of_a_rollout = self.sampler == "rollout"
        return NEEDS.get(self.objective, self.head) == self.head and not (
            of_a_rollout and (self.n_step > 1 or self.objective != "Q")
        )


def deck(dice: random.Random, kinds, count: int) -> list:
    """So many of all kinds in random order, each as often as the others."""
    cards = [kind for kind, _ in zip(itertools.cycle(kinds), range(count), strict=False)]
    dice.shuffle(cards)
    return cards


def drawn(seed: int, count: int) -> list[Combination]:
    """Two of three have the head that the objective needs, for most others do not fit."""
    dice = random.Random(seed)
    parts = [deck(dice, kinds, count) for kinds in (NETWORKS, HEADS, [None, 0.5], OBJECTIVES, SAMPLERS, [1, 3])]
    combinations = [Combination(*picked) for picked in zip(*parts, strict=True)]
    return [
        each._replace(head=NEEDS.get(each.objective, each.head)) if dice.random() < 2 / 3 else each
        for each in combinations
    ]


DRAWN = drawn(14, 12)


def parts(combination: Combination):
    network = partial(NETWORKS[combination.network], head=HEADS[combination.head], noise=combination.noise)
    settings = {"env_id": "lit_dqn_tests/Dot-v0", "num_envs": 2, "gradient_steps": 2, "batch_size": 8}
    data = make_data(**settings | SAMPLERS[combination.sampler] | {"n_step": combination.n_step})
    torch.manual_seed(0)
    agent = LitDQN(
        data.observation_shape,
        data.num_actions,
        network=network,
        objective=OBJECTIVES[combination.objective],
        optimizer=partial(torch.optim.Adam, lr=1e-3, fused=True),
        target_update_period=None if combination.sampler == "rollout" else 3,
    )
    return agent, data


def train(combination, path, epochs, ckpt_path=None):
    agent, data = parts(combination)
    trainer = make_trainer(max_epochs=epochs, plugins=[ReplayCheckpointIO()])
    trainer.fit(agent, datamodule=data, ckpt_path=ckpt_path)
    trainer.save_checkpoint(path, weights_only=False)
    return agent, data


def test_what_was_drawn_is_of_every_kind():
    fit = [combination for combination in DRAWN if combination.fits]
    assert 4 <= len(fit) <= 10
    assert len({combination.sampler for combination in fit}) >= 3
    assert len({combination.objective for combination in fit}) >= 4


FAST = [combination for combination in DRAWN if combination.fits][:2]


@pytest.mark.parametrize(
    "combination",
    [
        pytest.param(each, marks=[] if each in FAST or not each.fits else pytest.mark.slow, id=str(each))
        for each in DRAWN
    ],
)
def test_a_combination_trains_resumes_and_exports_or_is_refused(combination, tmp_path):
    if not combination.fits:
        with pytest.raises(ConfigError, match=r"^\w+: [^\n]+\.$"):
            train(combination, tmp_path / "refused.ckpt", 1)
        return
    whole, _ = train(combination, tmp_path / "whole.ckpt", 2)
    begun = copy.deepcopy(parts(combination)[0].state_dict())
    assert not all(torch.equal(begun[name], weights) for name, weights in whole.state_dict().items())
    train(combination, tmp_path / "half.ckpt", 1)
    again, _ = train(combination, tmp_path / "again.ckpt", 2, tmp_path / "half.ckpt")
    for name, weights in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], weights), name

    shown = np.stack([Dot().reset(seed=seed)[0] for seed in range(5)])
    loaded = LitDQN.load_from_checkpoint(tmp_path / "again.ckpt")
    assert np.array_equal(loaded.q_values(shown), whole.q_values(shown))
    # It compares the action values with those of ONNX itself, and raises if they differ.
    export_agent(whole.online, torch.from_numpy(shown), {}, tmp_path, output_name="q_values")
    assert (tmp_path / "model.onnx").is_file()
