"""The update: what an objective says of a batch becomes one step of the optimiser. No Lightning in here."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from lit_dqn.networks import update_target
from lit_dqn.types import Batch, LossOutput

BatchLoss = Callable[[nn.Module, nn.Module, Batch], LossOutput]
"""(online, target, batch) -> the loss of each transition and its metrics; every objective of ours is one."""


class Learner:
    """Makes one update for each batch: loss, gradient, clipping, the optimiser's step, and the target when it is due.

    Around it, `torch.autocast` needs `cache_enabled=False`, as Lightning has it: the weights change inside.

    Args:
        online: the network that learns; in training mode during updates, in evaluation mode otherwise.
        target: the network that grades s'. Where there is none, `online` itself is handed to the objective.
        objective: the loss of a batch.
        optimizer: over the parameters of `online`.
        target_update_period: updates from one update of the target to the next; None: there is no target.
        target_update_tau: τ of target <- τ online + (1 - τ) target; 1 copies.
        max_grad_norm: the gradient is scaled down to this Euclidean norm; None leaves it as it is.
        backward: makes the gradient of a loss.
        updates: that were made before, by which the target's period is counted.

    Attributes:
        updates: made so far.

    """

    def __init__(
        self,
        online: nn.Module,
        target: nn.Module | None,
        objective: BatchLoss,
        optimizer: torch.optim.Optimizer,
        *,
        target_update_period: int | None = None,
        target_update_tau: float = 1.0,
        max_grad_norm: float | None = None,
        backward: Callable[[Tensor], None] = Tensor.backward,
        updates: int = 0,
    ) -> None:
        self.online = online
        self.target = online if target is None else target
        self.objective = objective
        self.optimizer = optimizer
        self.target_update_period = target_update_period
        self.target_update_tau = target_update_tau
        self.max_grad_norm = max_grad_norm
        self.backward = backward
        self.updates = updates

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One update.

        Returns:
            `loss`, the mean over the batch before the update, and the objective's metrics; scalars on the device.

        """
        return {name: values[0] for name, values in self.update_many([batch]).items()}

    def update_many(self, batches: Iterable[Batch]) -> dict[str, Tensor]:
        """One update for each of K batches, in their order.

        Returns:
            As `update`, [K] each.

        """
        self.online.train()
        try:
            outputs = [self._update(batch) for batch in batches]
        finally:
            self.online.eval()
        return _stacked(outputs)

    def set_learning_rate(self, learning_rate: float) -> None:
        """Set the learning rate of the next updates."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate

    def _update(self, batch: Batch) -> Mapping[str, Tensor]:
        output = self._learn(batch)
        self.updates += 1
        if self.target_update_period is not None and self.updates % self.target_update_period == 0:
            update_target(self.online, self.target, self.target_update_tau)
        return output

    def _learn(self, batch: Batch) -> dict[str, Tensor]:
        output = self.objective(self.online, self.target, batch)
        loss = output.loss.mean()
        self.optimizer.zero_grad()
        self.backward(loss)
        if self.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.online.parameters(), self.max_grad_norm)
        self.optimizer.step()
        return {"loss": loss.detach(), **output.metrics}


def _stacked(outputs: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    if len(outputs) == 1:
        return {name: value.unsqueeze(0) for name, value in outputs[0].items()}
    return {name: torch.stack([output[name] for output in outputs]) for name in outputs[0]}
