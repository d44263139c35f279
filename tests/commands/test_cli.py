import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import lit_dqn
from helpers import CARTPOLE, CONFIGS, run, tiny
from lit_dqn.commands.parser import sentence_of


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data.env_id=CartPol-v1"], "env_id: there is no environment 'CartPol-v1'; did you mean CartPole-v1"),
        (["--data.env_id=Pendulum-v1"], "env_id: 'Pendulum-v1' has the action space Box"),
        (["--model.network=NatureCNN"], "^error: network: NatureCNN takes images"),
        (["--data.batch_size=60000"], "batch_size: 60000"),
        (["--data.capacty=5"], "data.capacty: there is no such key; did you mean capacity?"),
        (["--stop.max_episode=5"], "stop.max_episode: there is no such key; did you mean max_episodes?"),
        (["--data.num_workers=5"], "data.num_workers: the envs are played in the training process"),
        (["--data.capacity=9000000000000"], "capacity: a replay of 9,000,000,000,000 timesteps takes"),
        (["--data.gamma=1.01"], "gamma: 1.01"),
        (["--data.policy.init_args.epsilon=-0.1"], "epsilon: -0.1"),
        (["--data.gamma=much"], "gamma"),
        (["--trainer.gradient_clip_val=1"], "trainer.gradient_clip_val: .* set --model.max_grad_norm"),
        (["--trainer.accumulate_grad_batches=2"], "trainer.accumulate_grad_batches"),
        (["--trainer.devices=2"], "trainer.devices: 2 on 1 nodes is not possible"),
        (["--trainer.precision=16-true"], "trainer.precision: 16-true is not possible"),
        (["--seed_everything=-1"], "seed_everything: "),
        (["--data.policy.init_args.epsilon.init_args.env_steps=0"], "env_steps: 0 of a schedule"),
        (
            ["--model.network=torch.nn.Linear"],
            "network: Linear cannot be made from .*; set --model.network lit_dqn.MLP",
        ),
        (
            ["--ckpt_path=last", "--trainer.logger=false"],
            "ckpt_path: there is no last.ckpt under lightning_logs.cartpole yet",
        ),
        (["--ckpt_path=nowhere.ckpt"], "ckpt_path: there is no checkpoint nowhere.ckpt"),
        (["--ckpt_path=last"], "ckpt_path: there is no last.ckpt under .*cartpole yet"),
        (["--model.init_from=nowhere.safetensors"], "init_from: nowhere.safetensors"),
    ],
)
def test_bad_input_ends_with_one_sentence_and_no_folder(folder, monkeypatch, capsys, arguments, sentence):
    assert run(monkeypatch, "fit", *CARTPOLE, *arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert re.search(sentence, lines[0])
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("key", ["capacty", "num_workers"])
def test_a_misspelt_key_in_a_file_is_named_too(folder, monkeypatch, capsys, key):
    config = yaml.safe_load((CONFIGS / "cartpole.yaml").read_text())
    config["data"][key] = 3
    (folder / "bad.yaml").write_text(yaml.dump(config))
    assert run(monkeypatch, "fit", "--config", "bad.yaml") == 2
    assert f"error: data.{key}: " in capsys.readouterr().err


def test_early_stopping_on_a_metric_that_there_is_not_names_those_that_there_are(folder, monkeypatch, capsys):
    words = ("--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=eval/reward")
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny(), *words) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: trainer.callbacks: EarlyStopping watches eval/reward, and there is no such metric;")
    assert "eval/mean_reward" in said


def test_a_logger_whose_package_is_missing_is_named_with_what_to_install():
    message = """Does not validate against any of the Union subtypes
    Errors:
      - Not a valid subclass of Logger
      - Problem with given class_path 'lightning.pytorch.loggers.WandbLogger':
          Requirement 'wandb>=0.12.10' not met. HINT: Try running `pip install -U 'wandb>=0.12.10'`
      - Expected a <class 'bool'>"""
    assert sentence_of(message) == (
        "lightning.pytorch.loggers.WandbLogger needs a package that is not installed; pip install 'wandb>=0.12.10'."
    )


