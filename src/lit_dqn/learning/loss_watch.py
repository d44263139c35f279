"""A loss that is NaN or infinite ends the run; the message names its update."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lit_dqn.errors import TrainingError


class _Pending(NamedTuple):
    losses: Tensor  # [K], on the host
    arrived: torch.cuda.Event
    updates_before: int
    env_step: int


class LossWatch:
    """Checks the losses of each chunk; on a GPU one chunk later, to avoid waiting for them."""

    def __init__(self) -> None:
        self._pending: _Pending | None = None

    def watch(self, losses: Tensor, updates_before: int, env_step: int) -> None:
        """Record a chunk's losses.

        Args:
            losses: [K].
            updates_before: number of updates before the first of them.
            env_step: of the chunk.

        Raises:
            TrainingError: if one of these, or of the previous chunk, is NaN or infinite.

        """
        if losses.device.type != "cuda":
            _check(losses, updates_before, env_step)
            return
        host = torch.empty_like(losses, device="cpu", pin_memory=True)
        host.copy_(losses, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        pending, self._pending = self._pending, _Pending(host, arrived, updates_before, env_step)
        _look_at(pending)

    def settle(self) -> None:
        """Check the losses that have not been checked yet.

        Raises:
            TrainingError: if a loss is NaN or infinite.

        """
        pending, self._pending = self._pending, None
        _look_at(pending)


def _look_at(pending: _Pending | None) -> None:
    if pending is not None:
        pending.arrived.synchronize()
        _check(pending.losses, pending.updates_before, pending.env_step)


def _check(losses: Tensor, updates_before: int, env_step: int) -> None:
    # The sum takes one check; it can be infinite although none of the losses is.
    if math.isfinite(losses.sum().item()):
        return
    finite = torch.isfinite(losses)
    if not finite.all():
        wrong = int((~finite).nonzero()[0])
        raise TrainingError(
            f"the loss became {losses[wrong].item()} at update {updates_before + wrong + 1:,} "
            f"(env step {env_step:,}); lower the learning rate, set --model.max_grad_norm 10, "
            "or look for rewards without bounds."
        )
