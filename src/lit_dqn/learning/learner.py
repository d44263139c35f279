"""The update: an objective's loss of a batch becomes one step of the optimiser. This file does not use Lightning."""

import logging
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from lit_dqn.errors import ConfigError
from lit_dqn.learning.compiled import COMPILED_OPTIMIZERS, CompiledUpdate, why_no_steps_are_compiled
from lit_dqn.learning.draws import NOISE_STREAM, uniforms
from lit_dqn.learning.losses import weighed_mean
from lit_dqn.learning.networks import Noise, SpectralNorms, update_target
from lit_dqn.learning.resets import ShrinkAndPerturb
from lit_dqn.learning.sharded import ShardedGradient, Shards, stacked
from lit_dqn.learning.update_graph import Capturable, NotCapturedError, UpdateGraph, why_no_steps_are_captured
from lit_dqn.types import Batch, Learned, LossOutput

log = logging.getLogger("lit_dqn")

BatchLoss = Callable[[nn.Module, nn.Module, Batch], LossOutput]
"""(online, target, batch) -> the loss of each transition and its metrics; every objective of lit_dqn is one."""


class Update(Enum):
    """How an update is computed."""

    auto = "auto"
    """`graph` on a GPU, if the update can be captured; `eager` elsewhere."""

    eager = "eager"
    """Operation by operation: the reference."""

    graph = "graph"
    """Captured once as a CUDA graph and replayed; only on a GPU."""

    compiled = "compiled"
    """By one compiled function, which pays off for small networks; only on a CPU."""