def test_fit_then_resume_then_look(folder, monkeypatch, capsys):
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny()) == 0
    said = capsys.readouterr().err
    assert "reached: evaluation return" in said
    assert "max_env_steps 80 reached" in said
    version = folder / "lightning_logs/cartpole/version_0"
    assert f"tensorboard --logdir {Path('lightning_logs')}" in said
    assert {"config.yaml", "episodes.csv", "checkpoints"} <= {file.name for file in version.iterdir()}

    # The run resumes in its own folder, to a further limit.
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny(**{"stop.max_env_steps": 140}), "--ckpt_path=last") == 0
    assert "168 env steps" in capsys.readouterr().err
    assert [path.name for path in version.parent.iterdir()] == ["version_0"]

    # A replay of another size is refused, and the run's folder stays as it was.
    before = (version / "config.yaml").read_text()
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny(**{"data.capacity": 200}), "--ckpt_path=last") == 2
    assert "capacity: the checkpoint was made with 100, not 200" in capsys.readouterr().err
    assert (version / "config.yaml").read_text() == before

    for subcommand in ("validate", "test"):
        assert run(monkeypatch, subcommand, *CARTPOLE, *tiny(), "--ckpt_path=best") == 0
        said = capsys.readouterr()
        assert "eval/mean_reward" in said.out
        assert f"agent: {Path('lightning_logs/cartpole/version_0/checkpoints/best.ckpt')}, env step " in said.err
    assert run(monkeypatch, "predict", *CARTPOLE, *tiny(), f"--ckpt_path={version}") == 0
    assert np.load(version / "predictions/env_step_168/episode_2.npz")["observation"].shape == (6, 4)
    assert [path.name for path in folder.iterdir()] == ["lightning_logs"]


@pytest.mark.slow
def test_every_verb_takes_the_config_that_a_run_has_kept(folder, monkeypatch, capsys):
    pytest.importorskip("onnxruntime")
    runs = folder / "lightning_logs/cartpole"
    kept = ("--config", runs / "version_0/config.yaml")
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny(), "--trainer.logger.init_args.version=0") == 0
    before = (runs / "version_0/config.yaml").read_text()
    assert run(monkeypatch, "fit", *kept, "--stop.max_env_steps=140", "--ckpt_path=last") == 0
    after = (runs / "version_0/config.yaml").read_text()
    assert after == before.replace("max_env_steps: 80", "max_env_steps: 140")
    assert run(monkeypatch, "fit", *kept, "--plan") == 0
    for verb in ("validate", "test", "predict", "export"):
        assert run(monkeypatch, verb, *kept, f"--ckpt_path={runs / 'version_0'}") == 0, capsys.readouterr().err
    # Kept by a run that was resumed, it begins another one all the same.
    assert run(monkeypatch, "fit", *kept) == 0, capsys.readouterr().err
    assert sorted(path.name for path in runs.iterdir()) == ["version_0", "version_1"]
    capsys.readouterr()
    assert run(monkeypatch, "fit", "--print_config", *CARTPOLE) == 0
    (folder / "printed.yaml").write_text(capsys.readouterr().out)
    assert run(monkeypatch, "test", "--config", "printed.yaml", *tiny()) == 0


