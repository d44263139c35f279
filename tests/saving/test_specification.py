import importlib
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.cli import LightningArgumentParser

import lit_dqn
from lit_dqn import MLP, EpsilonGreedy
from lit_dqn.errors import ConfigError
from lit_dqn.exports import EXPORTS, public_path, with_public_paths
from lit_dqn.saving.specification import INSTANTIATOR, check_forgets_nothing, specification, with_defaults


def look_up(path):
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def build(described):
    """What a YAML with this description makes."""
    if isinstance(described, dict) and "class_path" in described:
        arguments = {key: build(value) for key, value in described.get("init_args", {}).items()}
        return look_up(described["class_path"])(**arguments)
    return described


@pytest.mark.parametrize("value", [None, True, 3, 0.5, "text", [1, [2.5, None]], {"a": {"b": "c"}}])
def test_plain_values_stay_as_they_are(value):
    assert specification(value) == value


def test_paths_and_tuples_become_plain():
    assert specification({"path": Path("a/b"), "shape": (4, 84, 84)}) == {"path": "a/b", "shape": [4, 84, 84]}


def test_a_class_is_its_path():
    assert specification(lit_dqn.NatureCNN) == {"class_path": "lit_dqn.NatureCNN"}


def test_a_partial_is_its_class_and_its_arguments():
    described = specification(partial(torch.optim.Adam, lr=1e-4, betas=(0.9, 0.99)))
    assert look_up(described["class_path"]) is torch.optim.Adam
    assert described["init_args"] == {"lr": 1e-4, "betas": [0.9, 0.99]}


def test_an_object_is_its_class_and_its_constructors_arguments():
    assert specification(lit_dqn.EpsilonGreedy(lit_dqn.Linear(1.0, 0.05, 1000))) == {
        "class_path": "lit_dqn.EpsilonGreedy",
        "init_args": {
            "epsilon": {
                "class_path": "lit_dqn.Linear",
                "init_args": {"start": 1.0, "end": 0.05, "env_steps": 1000},
            },
            "spread": 0.0,
        },
    }


@pytest.mark.parametrize(
    "part",
    [
        lit_dqn.QLearning(),
        lit_dqn.DoubleQLearning(huber_delta=2.0),
        lit_dqn.QuantileRegression(huber_delta=2.0),
        lit_dqn.MunchausenQLearning(huber_delta=1.0, alpha=0.5),
        lit_dqn.EpsilonGreedy(0.25),
        lit_dqn.EpsilonGreedy(lit_dqn.Exponential(1.0, 0.01, 50)),
        lit_dqn.Softmax(lit_dqn.Linear(2.0, 0.5, 10)),
        lit_dqn.Greedy(),
        lit_dqn.UniformRandom(),
        lit_dqn.Uniform(replacement=True),
        lit_dqn.Latest(),
        lit_dqn.Prioritized(0.5, lit_dqn.Linear(0.4, 1.0, 1000)),
    ],
    ids=lambda part: type(part).__name__,
)
def test_every_part_is_made_again_by_its_description(part):
    described = specification(part)
    assert json.loads(json.dumps(described)) == described
    made = build(described)
    assert type(made) is type(part)
    assert vars(made) == vars(part)


DEFAULTS_OF_AN_MLP = {"layer_norm": False, "dueling": False, "noise": None, "head": None}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # jsonargparse 4.49 has another name for instantiate_classes
def test_what_lightnings_command_line_makes_of_a_class_is_described_by_that_class():
    parser = LightningArgumentParser()
    parser.add_argument("--network", type=lit_dqn.learning.networks.NetworkFactory)
    arguments = ["--network", "lit_dqn.MLP", "--network.hidden_sizes", "[7]"]
    factory = parser.instantiate_classes(parser.parse_args(arguments)).network
    assert factory((4,), 2)[1].out_features == 7
    described = specification(factory)
    assert described["class_path"] == "lit_dqn.MLP"
    assert described["init_args"] == DEFAULTS_OF_AN_MLP | {"hidden_sizes": [7]}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_network_inside_a_network_is_described_with_it():
    parser = LightningArgumentParser()
    parser.add_argument("--network", type=lit_dqn.learning.networks.NetworkFactory)
    inner = {"class_path": "lit_dqn.MLP", "init_args": {"hidden_sizes": [7]}}
    outer = {"class_path": "lit_dqn.QuantileNetwork", "init_args": {"num_quantiles": 5, "network": inner}}
    factory = parser.instantiate_classes(parser.parse_object({"network": outer})).network
    assert factory((4,), 2).network[-1].out_features == 10
    described = specification(factory)
    assert described["init_args"]["num_quantiles"] == 5
    assert described["init_args"]["network"]["class_path"] == "lit_dqn.MLP"
    assert described["init_args"]["network"]["init_args"] == DEFAULTS_OF_AN_MLP | {"hidden_sizes": [7]}


