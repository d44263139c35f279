"""`python -m lit_dqn fit ... --plan`: the needs and the estimated duration of a run, without running it."""

import shutil
import textwrap
import time
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from lit_dqn.callbacks.checkpoints import Checkpoints
from lit_dqn.callbacks.stopping import StoppingRules, time_limit, timers_of
from lit_dqn.commands.plan_place import describe_place, describe_time, measure_steps
from lit_dqn.commands.report import describe_env, describe_network
from lit_dqn.envs import AtariProtocol, is_atari
from lit_dqn.playing.policies import EpsilonGreedy, Policy, Softmax
from lit_dqn.replay import Sequences, available_bytes, device_bytes
from lit_dqn.training.agent import LitAgent
from lit_dqn.training.data import ReplayDataModule

MIN_COLUMNS = 40
"""The narrowest width for which lines are folded."""

WARM_UP_SECONDS, TRIAL_SECONDS = 2.0, 10.0
TRIAL_CAPACITY = 5_000
"""Timesteps of the trial's replay: more than fit into the cache, but quickly filled."""


def plan(trainer: lightning.Trainer, model: LitAgent, data: ReplayDataModule, stop: StoppingRules) -> None:
    """Print a run's sizes, then train for some seconds and print its speed and estimated duration.

    The data module cannot be used afterwards: the trial makes its replay smaller.

    Args:
        trainer: without a logger, so that the trial leaves no trace, checkpoints included.
        model: the agent.
        data: of the run.
        stop: the limits of the run.

    """
    prefilled = data.check_prefill()
    for word, sentence in _sizes(trainer, model, data, stop, prefilled).items():
        print(_folded(word, sentence), flush=True)
    step = None if data.place is None else measure_steps(data)
    if step is not None:
        print(_folded("place", describe_place(data, step)), flush=True)
    env_steps = _env_steps(trainer, data, stop, prefilled)
    end = f"ends after {stop.max_episodes:,} episodes" if stop.max_episodes else "has no limit that is known before"
    or_sooner = f", or after {stop.max_episodes:,} episodes" if stop.max_episodes else ""
    seconds = time_limit(trainer)
    clock = "env steps" if data.env_steps_per_update else "updates"
    trial = _Trial(data)
    # Only the trial's own timer ends it.
    timers = timers_of(trainer)
    trainer.callbacks = [callback for callback in trainer.callbacks if callback not in timers]  # type: ignore[attr-defined]
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Checkpoints):
            callback.needs_folder = False
    stop.max_env_steps = stop.max_episodes = stop.mean_return = None
    trainer.fit_loop.max_epochs = trainer.fit_loop.epoch_loop.max_steps = -1
    least = data.sampler.least_capacity(data.num_envs, data.horizon.longest)
    data.capacity = min(data.capacity, max(TRIAL_CAPACITY, data.batch_size, data.env_steps_per_chunk, least))
    data.min_replay_size = min(data.min_replay_size, data.capacity // 2 + data.batch_size)
    # Later in a run the network chooses nearly every action, but not the first ones.
    data.policy = _as_later(data.policy, env_steps or 10**9)
    trainer.callbacks.append(trial)  # type: ignore[attr-defined]
    trainer.fit(model, datamodule=data)
    played = f"{trial.env_steps_per_second:,.0f} env steps/s, " if data.env_steps_per_update else ""
    print(
        f"{'trial':<11} {trial.seconds:.1f} s: {played}"
        f"{trial.env_steps_per_second / _steps_per_update(data):,.0f} updates/s"
    )
    if step is not None:
        print(_folded("", describe_time(data, step, trial.env_steps_per_second)))
    if env_steps is not None and (seconds is None or env_steps / trial.env_steps_per_second < seconds):
        minutes = round(env_steps / trial.env_steps_per_second / 60)
        print(f"{'the run':<11} {minutes // 60} h {minutes % 60:02} min, without its evaluations")
    elif seconds is not None:
        steps = seconds * trial.env_steps_per_second
        print(
            f"{'the run':<11} ends by max_time after some {steps:,.0f} {clock}, less what evaluations take{or_sooner}"
        )
    else:
        print(f"{'the run':<11} {end}; how many {clock} that takes is not known")


def _folded(word: str, sentence: str) -> str:
    """A line of the plan, folded at the width of the terminal, with a hanging indent."""
    columns = max(shutil.get_terminal_size().columns, MIN_COLUMNS)
    return textwrap.fill(f"{word:<11} {sentence}", columns, subsequent_indent=" " * 12)


def _sizes(
    trainer: lightning.Trainer, model: LitAgent, data: ReplayDataModule, stop: StoppingRules, prefilled: int
) -> dict[str, str]:
    replay_bytes = data.replay_bytes(data.capacity)
    weights = sum(parameter.numel() for parameter in model.online.parameters())
    # Online and target weights, and two averages per weight if the optimiser is like Adam.
    state_bytes = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values()) + 8 * weights
    env_steps = _env_steps(trainer, data, stop, prefilled)
    sizes = {
        "env": describe_env(data),
        "replay": f"{data.capacity:,} timesteps, {replay_bytes / 1e9:,.2f} GB when full; "
        f"{available_bytes() / 1e9:,.1f} GB of memory are free",
        "network": describe_network(model),
        "checkpoint": f"{state_bytes / 1e6:,.1f} MB, and {replay_bytes / 1e9:,.2f} GB of replay",
    }
    device = trainer.strategy.root_device
    if data.device_of_frames(device) is not None:
        sizes["frames"] = (
            f"{data.device_frames_bytes(data.capacity) / 1e9:,.2f} GB of them on the GPU, too; "
            f"{device_bytes(device) / 1e9:,.1f} GB of its memory are free"
        )
    if is_atari(data.env_id):
        protocol = AtariProtocol.of(data.env_id, data.env_kwargs).describe()
        sizes["protocol"] = ", ".join(f"{key} {value}" for key, value in protocol.items())
    if prefilled:
        more = "the run plays after them" if data.env_steps_per_update else "the run learns from them alone, offline"
        sizes["prefill"] = f"{prefilled:,} timesteps of demonstrations in the replay; {more}"
    if data.env_steps_per_update == 0:
        sizes["updates"] = f"{'' if env_steps is None else f'{env_steps:,} '}of {_batch(data)}"
    elif env_steps is None:
        sizes["updates"] = f"of {_batch(data)}, one every {data.env_steps_per_update} env steps"
    else:
        updates = max(env_steps - _warm_up(data, prefilled), 0) // data.env_steps_per_update
        sizes["updates"] = f"{updates:,} of {_batch(data)}, for {env_steps:,} env steps"
    return sizes