def test_a_file_may_say_that_no_plan_is_asked_for(folder, monkeypatch):
    (folder / "asked.yaml").write_text("plan: false\n")
    assert run(monkeypatch, "fit", *CARTPOLE, "--config=asked.yaml", *tiny()) == 0
    assert (folder / "lightning_logs/cartpole/version_0/checkpoints/last.ckpt").exists()


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        (
            {"WORLD_SIZE": "2", "RANK": "1"},
            r"WORLD_SIZE: 2 processes .* has RANK 1\), .* --trainer.devices 2 --data.shards 2.* without torchrun",
        ),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "3"}, r"SLURM_NTASKS: 4 .* SLURM_PROCID 3\), .* by srun --ntasks=1"),
    ],
)
def test_one_of_several_processes_that_would_all_make_one_run_is_refused(
    folder, monkeypatch, capsys, environment, sentence
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny()) == 2
    assert re.search(f"error: {sentence}", capsys.readouterr().err)
    assert list(folder.iterdir()) == []


def test_one_process_of_a_launcher_runs(folder, monkeypatch):
    for name, value in {"WORLD_SIZE": "1", "SLURM_NTASKS": "1"}.items():
        monkeypatch.setenv(name, value)
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny(), "--trainer.logger=false") == 0


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        ("CSVLogger", "$SCRATCH/logs"),
        pytest.param("CSVLogger", "~/logs", marks=pytest.mark.slow),
        pytest.param("TensorBoardLogger", "$SCRATCH/logs", marks=pytest.mark.slow),
        pytest.param("TensorBoardLogger", "~/logs", marks=pytest.mark.slow),
    ],
)
def test_a_run_is_found_again_where_its_logger_has_put_it(folder, monkeypatch, capsys, kind, written):
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.setenv("SCRATCH", str(folder / "home"))
    logger = [f"--trainer.logger={kind}", f"--trainer.logger.save_dir={written}", "--trainer.logger.name=cartpole"]
    version = folder / "home/logs/cartpole/version_0"
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny(), *logger) == 0
    assert (version / "checkpoints/last.ckpt").exists()
    assert f"save_dir: {written}" in (version / "config.yaml").read_text()
    further = tiny(**{"stop.max_env_steps": 140})
    assert run(monkeypatch, "fit", *CARTPOLE, *further, *logger, "--ckpt_path=last") == 0, capsys.readouterr().err
    assert [path.name for path in version.parent.iterdir()] == ["version_0"]
    assert run(monkeypatch, "test", *CARTPOLE, *tiny(), *logger, "--ckpt_path=best") == 0
    assert [path.name for path in folder.iterdir()] == ["home"]


def test_a_variable_that_is_not_set_is_named(folder, monkeypatch, capsys):
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny(), "--trainer.logger.save_dir=$NO_SUCH/logs") == 2
    assert "error: trainer.logger.init_args.save_dir: $NO_SUCH/logs names $NO_SUCH, which is not set" in (
        capsys.readouterr().err
    )
    assert list(folder.iterdir()) == []


def test_a_resume_never_leaves_the_kept_config_empty(folder, monkeypatch, capsys):
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny()) == 0
    kept = folder / "lightning_logs/cartpole/version_0/config.yaml"
    before, seen = kept.read_text(), []
    replace = os.replace

    def looks(source, target):
        if Path(target).name == "config.yaml":
            seen.append((kept.read_text(), Path(source).read_text()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", looks)
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny(**{"stop.max_env_steps": 140}), "--ckpt_path=last") == 0
    assert seen == [(before, kept.read_text())]


def test_a_run_with_initial_weights_resumes_without_their_file(folder, monkeypatch, capsys):
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny()) == 0
    weights = folder / "weights.ckpt"
    (folder / "lightning_logs/cartpole/version_0/checkpoints/last.ckpt").rename(weights)
    logger = ("--trainer.logger.init_args.name=warm", f"--model.init_from={weights}")
    assert run(monkeypatch, "fit", *CARTPOLE, *logger, *tiny()) == 0
    weights.unlink()
    further = tiny(**{"stop.max_env_steps": 140})
    assert run(monkeypatch, "fit", *CARTPOLE, *logger, *further, "--ckpt_path=last") == 0, capsys.readouterr().err