def test_what_a_release_with_fewer_arguments_says_means_the_same():
    old = {"class_path": "lit_dqn.MLP", "init_args": {"hidden_sizes": [7]}}
    new = {"class_path": "lit_dqn.MLP", "init_args": DEFAULTS_OF_AN_MLP | {"hidden_sizes": [7]}}
    other = {"class_path": "lit_dqn.MLP", "init_args": {"hidden_sizes": [7], "dueling": True}}
    for around in (
        lambda network: network,
        lambda network: {"a": [{"class_path": "b.C", "init_args": {"d": network}}]},
    ):
        assert with_defaults(around(old)) == with_defaults(around(new)) != with_defaults(around(other))
    assert with_defaults("lit_dqn.MLP") == "lit_dqn.MLP"
    assert with_defaults({"class_path": "lit_dqn.MLP"})["init_args"]["hidden_sizes"] == [120, 84]


def test_lightning_still_has_the_instantiator_that_is_written_into_checkpoints():
    assert callable(look_up(INSTANTIATOR))


def plain_function():
    pass


@pytest.mark.parametrize(
    "part",
    [lambda: None, plain_function, len, partial(plain_function)],
    ids=["lambda", "function", "built-in", "partial"],  # without addresses: other processes must find the same names
)
def test_what_cannot_be_described_is_refused_with_its_name(part):
    with pytest.raises(ConfigError, match="cannot be written into a checkpoint") as error:
        specification({"network": [part]})
    assert repr(part) in str(error.value)


class KeepsItsLevel:
    def __init__(self, level: int = 0) -> None:
        self._level = level


def test_an_argument_that_an_object_keeps_to_itself_is_refused_where_it_would_be_forgotten():
    assert specification(KeepsItsLevel(3)) == {"class_path": f"{__name__}.KeepsItsLevel"}
    for given in (KeepsItsLevel(3), [KeepsItsLevel(3)], {"level": KeepsItsLevel(3)}):
        with pytest.raises(ConfigError, match=r"its argument level .* functools\.partial\(KeepsItsLevel, level="):
            check_forgets_nothing(given)
    for given in (3, "3", None, [3], EpsilonGreedy(0.1), MLP, partial(KeepsItsLevel, level=3)):
        check_forgets_nothing(given)


@pytest.mark.parametrize("name", EXPORTS)
def test_a_public_class_is_found_by_its_public_name_and_by_the_one_of_its_file(name):
    part = getattr(lit_dqn, name)
    if isinstance(part, type):
        assert specification(part)["class_path"] == f"lit_dqn.{name}"
        assert public_path(f"{part.__module__}.{name}") == f"lit_dqn.{name}"


@pytest.mark.parametrize("path", ["torch.nn.MLP", "my_lit_dqn.MLP", "lit_dqn.learning.networks.Other", "MLP"])
def test_the_path_of_another_class_stays(path):
    assert public_path(path) == path


def test_the_settings_of_an_old_checkpoint_get_public_names():
    old = {
        "class_path": "lit_dqn.playing.policies.EpsilonGreedy",
        "init_args": {"all": [{"class_path": "a.B"}], "x": "lit_dqn.a.MLP"},
    }
    assert with_public_paths(old) == {
        "class_path": "lit_dqn.EpsilonGreedy",
        "init_args": {"all": [{"class_path": "a.B"}], "x": "lit_dqn.a.MLP"},
    }


def test_arguments_that_are_none_stay_as_a_file_has_them():
    described = {"class_path": "lit_dqn.EpsilonGreedy", "init_args": torch.zeros(())}
    assert with_defaults(described)["init_args"] is described["init_args"]


def test_a_text_of_a_subclass_is_described_as_a_text():
    class Own(str):
        pass

    described = specification({"one": Own("3"), "all": [np.str_("4")]})
    assert described == {"one": "3", "all": ["4"]}
    assert type(described["one"]) is type(described["all"][0]) is str
