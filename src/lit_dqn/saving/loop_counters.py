"""What a checkpoint must hold of Lightning's loops."""

from typing import Any

from lit_dqn.saving.checks import Check, flag, mapping, record, whole


def _counts(*names: str) -> Check:
    count = record(dict.fromkeys(names, whole()))
    return record({"total": count, "current": count})


def _progress() -> Check:
    batches = _counts("ready", "started", "processed", "completed")
    last = record({"is_last_batch": flag})

    def check(value: Any, where: str) -> None:
        batches(value, where)
        last(value, where)

    return check


LOOPS = record(
    {
        "fit_loop": record(
            {
                "state_dict": mapping,
                "epoch_progress": _counts("ready", "started", "processed", "completed"),
                "epoch_loop.state_dict": record({"_batches_that_stepped": whole()}),
                "epoch_loop.batch_progress": _progress(),
                "epoch_loop.scheduler_progress": _counts("ready", "completed"),
                "epoch_loop.automatic_optimization.state_dict": mapping,
                "epoch_loop.automatic_optimization.optim_progress": record(
                    {
                        "optimizer": record(
                            {
                                "step": _counts("ready", "completed"),
                                "zero_grad": _counts("ready", "started", "completed"),
                            }
                        )
                    }
                ),
                "epoch_loop.manual_optimization.state_dict": mapping,
                "epoch_loop.manual_optimization.optim_step_progress": _counts("ready", "completed"),
                "epoch_loop.val_loop.state_dict": mapping,
                "epoch_loop.val_loop.batch_progress": _progress(),
            }
        )
    }
)
"""Lightning's."""
