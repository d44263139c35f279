"""What the file of a study says, and what is said of one that cannot be."""

from pathlib import Path

import pytest

from helpers import CONFIGS
from lit_dqn.commands.studies.description import read_study
from lit_dqn.errors import ConfigError

CARTPOLE, DOUBLE = (str(CONFIGS / f"{name}.yaml") for name in ("cartpole", "double"))
WHOLE = "agents: {DQN: [cartpole]}\nseeds: [0, 1]\n"


def study(folder: Path, text: str, **kwargs):
    (folder / "mine.yaml").write_text(text)
    return read_study(folder / "mine.yaml", **kwargs)


def test_a_short_study_has_defaults(folder):
    found = study(folder, WHOLE)
    (cell,) = found.cells
    assert (cell.agent, cell.task, cell.files, cell.settings) == ("DQN", None, (CARTPOLE,), {})
    assert (found.seeds, found.scales, found.test_episodes, found.checkpoint) == ((0, 1), {}, 100, "last")
    assert found.folder == Path("studies/mine")
    assert found.at_once * found.threads >= 1
    assert study(folder, WHOLE, at_once=3, threads=2).threads == 2


def test_agents_stand_over_tasks_and_the_grid_names_what_it_varies(folder):
    (folder / "own.yaml").write_text("data: {gamma: 0.9}\n")
    found = study(
        folder,
        "tasks: {Pole: cartpole, Other: [cartpole, own.yaml]}\n"
        "agents: {DQN: [], Double: [double]}\n"
        "overrides: {data.n_step: [1, 3], model.learning_rate: 1e-5, model.network.hidden_sizes: [[8], [16]]}\n"
        "seeds: [4]\n",
    )
    assert len(found.cells) == 2 * 2 * 4
    cell = found.cells[-1]
    assert (cell.agent, cell.task) == ("Double, n_step=3, hidden_sizes=[16]", "Other")
    assert cell.words == [
        f"--config={CARTPOLE}",
        f"--config={folder / 'own.yaml'}",
        f"--config={DOUBLE}",
        "--data.n_step=3",
        "--model.learning_rate=1e-05",
        "--model.network.hidden_sizes=[16]",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seeds: [0]", "agents: mine.yaml names none; give each a name and its config files, such as DQN: [cartpole]"),
        ("agents: [cartpole]\nseeds: [0]", "agents: ['cartpole'] is not a mapping"),
        ("agents: {DQN: 3}\nseeds: [0]", "agents: DQN has 3; give a list of config files"),
        ("agents: {DQN: []}\nseeds: [0]", "agents: DQN has no config file"),
        ("agents: {DQN: [cartpol]}\nseeds: [0]", "agents: DQN: there is no file cartpol"),
        ("agents: {'!': [cartpole]}\nseeds: [0]", "agents: '!' is not a name"),
        ("agents: {a b: [cartpole], a_B: [double]}\nseeds: [0]", "'a b' and 'a_B' would have one folder"),
        ("agents: {DQN: [cartpole]}", "seeds: None is not a list of seeds; give one, such as [0, 1, 2, 3, 4]"),
        ("agents: {DQN: [cartpole]}\nseeds: 5", "seeds: 5 is not a list of seeds"),
        ("agents: {DQN: [cartpole]}\nseeds: [true]", "seeds: [True] is not a list"),
        ("agents: {DQN: [cartpole]}\nseeds: [1, 1]", "has a seed twice"),
        (WHOLE + "agent: 3", "study: mine.yaml has the key agent; it may have agents, tasks"),
        (WHOLE + "at_once: 0", "at_once: 0 must be a whole number, at least 1"),
        (WHOLE + "test_episodes: 1.5", "test_episodes: 1.5 must be a whole number"),
        (WHOLE + "checkpoint: first", "checkpoint: first must be one of last, best"),
        (WHOLE + "folder: 3", "folder: 3 must be a text"),
        (WHOLE + "scales: {CartPole-v1: 500}", "scales: CartPole-v1 has 500; give the return that scores 0"),
        (WHOLE + "scales: {CartPole-v1: [500, 0]}", "scales: CartPole-v1 has [500, 0]"),
        (WHOLE + "scales: 3", "scales: 3 is not a mapping"),
        (WHOLE + "overrides: [1]", "overrides: [1] is not a mapping"),
        (WHOLE + "overrides: {data.n_step: []}", "overrides: data.n_step has no value"),
        (WHOLE + "overrides: {data.env_id: [a, b]}", "envs are tasks: give each a config under tasks"),
        (WHOLE + "overrides: {seed_everything: [1]}", "overrides: seed_everything cannot be in a grid"),
        (WHOLE + "overrides: {trainer.logger.init_args.name: x}", "cannot be in a grid"),
        ("agents: {DQN: [cartpole", "config: mine.yaml, line"),
        ("a: 1\na: 2", "is there twice"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(folder, text, said):
    (folder / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        read_study(Path("mine.yaml"))
    assert said in str(error.value)


def test_a_file_that_is_not_there_is_named(folder):
    with pytest.raises(ConfigError, match=r"study: there is no file nowhere\.yaml; give a YAML file"):
        read_study(Path("nowhere.yaml"))
