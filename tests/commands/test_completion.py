"""What a shell offers at TAB."""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lit_dqn
from lit_dqn.commands.completion import parser_of_all
from lit_dqn.commands.inputs import OTHER_VERBS, OTHERS, SECTIONS, VERBS, Sources, first_look
from lit_dqn.errors import ConfigError

SOURCE = Path(lit_dqn.__file__).parents[1]


def of_verb(verb: str, *typed: str) -> argparse.ArgumentParser:
    parser = parser_of_all(typed, lambda **_: ["mine.yaml"], lambda **_: ["any.txt"])
    (verbs,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    assert tuple(verbs.choices) == (*VERBS, *OTHER_VERBS)
    return verbs.choices[verb]


def offered(verb: str, key: str) -> list[str]:
    (action,) = (action for action in of_verb(verb, f"--{key}")._actions if f"--{key}" in action.option_strings)
    return list(action.completer(prefix=""))


def keys(verb: str, *typed: str) -> list[str]:
    return [
        option[2:] for action in of_verb(verb, *typed)._actions for option in action.option_strings if len(option) > 2
    ]


def refusal(words: list[str]) -> str:
    try:
        first_look(words)
    except ConfigError as error:
        return str(error)
    return ""


def test_every_key_is_offered_once_and_taken():
    found = keys("fit")
    assert len(found) == len(set(found))
    sources = Sources()
    own = {
        f"{section}.{key}" for section in SECTIONS if section != "model" for key in sources.section(section).arguments
    }
    assert own <= set(found)
    assert {"model.objective", "model.network", "config", *OTHERS} - {
        "output_dir",
        "verbose",
        "return_predictions",
    } <= set(found)
    assert not [key for key in found if "there is no such key" in refusal(["fit", "--config=cartpole", f"--{key}=x"])]
    assert "output_dir" in keys("export")
    assert "output_dir" not in found


def test_the_keys_of_a_class_are_offered_where_one_begins():
    assert "model.network.hidden_sizes" not in keys("fit")
    deep = keys("fit", "--model.network.head.n", "--data.policy.epsilon.")
    assert {"model.network.hidden_sizes", "model.network.head.num_quantiles", "data.policy.epsilon.env_steps"} <= set(
        deep
    )
    assert not any(key.endswith(("num_actions", "observation_shape")) for key in deep)


@pytest.mark.parametrize(
    ("verb", "key", "some"),
    [
        ("fit", "config", {"cartpole", "atari/pong", "mine.yaml"}),
        ("test", "ckpt_path", {"last", "best", "any.txt"}),
        ("fit", "model", {"LitDQN", "LitTD"}),
        ("fit", "model.objective", {"DoubleQLearning", "QuantileRegression"}),
        ("fit", "model.network", {"lit_dqn.MLP"}),
        ("fit", "data.sampler", {"Prioritized"}),
        ("fit", "data.resume_env", {"exact", "new_episode"}),
        ("fit", "data.play_ahead", {"true", "false"}),
        ("fit", "data.env_id", {"CartPole-v1", "lit_dqn/Maze-v0"}),
        ("fit", "data.batch_size", {"32"}),
    ],
)
def test_what_a_key_takes_is_offered(verb, key, some):
    assert some <= set(offered(verb, key))


def bash(line: str) -> list[str]:
    """What bash offers behind a line."""
    script = f"""
        lit-dqn() {{ {sys.executable} -m lit_dqn "$@"; }}
        export -f lit-dqn
        eval "$({sys.executable} -c 'import argcomplete; print(argcomplete.shellcode(["lit-dqn"]))')"
        COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}; COMP_TYPE=9
        _python_argcomplete lit-dqn
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    path = os.pathsep.join([str(SOURCE), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}, timeout=60
    )
    return [word.strip() for word in done.stdout.splitlines()]


def test_bash_completes(folder):
    pytest.importorskip("argcomplete", reason="argcomplete is not installed; it comes with the extra completion")
    if shutil.which("bash") is None:
        pytest.skip("bash is not there")
    assert bash("lit-dqn va") == ["validate"]
    assert bash("lit-dqn fit --config minatar/br") == ["minatar/breakout"]
    assert not list(folder.iterdir())


def test_neither_torch_is_imported_nor_a_verb_run_where_a_shell_asks(folder):
    # What a shell asks for, with an argcomplete that says what became of the question.
    package = folder / "argcomplete"
    package.mkdir()
    (package / "completers.py").write_text("FilesCompleter = lambda *kinds: None")
    (package / "__init__.py").write_text(
        "import sys\ndef autocomplete(parser, **kwargs):\n    print('torch' in sys.modules)\n    sys.exit(7)\n"
    )
    asked = os.environ | {"_ARGCOMPLETE": "1", "COMP_LINE": "lit-dqn fit --model.network.", "COMP_POINT": "28"}
    words = [sys.executable, "-m", "lit_dqn", "fit", "--config", "cartpole"]
    done = subprocess.run(words, capture_output=True, text=True, env=asked | {"PYTHONPATH": f"{folder}:{SOURCE}"})
    assert (done.returncode, done.stdout) == (7, "False\n"), done
    (package / "__init__.py").write_text("raise ImportError")
    done = subprocess.run(words, capture_output=True, text=True, env=asked | {"PYTHONPATH": f"{folder}:{SOURCE}"})
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert not (folder / "lightning_logs").exists()
