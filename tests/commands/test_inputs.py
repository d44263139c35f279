"""Wrong command lines and files: each ends in one sentence, most of them before torch is imported."""

import os
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from lit_dqn.commands.inputs import OTHERS, SECTIONS, Sources, first_look, load_yaml
from lit_dqn.errors import ConfigError

HERE = Path(__file__).parents[1]
CONFIGS = HERE.parent / "configs"
CARTPOLE = f"fit --config {CONFIGS / 'cartpole.yaml'} "
TABLE = yaml.safe_load((HERE / "data/bad_inputs.yaml").read_text())
BAD_CONFIGS = yaml.safe_load((HERE / "data/bad_configs.yaml").read_text())


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(line: str) -> str:
    with pytest.raises(ConfigError) as error:
        first_look(shlex.split(line))
    return str(error.value)


@pytest.mark.parametrize(("line", "sentence"), [(CARTPOLE + line, sentence) for line, sentence in TABLE["first"]])
def test_what_is_surely_wrong_is_refused_at_first_look(line, sentence):
    assert sentence in refusal(line)


@pytest.mark.parametrize(("line", "sentence"), TABLE["lines"])
def test_words_that_are_no_command_line(line, sentence):
    assert sentence in refusal(line)


@pytest.mark.parametrize(("content", "sentence"), BAD_CONFIGS)
def test_files_that_are_no_config(folder, content, sentence):
    (folder / "bad.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert sentence in refusal("fit --config bad.yaml")


def test_a_file_that_cannot_be_read_and_a_run_folder(folder):
    (folder / "run").mkdir()
    (folder / "run/config.yaml").write_text("data: {env_id: CartPole-v1}\n")
    assert "run is a folder; give a file of it: --config run/config.yaml" in refusal("fit --config run")
    (folder / "deep.yaml").write_text("data: " + "[" * 5000 + "\n")
    assert "config: deep.yaml" in refusal("fit --config deep.yaml")


@pytest.mark.parametrize("config", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_no_config_of_ours_is_refused(config):
    base = [] if {"env_id:", "extends:"} & set(config.read_text().split()) else ["--data.env_id=CartPole-v1"]
    verb, *files = first_look(["fit", "--config", str(config), *base])[: -len(base) or None]
    assert verb == "fit"
    assert files[-1] == f"--config={config}"
    assert len(files) == 1 + ("extends:" in config.read_text())


@pytest.mark.parametrize("name", ["cartpole", "cartpole.yaml", "configs/cartpole.yaml", "atari/pong"])
def test_the_configs_of_lit_dqn_are_found_from_anywhere(name):
    stem = name.removeprefix("configs/").removesuffix(".yaml")
    assert first_look(["fit", "--config", name])[1] == f"--config={CONFIGS / stem}.yaml"


def test_a_path_wins_over_a_config_of_that_name(folder):
    (folder / "cartpole").write_text("data: {env_id: Acrobot-v1}\n")
    assert first_look(["fit", "--config=cartpole"]) == ["fit", "--config=cartpole"]


def test_a_folder_hides_no_config_of_that_name(folder):
    (folder / "cartpole").mkdir()
    (folder / "mine.yaml").write_text("extends: cartpole\n")
    theirs = f"--config={CONFIGS / 'cartpole.yaml'}"
    assert first_look(["fit", "--config=cartpole"]) == ["fit", theirs]
    assert first_look(["fit", "--config=mine.yaml"]) == ["fit", theirs, "--config=mine.yaml"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")
def test_a_pipe_is_no_config_and_is_not_read(folder):
    os.mkfifo(folder / "pipe")
    assert refusal("fit --config pipe") == (
        "config: pipe is a pipe or a device, and a config is read more than once; write it to a file, and give that "
        "file."
    )


def test_whole_numbers_in_scientific_notation_are_whole_numbers():
    line = [
        *shlex.split(CARTPOLE),
        "--data.capacity",
        "6e4",
        "--data.batch_size=2.56e2",
        "--model.learning_rate",
        "1e-3",
    ]
    assert first_look(line)[2:] == ["--data.capacity=60000", "--data.batch_size=256", "--model.learning_rate=1e-3"]
    assert load_yaml("[1e4, 2.5e5, 5e-4, 1.0, 2020-01-01, 1:00:00]") == [
        10**4,
        250000,
        5e-4,
        1.0,
        "2020-01-01",
        "1:00:00",
    ]
    assert [type(value) for value in load_yaml("[1e4, 1.0, 1e-2]")] == [int, float, float]


@pytest.mark.parametrize(
    "words",
    [
        ["--data.policy", "my_package.MyPolicy", "--data.policy.whatever=3"],
        ["--data.policy", '{"class_path": "Softmax", "init_args": {"temperature": 2}}'],
        ["--data.policy.class_path=Softmax", "--data.policy.init_args.temperature=2"],
        ["--model.network", "my_package.MyNetwork", "--model.network.init_args.width=3"],
        ["--model", "lit_dqn.LitDQN"],
        ["--model.optimizer", "torch.optim.RMSprop", "--model.optimizer.alpha", "0.9"],
        ["--model.learning_rate", "1e-3"],
        ["--model.learning_rate", "null"],
        ["--trainer.callbacks+=LearningRateMonitor", "--trainer.callbacks.logging_interval=step"],
        ["--trainer.logger", "false"],
        ["--trainer.max_time", "1:00:00:00"],
        ["--data.env_kwargs", "{a: 1}"],
        ["--data.env_kwargs.a", "1"],
        ["--print_config"],
        ["--plan"],
    ],
)
def test_what_may_be_right_is_let_through(words):
    assert len(first_look([*shlex.split(CARTPOLE), *words])) >= 3


def test_the_first_look_knows_every_key_that_the_parser_knows():
    import argparse

    from lit_dqn.commands.cli import CLI

    class NotRun(CLI):
        def parse_arguments(self, parser, args):
            raise StopIteration(parser)

    with pytest.raises(StopIteration) as caught:
        NotRun(["fit", "--help"])
    parser = caught.value.value
    (verbs,) = [action for action in parser._actions if hasattr(action, "_name_parser_map")]
    sources, seen = Sources(), set()
    for verb in verbs._name_parser_map.values():
        for action in verb._actions:
            section, *rest = action.dest.split(".")
            seen.add(action.dest)
            if rest and rest != ["help"]:
                assert rest[0] in sources.section(section).arguments, action.dest
            elif not rest and not isinstance(action, argparse._HelpAction) and section not in ("config", "extends"):
                assert section in {*SECTIONS, *OTHERS}, action.dest
    assert {"data.capacity", "trainer.max_epochs", "stop.window", "output_dir"} <= seen


def test_a_refusal_does_not_import_torch_and_takes_little_time():
    code = (
        "import resource, sys; sys.argv = ['lit_dqn', 'fit', '--config=cartpole', '--data.capacty=5']\n"
        "from lit_dqn.__main__ import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n"
        "    used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "    print(end.code, 'torch' in sys.modules, used.ru_utime + used.ru_stime < 4)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["2", "False", "True"], done
    assert done.stderr == "error: data.capacty: there is no such key; did you mean capacity?\n"


def test_the_version_is_printed_at_once():
    done = subprocess.run([sys.executable, "-m", "lit_dqn", "--version"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"lit_dqn {version('lit-dqn')}\n", "")
