"""What a run says of itself at its beginning and its end."""

import logging
import re

import pytest
import torch
from lightning.pytorch.loggers import Logger

from helpers import CARTPOLE, run, tiny
from lit_dqn.callbacks import mean_with_error, standard_error
from lit_dqn.commands import launch_checks
from lit_dqn.commands.report import fold


def test_a_run_says_at_its_start_what_it_is_and_where_it_ends(folder, monkeypatch, capsys):
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny(**{"trainer.max_time": "00:01:00:00"})) == 0
    said = capsys.readouterr().err.splitlines()
    assert said[:4] == [
        "env: CartPole-v1, 8 side by side; observations (4,), 2 actions",
        "network: MLP, 10,934 weights, on cpu",
        "ends after: 80 env steps, or 1:00:00 of training",
        "folder: lightning_logs/cartpole/version_0",
    ]


def test_a_run_without_any_limit_says_so(folder, monkeypatch, capsys):
    class Enough(Exception):
        pass

    def fit(*args, **kwargs):
        raise Enough

    monkeypatch.setattr("lit_dqn.commands.trainer.Trainer.fit", fit)
    with pytest.raises(Enough):
        run(monkeypatch, "fit", *CARTPOLE, *tiny(**{"stop.max_env_steps": "null"}))
    said = capsys.readouterr().err
    assert "ends never: no limit on env steps, episodes, updates or time is set; Ctrl-C ends the run" in said
    assert "ends after" not in said


@pytest.mark.parametrize(("logger", "speaks"), [("CSVLogger", False), ("TensorBoardLogger", True)])
def test_only_a_run_with_tensorboard_speaks_of_it(folder, monkeypatch, capsys, logger, speaks):
    logger = (f"--trainer.logger={logger}", "--trainer.logger.save_dir=logs", "--trainer.logger.name=cartpole")
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny(), *logger) == 0
    said = capsys.readouterr().err
    assert "run: logs/cartpole/version_0" in said
    assert ("look at it with: tensorboard --logdir logs\n" in said) is speaks
    assert ("tensorboard" in said.lower()) is speaks


@pytest.mark.parametrize(
    ("precision", "seconds_of_bfloat16", "warns"),
    [("bf16-mixed", 0.5, True), ("bf16-mixed", 0.02, False), ("32-true", 0.5, False)],
)
def test_a_run_is_warned_where_bfloat16_is_slow(folder, monkeypatch, capsys, precision, seconds_of_bfloat16, warns):
    seconds = {torch.bfloat16: seconds_of_bfloat16, torch.float32: 0.0125}
    monkeypatch.setattr("lit_dqn.commands.launch_checks._seconds_of_product", seconds.__getitem__)
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny(**{"trainer.precision": precision})) == 0
    said = (
        "trainer.precision: bf16-mixed takes 40 times as long as float32 for a product of matrices on this CPU; a run "
        "is faster with --trainer.precision 32-true\n"
    )
    assert (said in capsys.readouterr().err) is warns


def test_a_product_of_matrices_is_measured():
    assert 0 < launch_checks._seconds_of_product(torch.float32) < 1


