"""What a sentence tells to set is accepted as it is written."""

import re
import shlex
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import yaml

from lit_dqn.api import _Prepared
from lit_dqn.errors import ConfigError
from lit_dqn.inputs import first_look

HERE = Path(__file__).parent
BASE = ["fit", "--config", str(HERE.parent / "configs/cartpole.yaml")]
TABLE = yaml.safe_load((HERE / "data/bad_inputs.yaml").read_text())
REMEDY = re.compile(r"(?:set|write|such as|did you mean|or) (--[\w.]+[ =][^\s;,]+)")


class DictEnv(gymnasium.Env):
    """Observations that are a `Dict`."""

    observation_space = gymnasium.spaces.Dict({"a": gymnasium.spaces.Box(0, 1, (2,), np.float32)})
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {"a": np.zeros(2, np.float32)}, {}

    def step(self, action):
        return {"a": np.zeros(2, np.float32)}, 0.0, True, False, {}


gymnasium.register("lit_dqn_tests/Dict-v0", entry_point=DictEnv)


def remedies(sentence: str) -> list[list[str]]:
    """The settings that a sentence tells to set."""
    return [[word.rstrip(".?") for word in shlex.split(found)] for found in REMEDY.findall(sentence)]


def remedies_at_first_look() -> list[tuple[str, list[str]]]:
    found = []
    for line, _ in TABLE["first"]:
        with pytest.raises(ConfigError) as error:
            first_look([*BASE, *shlex.split(line)])
        found += [(line, words) for words in remedies(str(error.value)) if "VALUE" not in words[0]]
    return found


def test_what_the_first_look_tells_to_set_it_accepts():
    found = remedies_at_first_look()
    assert len(found) > 20
    for line, words in found:
        try:
            first_look([*BASE, *words])
        except ConfigError as error:
            raise AssertionError(f"{line}: the remedy {words} is refused: {error}") from error


@pytest.mark.parametrize(
    "wrong",
    [
        ["--data.env_id=lit_dqn_tests/Dict-v0"],
        ["--model.network=NatureCNN"],
        ["--model.network=torch.nn.Linear"],
        ["--model.optimizer=torch.optim.LBFGS"],
        ["--model.learning_rate=0"],
        ["--model.objective=QuantileRegression"],
        ["--trainer.accelerator=abacus"],
    ],
    ids=lambda wrong: wrong[0],
)
def test_what_others_tell_to_set_they_accept(tmp_path, monkeypatch, wrong):
    monkeypatch.chdir(tmp_path)
    words, said = [*BASE, *wrong], []
    # Some need one remedy after the other.
    for _ in range(4):
        try:
            _Prepared(words)
            break
        except ConfigError as error:
            said.append(str(error))
            found = [*re.findall(r"--[\w.]+ [^\s;,]+", said[-1])]
            assert found, said
            words += [word.rstrip(".") for remedy in found for word in remedy.split()]
    else:
        pytest.fail("; ".join(said))
    assert said
    assert len(set(said)) == len(said), said
