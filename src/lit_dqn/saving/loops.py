"""Additions to Lightning's checkpoints, so that a run resumes as if it had never stopped."""

import logging
import warnings
from collections.abc import Callable, Iterable

import lightning
import torch
from torch import nn

from lit_dqn.errors import ConfigError
from lit_dqn.saving.contents import Contents
from lit_dqn.saving.random_state import random_state, set_random_state
from lit_dqn.saving.specification import as_typed

log = logging.getLogger("lit_dqn")


def write_position(checkpoint: Contents, trainer: lightning.Trainer) -> None:
    """Add generators, number of threads and kind of device, and normalise the position of the loops.

    Lightning's loops save their counters in the middle of hooks, and guess on resume where that was; some guesses are
    wrong (an evaluation is lost, or an epoch without a step is made). Here the position is always "k chunks of this
    epoch are done", with or without a due evaluation.
    """
    checkpoint.set_process_state(random_state(), torch.get_num_threads(), trainer.strategy.root_device.type)
    loop = trainer.fit_loop.epoch_loop
    chunks, chunks_per_epoch = loop.batch_progress.total.ready, trainer.num_training_batches
    if not isinstance(chunks_per_epoch, int) or chunks_per_epoch < 1:
        return  # no fit has started
    due = _evaluation_is_due(trainer)
    epochs, chunks_of_epoch = divmod(chunks, chunks_per_epoch)
    if due and chunks_of_epoch == 0:
        epochs, chunks_of_epoch = epochs - 1, chunks_per_epoch
    running = int(chunks_of_epoch > 0)
    state = checkpoint.fit_loop
    state["state_dict"] = {}
    epoch_counts = {"ready": epochs + running, "started": epochs + running, "processed": epochs, "completed": epochs}
    state["epoch_progress"] = {"total": epoch_counts, "current": dict(epoch_counts)}
    state["epoch_loop.state_dict"] = {"_batches_that_stepped": chunks}
    state["epoch_loop.batch_progress"] = {
        "total": dict.fromkeys(("ready", "started", "processed", "completed"), chunks),
        "current": dict.fromkeys(("ready", "started", "processed", "completed"), chunks_of_epoch),
        "is_last_batch": chunks_of_epoch == chunks_per_epoch,
    }
    # Lightning resumes with an evaluation if it seems to have stopped in its first episode.
    begun = {"ready": int(due), "started": int(due), "processed": 0, "completed": 0}
    state["epoch_loop.val_loop.batch_progress"] = {"total": begun, "current": dict(begun), "is_last_batch": False}


def count_updates(trainer: lightning.Trainer, updates: int) -> None:
    """Let Lightning count updates that were made without its optimiser wrapper: `trainer.global_step`."""
    progress = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
    for counts in (progress.total, progress.current):
        counts.ready += updates
        counts.completed += updates


def _evaluation_is_due(trainer: lightning.Trainer) -> bool:
    """Whether an evaluation is due after the finished chunks."""
    loop = trainer.fit_loop.epoch_loop
    if trainer.validating and trainer.state.fn == "fit":
        return loop.val_loop.batch_progress.current.completed < sum(loop.val_loop.max_batches)
    in_the_hooks_of_a_step = loop.batch_progress.total.completed < loop.batch_progress.total.ready
    return (
        in_the_hooks_of_a_step
        and loop._should_check_val_epoch()
        and isinstance(trainer.val_check_batch, int)
        and (loop.batch_idx + 1) % trainer.val_check_batch == 0
    )


def check_groups_of_optimizer(
    checkpoint: Contents,
    make_optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
    parameters: Iterable[nn.Parameter],
) -> None:
    """Refuse a saved optimiser that decays all parameters where this one spares biases, and the other way round.

    Raises:
        ConfigError: names the key and the value of the checkpoint.

    """
    groups = len(make_optimizer(parameters).param_groups)
    for saved in checkpoint.optimizer_states:
        if {len(saved["param_groups"]), groups} == {1, 2}:
            decay_biases = "true" if groups == 2 else "false"
            raise ConfigError(
                "decay_biases: the checkpoint's optimiser has other groups of parameters, so a run cannot change this "
                f"setting when it resumes; set --model.decay_biases {decay_biases}."
            )


def keep_settings_of_optimizer(
    checkpoint: Contents,
    make_optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
    parameters: Iterable[nn.Parameter],
) -> None:
    """Give the saved optimiser the settings of this run, such as its learning rate: torch would restore the old ones.

    Raises:
        ConfigError: if the saved state belongs to another optimiser.

    """
    parameters = list(parameters)
    check_groups_of_optimizer(checkpoint, make_optimizer, parameters)
    settings = make_optimizer(parameters).state_dict()["param_groups"]
    for saved in checkpoint.optimizer_states:
        for group, own in zip(saved["param_groups"], settings, strict=True):
            if group.keys() != own.keys():
                raise ConfigError(
                    "optimizer: the checkpoint's optimiser has other settings "
                    f"({', '.join(sorted(group.keys() ^ own.keys()))}) and cannot resume as this one; set "
                    f"--model.optimizer {as_typed(checkpoint.settings.agent.get('optimizer'))}."
                )
            group.update({key: value for key, value in own.items() if key != "params"})


def restore_process_state(checkpoint: Contents, device: str) -> None:
    """Restore the number of threads and, as the last step before training resumes, the global generators.

    Args:
        checkpoint: the resumed checkpoint.
        device: the present kind of device; a change is logged.

    """
    if checkpoint.device not in (None, device):
        log.info(
            "resume: the run is on %s now; it was on %s in the checkpoint: updates are computed in another way, and "
            "differ by rounding",
            device,
            checkpoint.device,
        )
    threads = torch.get_num_threads()
    if checkpoint.threads != threads:
        log.info(
            "torch computes with %d threads as before the run was stopped, not with %d: another number would add up "
            "floats in another order",
            checkpoint.threads,
            threads,
        )
        torch.set_num_threads(checkpoint.threads)
    set_random_state(checkpoint.random_state)
    # Lightning warns about resuming in mid-epoch; the data module's state has the exact position.
    warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before the epoch ended")
