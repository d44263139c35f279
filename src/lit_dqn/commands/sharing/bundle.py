"""An agent as plain files for a hub. Pulled files are checked as strictly as checkpoints."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
import yaml

from lit_dqn.commands.inputs import dump_yaml
from lit_dqn.commands.resume import FROM_THE_DATA, settings_of
from lit_dqn.errors import ConfigError, one_line
from lit_dqn.saving import durable
from lit_dqn.saving.checkpoint import Checkpoint
from lit_dqn.saving.find import find_checkpoint
from lit_dqn.saving.layout import BEST, CHECKPOINTS, CONFIG, EPISODES, RESULTS, run_of_checkpoint
from lit_dqn.saving.plain import check_plain
from lit_dqn.saving.settings import checked_arguments
from lit_dqn.saving.specification import specification
from lit_dqn.saving.trust import Trust
from lit_dqn.training.actor_critic import LitActorCritic
from lit_dqn.training.agent import LitAgent
from lit_dqn.training.data import ReplayDataModule
from lit_dqn.training.dqn import LitDQN
from lit_dqn.training.loading import load_agent
from lit_dqn.training.td import LitTD

CARD, WEIGHTS, CURVE = "README.md", "model.safetensors", "learning_curve.png"

NEEDED, MAY_COME = (CONFIG, WEIGHTS), (CARD, RESULTS, CURVE)
"""Files of a repository that are pulled."""

MAX_BYTES = {CONFIG: 100_000, CARD: 1_000_000, RESULTS: 10_000_000, CURVE: 10_000_000}
"""The most bytes of a file other than the weights."""


AGENTS: dict[str, type[LitAgent]] = {f"lit_dqn.{agent.__name__}": agent for agent in (LitDQN, LitTD, LitActorCritic)}


class Agent(NamedTuple):
    """An agent to be pushed."""

    settings: dict[str, Any]  # as in a config file
    weights: bytes  # safetensors
    env_step: int
    result: dict[str, Any] | None  # an entry of `results.json`; None: not tested
    episodes: Path | None  # `episodes.csv` of its run


def agent_of(run: Path) -> Agent:
    """The agent of a run: its best checkpoint, or the newest if there is no best one yet.

    Args:
        run: its folder, or a `.ckpt` file.

    Raises:
        ConfigError: if there is none, or it has classes that others do not have.

    """
    path = run
    if run.is_dir():
        best = run / CHECKPOINTS / BEST
        path = best if best.is_file() else find_checkpoint(str(run), run).path
    checkpoint = Checkpoint.read(path)
    settings = _settings(checkpoint, type(load_agent(path)))
    weights = {name: weight.contiguous() for name, weight in checkpoint.online_weights().items()}
    folder = run_of_checkpoint(path)
    episodes = None if folder is None else folder / EPISODES
    return Agent(
        settings,
        safetensors.torch.save(weights),
        checkpoint.env_step,
        _result_of(folder, checkpoint.env_step),
        episodes if episodes is not None and episodes.is_file() else None,
    )


def _settings(checkpoint: Checkpoint, agent: type[LitAgent]) -> dict[str, Any]:
    settings = settings_of(checkpoint, agent, Trust.registered())
    model = {key: value for key, value in settings["model"].items() if key != "init_from"}
    return {**settings, "model": {**specification(agent), "init_args": model}}


def _result_of(run: Path | None, env_step: int) -> dict[str, Any] | None:
    """The newest test of a checkpoint."""
    try:
        entries = json.loads((run / RESULTS).read_text()) if run is not None else []
        return next((entry for entry in reversed(entries) if entry["env_step"] == env_step), None)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"push: {run}/{RESULTS} cannot be read ({one_line(error)}); fix or remove it.") from error


def check_bundle(folder: Path, source: str) -> None:
    """Refuse files that are not an agent of lit_dqn, or could run code; rewrite the config in its parsed form.

    Args:
        folder: with the files of a repository.
        source: their origin, with which error messages begin.

    Raises:
        ConfigError: names the defect.

    """
    for name, most in MAX_BYTES.items():
        if (folder / name).is_file() and (folder / name).stat().st_size > most:
            raise ConfigError(f"{source}: its {name} has more than {most:,} bytes; take another repository.")
    try:
        config = checked_config((folder / CONFIG).read_text(encoding="utf-8"), source)
        with safetensors.safe_open(folder / WEIGHTS, framework="pt") as file:
            names = list(file.keys())
            damaged = [name for name in names if not torch.isfinite(file.get_tensor(name)).all()]
    # torch cannot check 4-bit weights, nor create every shape that a file may declare.
    except (OSError, UnicodeDecodeError, safetensors.SafetensorError, RuntimeError, TypeError) as error:
        raise ConfigError(f"{source}: it cannot be read ({one_line(error)}); take another repository.") from error
    if damaged or not names:
        what = f"the weight {damaged[0]} is not a number" if damaged else "there are no weights"
        raise ConfigError(f"{source}: {what}; take another repository.")
    durable.replace_text(folder / CONFIG, dump_yaml(config))


def checked_config(text: str, source: str) -> dict[str, Any]:
    """The settings of a stranger's config file, if they name only parts of lit_dqn, torch and Gymnasium.

    Args:
        text: of the file.
        source: as for `check_bundle`.

    Raises:
        ConfigError: names what could run code, or does not belong to an agent and its data.

    """
    said = {"source": source, "remedy": "take another repository, or copy its config by hand if you trust its author"}
    try:
        # With YAML references a text of a hundred characters can expand to a million values.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise ValueError("it repeats parts by references")
        config = yaml.safe_load(text)
        check_plain(config)
    # PyYAML fails with other errors on texts that are tagged as numbers, bools or dates.
    except (yaml.YAMLError, ValueError, RecursionError, IndexError, KeyError, AttributeError) as error:
        raise ConfigError(f"{source}: its {CONFIG} cannot be read ({one_line(error)}); {said['remedy']}.") from error
    needed = {"data", "model"}
    if not isinstance(config, Mapping) or not needed <= config.keys() <= needed | {"seed_everything"}:
        raise ConfigError(f"{source}: its {CONFIG} holds more or less than data, model and a seed; {said['remedy']}.")
    seed, model = config.get("seed_everything", 0), config["model"]
    agent = AGENTS.get(str(model.get("class_path"))) if isinstance(model, Mapping) else None
    if agent is None or type(seed) is not int or not model.keys() <= {"class_path", "init_args"}:
        raise ConfigError(f"{source}: its {CONFIG} names no agent of lit_dqn, or no seed; {said['remedy']}.")
    init_args = model.get("init_args") or {}
    if isinstance(init_args, Mapping) and {"init_from", *FROM_THE_DATA} & init_args.keys():
        raise ConfigError(f"{source}: its {CONFIG} says what the env or a file of yours says; {said['remedy']}.")
    trust = Trust.registered()
    return {
        "seed_everything": seed,
        "data": checked_arguments(ReplayDataModule, config["data"], trust, **said),
        "model": {**specification(agent), "init_args": checked_arguments(agent, init_args, trust, **said)},
    }
