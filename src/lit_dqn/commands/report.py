"""The reports of a run at its start and its end."""

import logging
import shutil
import textwrap
from collections.abc import Mapping

import lightning
from lightning.pytorch.loggers import TensorBoardLogger

from lit_dqn.callbacks import StoppingRules, TrainingStatistics, mean_with_error, run_folder, standard_error
from lit_dqn.callbacks.progress import error_of_values
from lit_dqn.callbacks.stopping import clock, time_limit
from lit_dqn.training.agent import LitAgent
from lit_dqn.training.data import ReplayDataModule

log = logging.getLogger("lit_dqn")


def describe_env(data: ReplayDataModule) -> str:
    """The env, the number of envs, and the observations and actions."""
    beside = f", {data.num_envs:,} side by side" if data.num_envs > 1 else ""
    images = data.sees_images
    if data.parts is None:
        seen = str(data.observation_shape)
    else:
        seen = ", ".join(f"{name} {shape}" for name, shape in data.parts.shapes.items())
        images = any(part.image and len(part.shape) == 3 for part in data.parts.values())
    axes = " (of images: channels, height, width)" if images else ""
    return f"{data.env_id}{beside}; observations {seen}{axes}, {_actions(data)}"


def _actions(data: ReplayDataModule) -> str:
    if isinstance(data.num_actions, int):
        return f"{data.num_actions:,} actions"
    parts = len(data.num_actions)
    return f"{parts} actions at once, with {sum(data.num_actions)} choices and {data.num_combinations:,} combinations"


def describe_network(agent: LitAgent) -> str:
    """The class of the online network and its size."""
    weights = sum(parameter.numel() for parameter in agent.online.parameters())
    return f"{type(agent.online).__name__}, {weights:,} weights"


def say_what_begins(trainer: lightning.Trainer, agent: LitAgent, data: ReplayDataModule, stop: StoppingRules) -> None:
    """Env, network, limits and folder of the run, one line each."""
    log.info("env: %s", describe_env(data))
    log.info("network: %s, on %s", describe_network(agent), trainer.strategy.root_device)
    limits = stop.limits(trainer)
    if limits:
        log.info("ends after: %s", ", or ".join(limits))
    else:
        log.warning("ends never: no limit on env steps, episodes, updates or time is set; Ctrl-C ends the run")
    folder = run_folder(trainer)
    if folder is not None:
        log.info("folder: %s", folder)


def say_metrics(metrics: Mapping[str, float]) -> None:
    """The metrics of `validate` and `test`, one line each."""
    for name, value in metrics.items():
        exactly = f"{value:,.0f}" if value.is_integer() else f"{value:,.2f}" if abs(value) >= 1 else f"{value:.4f}"
        print(f"{name:<24} {exactly:>12}")


def say_what_was_reached(
    trainer: lightning.Trainer, data: ReplayDataModule, statistics: TrainingStatistics, stop: StoppingRules
) -> None:
    """The last evaluation, the amount of playing and learning, and where to look at the results."""
    collector = data.collector
    assert collector is not None
    metrics = trainer.callback_metrics
    if "eval/mean_reward" in metrics:
        mean, spread, episodes = (metrics[f"eval/{name}"].item() for name in ("mean_reward", "std_reward", "episodes"))
        log.info(
            "reached: evaluation return %s, length %s%s",
            mean_with_error(mean, standard_error(spread, round(episodes)), round(episodes)),
            f"{metrics['eval/mean_ep_length'].item():,.1f}",
            error_of_values(metrics),
        )
    played = f"played: {collector.episodes:,} episodes, {collector.env_step:,} env steps"
    log.info(
        "%s; %s updates in %s",
        played if data.env_steps_per_update else "played: nothing, offline",
        f"{trainer.global_step:,}",
        clock(statistics.seconds),
    )
    seconds_left = time_limit(trainer)
    if not stop.reason and seconds_left is not None and seconds_left <= 0:
        log.info("stopped: max_time reached")  # the other limits were reported when they were reached
    folder = run_folder(trainer)
    if folder is not None:
        log.info("run: %s", folder)
        if any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers):
            log.info("look at it with: tensorboard --logdir %s", folder.parent.parent)


def fold(line: str) -> str:
    """A text folded at a width without breaking words."""
    columns = shutil.get_terminal_size().columns
    return textwrap.fill(line, columns, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
