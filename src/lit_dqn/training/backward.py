"""The backward pass of an update, with Lightning's hooks only if something uses them."""

from collections.abc import Callable
from typing import Any

import lightning
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor

HOOKS = ("on_before_backward", "on_after_backward")


def backward_of(agent: lightning.LightningModule) -> Callable[[Tensor], None]:
    """The function that differentiates an agent's loss in its Trainer; the gradients are the same either way.

    Lightning's `manual_backward` calls its profiler, the strategy, the precision and two hooks of each callback and of
    the agent. If none of them does anything, a small network's update can avoid the cost.

    Args:
        agent: attached to its Trainer.

    """
    trainer: Any = agent.trainer  # its profiler and callbacks are not declared
    strategy, precision = trainer.strategy, trainer.precision_plugin
    if (
        isinstance(trainer.profiler, PassThroughProfiler)
        and _does_not_change(strategy, Strategy, ("pre_backward", "backward", "post_backward"))
        and _does_not_change(precision, Precision, ("pre_backward", "backward", "post_backward"))
        and _does_not_change(agent, lightning.LightningModule, ("manual_backward", "backward", *HOOKS))
        and not any(is_overridden(hook, callback) for callback in trainer.callbacks for hook in HOOKS)
    ):
        return Tensor.backward
    return agent.manual_backward


def _does_not_change(part: object, base: type, methods: tuple[str, ...]) -> bool:
    return all(getattr(type(part), method) is getattr(base, method) for method in methods)