class Elsewhere(Logger):
    """Stands for W&B or MLflow: a logger without a folder for each version."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__()
        self._name = name
        self.logged: set[str] = set()
        self.hyperparameters: dict = {}
        EVERYWHERE.append(self)

    @property
    def name(self) -> str | None:
        return self._name

    version = "elsewhere"

    def log_metrics(self, metrics, step=None) -> None:
        self.logged |= set(metrics)

    def log_hyperparams(self, params, *args, **kwargs) -> None:
        self.hyperparameters.update(params)


EVERYWHERE: list[Elsewhere] = []


@pytest.mark.parametrize(
    ("logger", "name"),
    [
        (["--trainer.logger=test_report.Elsewhere", "--trainer.logger.name=mine"], "mine"),
        pytest.param(["--trainer.logger=false"], "cartpole", marks=pytest.mark.slow),
        pytest.param(
            ["--trainer.logger=test_report.Elsewhere", "--trainer.logger.name=null"], "cartpole", marks=pytest.mark.slow
        ),
        pytest.param(["--trainer.logger=true"], "cartpole", marks=pytest.mark.slow),
    ],
)
def test_a_run_has_its_folder_whatever_it_logs_to(folder, monkeypatch, capsys, logger, name):
    EVERYWHERE.clear()
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny(), *logger) == 0
    version = folder / "lightning_logs" / name / "version_0"
    assert f"folder: lightning_logs/{name}/version_0" in capsys.readouterr().err
    assert {"config.yaml", "episodes.csv", "checkpoints"} <= {file.name for file in version.iterdir()}
    assert list(folder.iterdir()) == [folder / "lightning_logs"]
    for elsewhere in EVERYWHERE:
        assert {"train/loss", "rollout/ep_rew", "rollout/exploration_rate", "eval/mean_reward"} <= elsewhere.logged
        assert elsewhere.hyperparameters["model.optimizer"] == "Adam"
        assert not [name for name in elsewhere.hyperparameters if "instantiator" in name]
    # It resumes there, and its kept config begins another run of the same kind.
    further = tiny(**{"stop.max_env_steps": 140})
    assert run(monkeypatch, "fit", *CARTPOLE, *further, *logger, "--ckpt_path=last") == 0
    assert run(monkeypatch, "fit", "--config", version / "config.yaml", "--stop.max_env_steps=80") == 0
    assert sorted(path.name for path in version.parent.iterdir()) == ["version_0", "version_1"]
    assert run(monkeypatch, "test", *CARTPOLE, *tiny(), *logger, "--ckpt_path=best") == 0


def test_no_line_is_lightnings_own(folder, monkeypatch, caplog, capsys):
    for verb, *more in (["fit"], ["validate", "--ckpt_path=last"], ["test", "--ckpt_path=last"]):
        assert run(monkeypatch, verb, *CARTPOLE, *tiny(), *more) == 0
    assert {record.name for record in caplog.records if record.levelno >= logging.INFO} <= {"lit_dqn"}
    said = "".join(capsys.readouterr())
    for foreign in ("GPU", "Seed set", "Restoring", "DataLoader", "logging interval", "Trainer.fit"):
        assert foreign not in said


def test_what_is_measured_stands_in_a_table_of_round_numbers(folder, monkeypatch, capsys):
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny()) == 0
    capsys.readouterr()
    assert run(monkeypatch, "validate", *CARTPOLE, *tiny(**{"data.eval_episodes": 3}), "--ckpt_path=last") == 0
    lines = capsys.readouterr().out.splitlines()
    values = {name: value for name, value in (line.split() for line in lines)}
    assert values["eval/episodes"] == "3"
    assert "eval/mean_reward" in values
    assert all(re.fullmatch(r"-?[\d,]+(\.\d{2}|\.\d{4})?", value) for value in values.values())


def test_plus_minus_is_the_standard_error_everywhere(folder, monkeypatch, capsys):
    returns = torch.tensor([1.0, 2.0, 6.0, 7.0])
    error = standard_error(returns.std(correction=0).item(), 4)
    assert error == pytest.approx((26 / 3) ** 0.5 / 2)
    assert mean_with_error(4.0, error, 4) == "4.00 ± 1.47 (mean and its standard error over 4 episodes)"
    assert mean_with_error(4.0, standard_error(0.0, 1), 1) == "4.00 (1 episode)"
    three = tiny(**{"data.eval_max_steps": 500, "data.eval_episodes": 3})
    assert run(monkeypatch, "fit", *CARTPOLE, *three) == 0
    assert run(monkeypatch, "validate", *CARTPOLE, *three, "--ckpt_path=last") == 0
    shown = capsys.readouterr()
    (spread,) = re.findall(r"eval/std_reward +(\S+)", shown.out)
    (plus_minus,) = re.findall(r"reached: .* ± (\S+) \(mean and its standard error over 3 episodes\)", shown.err)
    assert float(spread) > 0
    assert float(plus_minus) == pytest.approx(float(spread) / 2**0.5, abs=0.011)


def test_a_terminal_breaks_no_word(monkeypatch):
    monkeypatch.setattr("shutil.get_terminal_size", lambda: __import__("os").terminal_size((30, 10)))
    line = "run: lightning_logs/a-name-with-dashes/that-is-longer-than-the-line and some words more"
    assert fold(line).split() == line.split()
    assert max(map(len, fold(line).splitlines()[2:])) <= 30