def _batch(data: ReplayDataModule) -> str:
    """What an update learns from."""
    if isinstance(data.sampler, Sequences):
        return f"{data.batch_size} sequences of up to {data.sampler.length} transitions"
    return f"{data.batch_size} transitions"


def _env_steps(
    trainer: lightning.Trainer, data: ReplayDataModule, stop: StoppingRules, prefilled: int = 0
) -> int | None:
    """Env steps of the run, by its nearest known limit; offline, its updates."""
    limits = []
    if stop.max_env_steps is not None:
        limits.append(stop.max_env_steps)
    if trainer.max_steps >= 0:
        limits.append(_after(data, trainer.max_steps, prefilled))
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        limits.append(_after(data, trainer.max_epochs * data.updates_per_epoch, prefilled))
    return min(limits, default=None)


def _after(data: ReplayDataModule, updates: int, prefilled: int) -> int:
    """Env steps played before an update."""
    return _warm_up(data, prefilled) + updates * _steps_per_update(data)


def _warm_up(data: ReplayDataModule, prefilled: int) -> int:
    """Env steps played before the first update."""
    return max(data.min_replay_size - prefilled, 0)


def _steps_per_update(data: ReplayDataModule) -> int:
    """The advance of the count of env steps per update; offline it counts updates."""
    return data.env_steps_per_update or 1


def _as_later(policy: Policy, env_step: int) -> Policy:
    """A policy with its schedule fixed at an env step; other policies unchanged."""
    if type(policy) is EpsilonGreedy:
        return EpsilonGreedy(policy.epsilon(env_step), policy.spread)
    if type(policy) is Softmax:
        return Softmax(policy.temperature(env_step))
    return policy


class _Trial(Callback):
    """Measures some seconds of training, after a warm-up, and ends it."""

    def __init__(self, data: ReplayDataModule) -> None:
        self._data = data
        self._began: float | None = None
        self._first: tuple[float, int] | None = None
        self.seconds = 0.0
        self.env_steps_per_second = 0.0

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any) -> None:
        assert self._data.collector is not None
        now, env_step = time.monotonic(), self._data.collector.env_step
        if self._began is None:
            self._began = now
        if self._first is None:
            if now - self._began >= WARM_UP_SECONDS:
                self._first = (now, env_step)
            return
        self.seconds = now - self._first[0]
        if self.seconds >= TRIAL_SECONDS:
            if trainer.lightning_module.device.type == "cuda":
                torch.cuda.synchronize()
                self.seconds = time.monotonic() - self._first[0]
            self.env_steps_per_second = (env_step - self._first[1]) / self.seconds
            trainer.should_stop = True
