"""What is printed while a run trains."""

import io
import re
import time

import gymnasium
import lightning
import pytest
from rich.console import Console

from helpers import fit, make_data
from lit_dqn.callbacks import StoppingRules, TrainingProgress, TrainingStatistics, progress


def shown(tmp_path, monkeypatch, *, width: int, terminal: bool, data=None, **rules) -> str:
    """All that a run prints on a console."""
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, color_system=None)
    monkeypatch.setattr(progress, "Console", lambda: console)
    statistics, stop = TrainingStatistics(), StoppingRules(**rules)
    fit(tmp_path, stop, statistics, TrainingProgress(statistics, stop), data=data, enable_progress_bar=True)
    return file.getvalue()


class Slow(gymnasium.Wrapper):
    def step(self, action):
        time.sleep(0.004)
        return super().step(action)


def test_without_a_terminal_no_minute_passes_without_a_line(tmp_path, monkeypatch):
    assert progress.LINE_SECONDS + progress.WATCH_SECONDS <= 60
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.05)
    monkeypatch.setattr(progress, "WATCH_SECONDS", 0.005)
    data = make_data(wrappers=[Slow], updates_per_epoch=25)
    lines = shown(tmp_path, monkeypatch, width=80, terminal=False, data=data, max_env_steps=100).splitlines()
    assert any(re.fullmatch(r"filling the replay: \d+ of 50 env steps", line) for line in lines)
    assert any(re.fullmatch(r"evaluating: \d of 2 episodes", line) for line in lines)
    training = [line for line in lines if line.startswith("env step") and "evaluation" not in line]
    assert training
    assert len([line for line in lines if "evaluation: return" in line]) == 2


class Draws(lightning.Callback):
    def on_validation_end(self, *args) -> None:
        time.sleep(0.3)


def test_what_is_done_with_an_evaluation_does_not_pass_for_slow_training(tmp_path):
    statistics, stop = TrainingStatistics(), StoppingRules(max_env_steps=90)
    bar = TrainingProgress(statistics, stop)
    ends, evaluation_ends = [], bar._pace.evaluation_ends
    bar._pace.evaluation_ends = lambda: (evaluation_ends(), ends.append(bar._pace._evaluated))
    fit(tmp_path, stop, statistics, bar, Draws(), enable_progress_bar=True)
    assert ends[-1] >= 3 * 0.3  # four evaluations, and no training after the last


@pytest.mark.parametrize("width", [80, 60, 40])
def test_a_terminal_shows_whole_words_in_one_line_of_bar(tmp_path, monkeypatch, width):
    monkeypatch.setattr("lit_dqn.callbacks.pace.LEAST_SECONDS", 0.0)
    text = shown(tmp_path, monkeypatch, width=width, terminal=True, max_env_steps=90)
    lines = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", text).replace("\r", "\n").splitlines()
    assert max(len(line) for line in lines) <= width
    bars = [line.rstrip() for line in lines if "━" in line]
    assert any(line.endswith("left") for line in bars)
    assert not [line for line in bars if line.endswith("…")]
    whole = " ".join(" ".join(line for line in lines if "━" not in line).split())
    assert len(re.findall(r"evaluation: return -?\d+\.\d\d, length \d+\.\d", whole)) == 4


def test_a_narrow_terminal_does_without_what_matters_least(tmp_path, monkeypatch):
    monkeypatch.setattr("lit_dqn.callbacks.pace.LEAST_SECONDS", 0.0)
    bars = {}
    for width in (120, 40):
        text = shown(tmp_path / str(width), monkeypatch, width=width, terminal=True, max_env_steps=90)
        bars[width] = [line for line in text.replace("\r", "\n").splitlines() if "left" in line and "━" in line]
    assert "ε 0.10" in bars[120][-1]
    assert "left" in bars[40][-1]
    assert "ε" not in bars[40][-1]
