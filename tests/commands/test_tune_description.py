"""What the file of a search says, and what is said of one that cannot be."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import lit_dqn
from helpers import CONFIGS, run
from lit_dqn.commands.inputs import first_look
from lit_dqn.commands.studies.description import cores
from lit_dqn.commands.tuning.description import Pruning, read_search, without_password
from lit_dqn.commands.tuning.samples import in_space, samples
from lit_dqn.commands.tuning.space import Choices, Span, as_overlay, read_space
from lit_dqn.commands.tuning.verbs import main

WHOLE = "configs: [cartpole]\nspace: {model.objective: [QLearning, DoubleQLearning]}\n"


def search(folder: Path, text: str, **kwargs):
    (folder / "mine.yaml").write_text(text)
    return read_search(folder / "mine.yaml", **kwargs)


def test_a_short_search_has_defaults(folder):
    found = search(folder, WHOLE)
    assert found.files == (str(CONFIGS / "cartpole.yaml"),)
    assert (found.name, found.folder, found.storage) == ("mine", Path("tuning/mine"), "sqlite:///tuning/mine/trials.db")
    assert (found.seeds, found.trials, found.target, found.checkpoint) == ((100, 101), 50, None, "last")
    assert (found.test_episodes, found.prune, found.at_once) == (100, Pruning(5, 1), cores())
    assert search(folder, WHOLE + "prune: false").prune is None
    assert search(folder, WHOLE + "prune: {after_evaluations: 3}").prune == Pruning(5, 3)
    given = search(folder, WHOLE + "trials: 3", at_once=7, trials=9, storage="mysql://host/name")
    assert (given.at_once, given.trials, given.storage) == (7, 9, "mysql://host/name")


def test_a_storage_may_name_a_variable_and_is_shown_without_its_password(folder, monkeypatch):
    monkeypatch.setenv("SECRET", "p:w")
    found = search(folder, WHOLE + "storage: postgresql+psycopg://me:$SECRET@host/name")
    assert found.storage == "postgresql+psycopg://me:p:w@host/name"
    assert (
        without_password(f"cannot reach {found.storage} now")
        == "cannot reach postgresql+psycopg://me:***@host/name now"
    )
    assert without_password("sqlite:///a/b.db") == "sqlite:///a/b.db"


def test_a_space_has_numbers_whole_or_not_and_choices():
    space = read_space(
        {
            "model.optimizer.init_args.lr": {"low": 1e-5, "high": 1e-2, "log": True},
            "data.n_step": {"low": 1, "high": 5},
            "data.batch_size": {"low": 32, "high": 256, "step": 32},
            "data.gamma": {"low": 0, "high": 1},  # a key for fractions
            "model.max_grad_norm": {"low": 1.0, "high": 9.0},
            "model.network.hidden_sizes": [[16], [64, 64]],
        }
    )
    assert list(space.values()) == [
        Span(1e-5, 1e-2, whole=False, log=True),
        Span(1, 5, whole=True),
        Span(32, 256, whole=True, step=32),
        Span(0, 1, whole=False),
        Span(1.0, 9.0, whole=False),
        Choices(([16], [64, 64])),
    ]
    assert space["model.network.hidden_sizes"].names == ("[16]", "[64, 64]")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("space: {a: [1, 2]}", "configs: None is not a list of config files; give one, such as [cartpole]"),
        ("configs: [cartpol]\nspace: {a: [1, 2]}", "configs: there is no file cartpol"),
        ("configs: cartpole", "space: None names no key; give keys with what to try"),
        ("configs: cartpole\nspace: {data.n_step: 3}", "space: data.n_step has 3; give a list of choices, or low and"),
        ("configs: cartpole\nspace: {data.n_step: {low: 1}}", "give a list of choices, or low and high"),
        ("configs: cartpole\nspace: {data.n_step: {low: 1, high: 3, base: 2}}", "give a list of choices, or low and"),
        (
            "configs: cartpole\nspace: {data.n_step: {low: 3, high: 3}}",
            "data.n_step goes from 3 to 3; give two numbers",
        ),
        (
            "configs: cartpole\nspace: {data.n_step: {low: a, high: 3}}",
            "data.n_step goes from a to 3; give two numbers",
        ),
        (
            "configs: cartpole\nspace: {a: {low: 0, high: 1, log: true}}",
            "a goes from 0 on a log scale; that needs low above",
        ),
        ("configs: cartpole\nspace: {a: {low: 1, high: 2, log: 3}}", "a has log: 3; give true or false"),
        ("configs: cartpole\nspace: {a: {low: 1, high: 9, step: 0.5}}", "a has step: 0.5; give a number above 0"),
        ("configs: cartpole\nspace: {a: [1]}", "a has the choices [1]; give at least two, each once"),
        ("configs: cartpole\nspace: {a: [1, 1]}", "a has the choices [1, 1]"),
        ("configs: cartpole\nspace: {data.env_id: [A, B]}", "space: data.env_id is set by the search"),
        (WHOLE + "overrides: {seed_everything: 1}", "overrides: seed_everything is set by the search; leave it out"),
        (WHOLE + "overrides: {data.env_id: A}", "data.env_id is set by the search; give it in one of the configs"),
        (WHOLE + "overrides: [1]", "overrides: [1] is not a mapping"),
        (WHOLE + "trial: 3", "tune: mine.yaml has the key trial; it may have configs, overrides, space"),
        (WHOLE + "trials: 0", "trials: 0 must be a whole number, at least 1"),
        (WHOLE + "target: high", "target: high must be a return"),
        (WHOLE + "seeds: [1, 1]", "has a seed twice"),
        (WHOLE + "prune: often", "prune: often is none of false and a mapping"),
        (WHOLE + "storage: trials.db", "storage: trials.db is not a URL of a database"),
        (WHOLE + "checkpoint: first", "checkpoint: first must be one of last, best"),
        # What the parser says of the values, before torch is imported.
        (
            "configs: cartpole\nspace: {data.n_stp: [1, 3]}",
            "space: data.n_stp: there is no such key; did you mean n_step?",
        ),
        (
            "configs: cartpole\nspace: {data.n_step: {low: 1.0, high: 3.0}}",
            "space: data.n_step: 1.0 must be a whole number",
        ),
        (
            "configs: cartpole\nspace: {model.objective: [QLearning, Q]}",
            "space: model.objective: there is no objective Q",
        ),
        (WHOLE + "overrides: {data.capacty: 5}", "configs: data.capacty: there is no such key"),
        (
            "configs: acrobot\nspace: {model.optimizer.init_args.lr: {low: 1e-5, high: 1e-2, log: true}}",
            "space: model.optimizer.init_args.lr changes nothing, because model.learning_rate of the configs sets the",
        ),
    ],
)
def test_a_search_that_cannot_be_is_refused_in_a_sentence(folder, capsys, text, said):
    (folder / "mine.yaml").write_text(text)
    assert main("tune", ["mine.yaml"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert [path.name for path in folder.iterdir()] == ["mine.yaml"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "tune: the following arguments are required: SEARCH.yaml; write: python -m lit_dqn tune [-h]"),
        (["nowhere.yaml"], "tune: there is no file nowhere.yaml"),
        (["mine.yaml", "--trials", "0"], "0 must be a whole number, at least 1"),
    ],
)
def test_wrong_words_are_one_sentence(folder, capsys, words, said):
    assert main("tune", words) == 2
    assert said in capsys.readouterr().err


def test_without_optuna_the_extra_is_named(folder):
    (folder / "mine.yaml").write_text(WHOLE)
    (folder / "optuna.py").write_text("raise ImportError('not here')\n")
    path = f"{folder}{os.pathsep}{Path(lit_dqn.__file__).parents[1]}"
    done = subprocess.run(
        [sys.executable, "-m", "lit_dqn", "tune", "mine.yaml"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: tune: Optuna is not installed; pip install 'lit-dqn[tune]'. See ")
    assert not (folder / "tuning").exists()


def test_every_end_and_every_choice_is_looked_at(folder):
    found = search(
        folder, "configs: cartpole\nspace: {data.n_step: {low: 1, high: 5}, data.capacity: [900, 1000, 2000]}"
    )
    said = [(key, words[-2]) for key, words in samples(found)]
    assert said[1:] == [
        ("data.n_step", "--data.n_step=1"),
        ("data.n_step", "--data.n_step=5"),
        ("data.capacity", "--data.capacity=900"),
        ("data.capacity", "--data.capacity=1000"),
        ("data.capacity", "--data.capacity=2000"),
    ]


def test_a_winner_is_the_config_that_its_keys_are_on_the_command_line(folder, monkeypatch, capsys):
    chosen = {
        "data.policy.init_args.epsilon.init_args.env_steps": 777,
        "data.n_step": 3,
        "model.objective": "MunchausenQLearning",
        "model.objective.init_args.alpha": 0.8,
        "model.optimizer.init_args.lr": 1e-3,
        "model.network.hidden_sizes": [64, 64],
        "model.learning_rate": 1e-4,
    }
    overlay = as_overlay(chosen)
    assert overlay["model"]["objective"] == {"class_path": "MunchausenQLearning", "init_args": {"alpha": 0.8}}
    (folder / "winner.yaml").write_text(yaml.safe_dump(overlay))
    said = []
    for words in (["--config=winner.yaml"], [f"--{key}={value}" for key, value in chosen.items()]):
        assert (
            run(monkeypatch, "fit", "--config=acrobot", *words, "--trainer.logger.init_args.name=x", "--print_config")
            == 0
        )
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert "env_steps: 777" in said[0]


def test_the_search_of_the_page_can_begin():
    found = read_search(CONFIGS.parent / "benchmarks/tuning/acrobot.yaml")
    assert [Path(file).name for file in found.files] == ["acrobot.yaml", "poor.yaml"]
    assert (found.trials, found.target, found.seeds) == (60, -85, (100, 101))
    for key, words in samples(found):
        with in_space(key):
            first_look(words)