class Learner:
    """Makes one update per batch: loss, gradient, clipping, the optimiser's step, and the target when it is due.

    A surrounding `torch.autocast` needs `cache_enabled=False`, as in Lightning, because the weights change inside.

    Args:
        online: the network that learns; in training mode during updates, in evaluation mode otherwise.
        target: the network that evaluates s'. If there is none, the objective gets `online` in its place.
        objective: the loss of a batch.
        optimizer: over the parameters of `online`.
        target_update_period: updates between two updates of the target; None: there is no target.
        target_update_tau: τ of target <- τ online + (1 - τ) target; 1 copies.
        max_grad_norm: the gradient is scaled down to this Euclidean norm; None leaves it as it is.
        update: how updates are computed.
        backward: computes the gradient of a loss.
        updates: number of earlier updates, the clock of the target's period.
        draws: how many numbers the objective draws per transition; they are passed as `Batch.uniform`.
        seed: of the run; noise and these numbers are a function of it and of the number of updates.
        shards: if the batch of an update comes in parts from several shards; updates are then eager.

    Attributes:
        updates: number of updates so far.
        learning_rate: of the next update.

    Raises:
        ConfigError: if `graph` has no GPU, or an optimiser that torch cannot capture; if `compiled` is on a GPU, or has
            an optimiser that cannot be compiled.

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
        update: Update = Update.eager,
        backward: Callable[[Tensor], None] = Tensor.backward,
        updates: int = 0,
        draws: int = 0,
        seed: int = 0,
        shards: Shards | None = None,
    ) -> None:
        device = next(online.parameters()).device
        check_device(update, device)
        self.online = online
        self.target = online if target is None else target
        self.objective = objective
        self.optimizer = optimizer
        self.target_update_period = target_update_period
        self.target_update_tau = target_update_tau
        self.max_grad_norm = max_grad_norm
        self.backward = backward
        self.updates = updates
        self.draws = draws
        self.seed = seed
        self._noise = [Noise(online)] if target is None else [Noise(online), Noise(target)]
        self._spectral_norms = SpectralNorms(online)
        self.learning_rate = float(optimizer.param_groups[0]["lr"])
        self._way = update
        self._captures = update is not Update.eager and device.type == "cuda" and shards is None
        parts = online, self.target, objective, backward, self._noise, draws, seed
        self._sharded = None if shards is None else ShardedGradient(shards, *parts)
        self._compiled: CompiledUpdate | None = None
        self._graph: UpdateGraph | None = None
        self._capturable: Capturable | None = None
        if update is Update.compiled and (reason := why_no_steps_are_compiled(optimizer)) is not None:
            raise ConfigError(f"update: compiled cannot compile this update: {reason}; set --model.update eager.")
        if self._captures and (reason := why_no_steps_are_captured(optimizer)) is not None:
            self._go_without_capture(reason)

    def update(self, batch: Batch) -> Learned:
        """One update.

        Returns:
            The metrics as scalars and the priority [B], on the device.

        Raises:
            ConfigError: if it cannot be captured and `update` is `graph`.

        """
        metrics, priority = self.update_many([batch])
        return Learned({name: values[0] for name, values in metrics.items()}, None if priority is None else priority[0])

    def update_many(self, batches: Sequence[Batch]) -> Learned:
        """One update for each of K batches, in their order; with shards, for each of K groups of one part per shard.

        Returns:
            As `update`, with a leading axis K: [K], and [K, B].

        Raises:
            ConfigError: as `update`.

        """
        self.online.train()
        try:
            if self._sharded is not None:
                return self._update_sharded(batches, self._sharded)
            for number, noise in enumerate(self._noise):
                noise.draw(self.seed, self.updates, number, NOISE_STREAM)
            uniform = self._uniform(batches)
            # The first updates of a run create the optimiser's state, which a capture needs.
            if self._captures and self.optimizer.state:
                try:
                    return self._replay(batches, uniform)
                except NotCapturedError as reason:
                    self._go_without_capture(str(reason))
            if uniform is not None:
                batches = [b._replace(uniform=u.to(b.reward.device)) for b, u in zip(batches, uniform, strict=True)]
            return stacked([self._update(batch) for batch in batches])
        finally:
            for noise in self._noise:
                noise.silence()
            self.online.eval()

    def _update_sharded(self, batches: Sequence[Batch], gradient: ShardedGradient) -> Learned:
        learned = []
        for parts in gradient.parts(batches):
            self._spectral_norms.step()
            learned.append(gradient(parts, self.updates))
            self._step()
            self._count()
        return stacked(learned)

    @property
    def captures_next(self) -> bool:
        """Whether the next updates begin with a capture."""
        return self._captures and self._graph is None and bool(self.optimizer.state)

    @property
    def captured(self) -> bool:
        """Whether updates are replayed from a graph."""
        return self._graph is not None

    def set_learning_rate(self, learning_rate: float) -> None:
        """Set the learning rate of the next updates."""
        self.learning_rate = learning_rate
        if self._capturable is not None:
            self._capturable.set_learning_rate(learning_rate)
        else:
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate

    def set_weight_decay(self, weight_decay: float) -> None:
        """Set the weight decay of the next updates; a captured update keeps the one of its capture."""
        group = self.optimizer.param_groups[0]  # a second group does not decay (`decay_matrices`)
        if self._graph is not None and group["weight_decay"] != weight_decay:
            self._go_without_capture("its weight decay changes")
        group["weight_decay"] = weight_decay

    def reset(self, rule: ShrinkAndPerturb, fresh: nn.Module) -> None:
        """Partly reset the networks, by a rule and a fresh network, and clear the optimiser's state."""
        rule(self.online, fresh)
        if self.target is not self.online:
            rule(self.target, fresh)
        if type(self.optimizer) in COMPILED_OPTIMIZERS:
            # Adam starts with zeros. Filling the tensors in place keeps the addresses of captured and compiled updates.
            for state in self.optimizer.state.values():
                torch._foreach_zero_(list(state.values()))
        else:
            self.release()
            self.optimizer.state.clear()

    def plain_settings(self, optimizer_state: dict[str, Any]) -> None:
        """Replace the settings in a `state_dict` of the optimiser by those without a capture."""
        if self._capturable is not None:
            self._capturable.restore(optimizer_state["param_groups"])

    def release(self) -> None:
        """Discard the graph, and restore the optimiser's settings without one."""
        self._graph = None
        if self._capturable is not None:
            self._capturable.undo()
            self._capturable = None

    def _uniform(self, batches: Sequence[Batch]) -> Tensor | None:
        """The objective's random numbers, [K, B, draws], on the host."""
        if self.draws == 0:
            return None
        return uniforms(self.seed, self.updates, len(batches), len(batches[0].reward), self.draws)

    def _replay(self, batches: Sequence[Batch], uniform: Tensor | None) -> Learned:
        if self._graph is None:
            self._capturable = Capturable(self.optimizer)
            modules = [self.online] if self.target is self.online else [self.online, self.target]
            self._graph = UpdateGraph(self._learn_all, modules, self.optimizer)
        return self._graph.run(batches, self._count, uniform)

    def _go_without_capture(self, reason: str) -> None:
        if self._way is Update.graph:
            raise ConfigError(f"update: graph cannot capture this update: {reason}; set --model.update eager.")
        log.info("updates are made one operation after the other, not as a captured graph: %s", reason)
        self.release()
        self._captures = False

    def _update(self, batch: Batch) -> Learned:
        output = self._learn_all(batch)
        self._count()
        return output

    def _learn_all(self, batch: Batch) -> Learned:
        """An update with everything that is due after each one."""
        self._spectral_norms.step()
        output = self._learn(batch)
        if self.target_update_period == 1:
            update_target(self.online, self.target, self.target_update_tau)
        return output

    def _count(self) -> None:
        """Count an update, and do what is due only after some of them."""
        self.updates += 1
        period, each_is_due = self.target_update_period, self._sharded is not None
        if period is not None and (period > 1 or each_is_due) and self.updates % period == 0:
            update_target(self.online, self.target, self.target_update_tau)

    def _learn(self, batch: Batch) -> Learned:
        # The first update creates the optimiser's state, which a compiled one changes.
        if self._way is Update.compiled and self.optimizer.state:
            if self._compiled is None:
                self._compiled = CompiledUpdate(
                    self.objective, self.online, self.target, self.optimizer, self.max_grad_norm
                )
            return self._compiled(batch)
        output = self.objective(self.online, self.target, batch)
        loss = weighed_mean(output.loss, batch.weight)
        self.optimizer.zero_grad()
        self.backward(loss)
        self._step()
        # Only a store with weights uses priorities.
        return Learned({"loss": loss.detach(), **output.metrics}, None if batch.weight is None else output.priority)

    def _step(self) -> None:
        if self.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.online.parameters(), self.max_grad_norm)
        self.optimizer.step()


def check_device(update: Update, device: torch.device) -> None:
    """Refuse kinds of updates that a device does not support.

    Raises:
        ConfigError: if `graph` has no GPU, or `compiled` is on one.

    """
    if update is Update.compiled and device.type != "cpu":
        raise ConfigError(
            f"update: compiled computes updates on a CPU, and this is a run on {device.type}; "
            "set --model.update auto, or --trainer.accelerator cpu."
        )
    if update is Update.graph and device.type != "cuda":
        raise ConfigError(
            f"update: graph captures updates on a CUDA GPU, and this is a run on {device.type}; "
            "set --model.update auto, or, where there is a GPU, --trainer.accelerator gpu."
        )