def test_a_run_is_never_written_over(folder, monkeypatch, capsys):
    version = "--trainer.logger.init_args.version=0"
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny(), version) == 0
    written = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny(), version) == 2
    assert "version_0 exists already; resume it by --ckpt_path last" in capsys.readouterr().err
    assert written == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_checkpoint_of_another_network_or_half_a_file_is_refused(folder, monkeypatch, capsys):
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny()) == 0
    checkpoint = folder / "lightning_logs/cartpole/version_0/checkpoints/last.ckpt"
    hidden = "--model.network.init_args.hidden_sizes=[8]"
    capsys.readouterr()
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny(), hidden, f"--ckpt_path={checkpoint}") == 2
    assert "and cannot be resumed with another; set --model.network" in capsys.readouterr().err
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert run(monkeypatch, "test", *CARTPOLE, *tiny(), f"--ckpt_path={checkpoint}") == 2
    assert "is damaged or no checkpoint" in capsys.readouterr().err


def test_a_loss_that_is_no_number_leaves_the_last_good_checkpoint(folder, monkeypatch, capsys):
    huber, calls = lit_dqn.learning.objectives.objective.huber, []

    def breaks_in_the_second_epoch(td_error, delta):
        calls.append(td_error)
        return huber(td_error, delta) * (float("nan") if len(calls) > 20 else 1)

    monkeypatch.setattr(lit_dqn.learning.objectives.objective, "huber", breaks_in_the_second_epoch)
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny(**{"stop.max_env_steps": 1000})) == 2
    last = Path("lightning_logs/cartpole/version_0/checkpoints/env_step_104.ckpt")
    said = capsys.readouterr().err
    assert "error: the loss became nan at update 20 (env step 136)" in said
    assert f"The last good checkpoint is {last}" in said
    weights = torch.load(last, weights_only=True)["state_dict"]
    assert all(torch.isfinite(weight).all() for weight in weights.values())


def test_the_agent_is_a_chosen_class_and_takes_no_defaults_from_another(folder, monkeypatch, capsys):
    walk = ("--data.env_id=lit_dqn/RandomWalk-v0", "--model.network=lit_dqn.MLP", "--trainer.logger=false")
    policies = ("--data.policy=UniformRandom", "--data.eval_policy=UniformRandom")
    assert run(monkeypatch, "fit", "--print_config", *walk, "--model=LitTD") == 0
    printed = yaml.safe_load(capsys.readouterr().out)["model"]
    assert printed["class_path"] == "lit_dqn.LitTD"
    assert printed["init_args"]["target_update_period"] == 1
    assert run(monkeypatch, "fit", *tiny(), "--model=LitTD", *walk, *policies) == 0
    assert "RMS error of V" in capsys.readouterr().err

    assert run(monkeypatch, "fit", *tiny(), "--model=LitTD", *walk) == 2
    assert "error: policy: EpsilonGreedy chooses what the agent prefers" in capsys.readouterr().err
    assert run(monkeypatch, "fit", *tiny(), "--model=LitTD", "--model.objectiv=TDLearning", *walk) == 2
    assert "objectiv: there is no such key; did you mean objective?" in capsys.readouterr().err
    assert run(monkeypatch, "fit", *tiny(), "--model=LitD", *walk) == 2
    assert "error: model: there is no agent LitD; give one of LitActorCritic, LitDQN, LitTD" in capsys.readouterr().err


def test_null_on_the_command_line_reaches_the_settings_of_a_part(folder, monkeypatch, capsys):
    words = ("--model.network.noise=0.5", "--model.network.noise=null", "--model.objective.huber_delta", "null")
    assert run(monkeypatch, "fit", "--print_config", *CARTPOLE, *words, "--data.env_kwargs.name=None") == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    model = printed["model"]["init_args"]
    assert printed["data"]["env_kwargs"] == {"name": "None"}  # a text, as YAML has it
    assert model["network"]["init_args"]["noise"] is None
    assert model["objective"]["init_args"]["huber_delta"] is None
