"""An update as one compiled function: for small networks on a CPU, where Python and calls take most of the time."""

from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from lit_dqn.errors import one_line
from lit_dqn.learning.losses import weighed_mean
from lit_dqn.learning.update_graph import capturable_learning_rate
from lit_dqn.types import Batch, Learned, LossOutput

PRIORITY = "priority"
"""Its name among the metrics, while they leave the function of which the gradient is taken."""

COMPILED_OPTIMIZERS = (torch.optim.Adam, torch.optim.AdamW)


class CompiledUpdate:
    """Loss, gradient, clipping and Adam's step (Kingma & Ba 2015, algorithm 1) as one function for a batch.

    Parameters and the optimiser's state are changed in place, so checkpoints, target copies and acting see nothing of
    it. Sums are taken in another order than eagerly: the weights agree within rounding, not bit for bit.

    Args:
        objective: (online, target, batch) -> the loss of each transition.
        online: whose parameters the optimiser has, in one group.
        target: as the objective wants it.
        optimizer: one of `COMPILED_OPTIMIZERS` with its state.
        max_grad_norm: the gradient is scaled down to this Euclidean norm; None leaves it as it is.

    """

    def __init__(
        self,
        objective: Callable[[nn.Module, nn.Module, Batch], LossOutput],
        online: nn.Module,
        target: nn.Module,
        optimizer: torch.optim.Optimizer,
        max_grad_norm: float | None,
    ) -> None:
        loss = _Loss(objective, online, target)
        names = {parameter: name for name, parameter in loss.named_parameters() if name.startswith("online.")}
        self._group = optimizer.param_groups[0]
        self._parameters = {names[parameter]: parameter.detach() for parameter in self._group["params"]}
        states = [optimizer.state[parameter] for parameter in self._group["params"]]
        means, squares, steps = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step"))
        largest = [state["max_exp_avg_sq"] for state in states] if self._group["amsgrad"] else []
        self._learning_rate = torch.zeros(())  # in a tensor: a number would be compiled into the function
        settings = dict(self._group)
        beta1, beta2 = settings["betas"]

        def loss_of(parameters: Mapping[str, Tensor], batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            output = torch.func.functional_call(loss, dict(parameters), (batch,))
            priority = {} if output.priority is None else {PRIORITY: output.priority}  # torch takes tensors alone
            return weighed_mean(output.loss, batch.weight), {**output.metrics, **priority}

        def update(fields: tuple[Tensor | None, ...]) -> tuple[Tensor, Mapping[str, Tensor], Tensor | None]:
            gradient, (mean, said) = torch.func.grad_and_value(loss_of, has_aux=True)(
                self._parameters, Batch._make(fields)
            )
            gradients = list(gradient.values())
            if max_grad_norm is not None:
                norm = torch.stack([part.norm() for part in gradients]).norm()
                scale = (max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
                gradients = [part * scale for part in gradients]
            adam(
                list(self._parameters.values()),
                gradients,
                means,
                squares,
                largest,
                steps,
                foreach=False,
                capturable=True,  # the count of steps stays a tensor
                fused=False,
                beta1=beta1,
                beta2=beta2,
                lr=self._learning_rate,
                weight_decay=settings["weight_decay"],
                eps=settings["eps"],
                amsgrad=settings["amsgrad"],
                maximize=settings["maximize"],
                decoupled_weight_decay=settings["decoupled_weight_decay"],
            )
            priority = said.pop(PRIORITY, None)
            return mean, said, priority

        self._update = torch.compile(_with_code_of_its_own(update), fullgraph=True, dynamic=False)
        self._layouts: set[tuple[Any, ...]] = set()  # of the batches it was compiled for

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Learned:
        """One update, as `Learner.update` has it."""
        self._learning_rate.fill_(capturable_learning_rate(self._group["lr"]))
        layout = tuple(None if field is None else (field.shape, field.dtype) for field in batch)
        known = layout in self._layouts
        self._layouts.add(layout)
        # torch looks each time whether anything has changed since it compiled, which takes a fifth of an update. Only
        # batches can, and as long as all have one layout there is one function to choose from.
        with torch.compiler.set_stance(skip_guard_eval_unsafe=known and len(self._layouts) == 1):
            mean, metrics, priority = self._update(tuple(batch))
        return Learned({"loss": mean, **metrics}, None if batch.weight is None else priority)


class _Loss(nn.Module):
    """The objective as a module, so that the gradient can be taken of its network's parameters."""

    def __init__(self, objective: Callable[..., LossOutput], online: nn.Module, target: nn.Module) -> None:
        super().__init__()
        self.objective = objective
        self.online = online
        # One network by two names is not for `functional_call`.
        self.target = None if target is online else target

    def forward(self, batch: Batch) -> LossOutput:
        return self.objective(self.online, self.online if self.target is None else self.target, batch)


def _with_code_of_its_own(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function anew: torch keeps what it has compiled at the code, and refuses a ninth time for one code."""
    assert isinstance(function, FunctionType)
    parts = function.__globals__, function.__name__, function.__defaults__, function.__closure__
    return FunctionType(function.__code__.replace(), *parts)


def why_no_steps_are_compiled(optimizer: torch.optim.Optimizer) -> str | None:
    """Why the steps of an optimiser are not compiled here; None if they are."""
    if type(optimizer) not in COMPILED_OPTIMIZERS:
        return f"of torch's optimisers Adam and AdamW are compiled, {type(optimizer).__name__} is not"
    if len(optimizer.param_groups) > 1:
        return "its parameters are in several groups"
    return None


def why_nothing_is_compiled() -> str | None:
    """Why torch cannot compile on this machine; None if it can. The first time takes some seconds."""
    try:
        torch.compile(torch.neg, fullgraph=True)(torch.zeros(2))
    except Exception as error:  # of many types: no C++ compiler, no place for what it writes
        return f"torch cannot compile here ({one_line(error)[:120]})"
    return None
