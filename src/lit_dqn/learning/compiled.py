"""An update as one compiled function: for small networks on a CPU, where Python and function calls take most of the
time.
"""

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
"""The name of the priority among the metrics that the differentiated function returns."""

COMPILED_OPTIMIZERS = (torch.optim.Adam, torch.optim.AdamW)


class CompiledUpdate:
    """Loss, gradient, clipping and Adam's step (Kingma & Ba 2015, algorithm 1) as one function for a batch.

    Parameters and the optimiser's state change in place, so checkpoints, target copies and acting need not know. Sums
    have another order than in eager updates: the weights agree within rounding, not bit for bit.

    Args:
        objective: (online, target, batch) -> the loss of each transition.
        online: the network whose parameters the optimiser has, in one group.
        target: as the objective expects it.
        optimizer: one of `COMPILED_OPTIMIZERS` with its state.
        max_grad_norm: the gradient is scaled down to this Euclidean norm; None: it is not clipped.

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
        self._learning_rate = torch.zeros(())  # a tensor, because a number would be compiled into the function
        settings = dict(self._group)
        beta1, beta2 = settings["betas"]

        def loss_of(parameters: Mapping[str, Tensor], batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            output = torch.func.functional_call(loss, dict(parameters), (batch,))
            priority = {} if output.priority is None else {PRIORITY: output.priority}  # torch takes only tensors
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
                capturable=True,  # the number of steps stays a tensor
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
        self._layouts: set[tuple[Any, ...]] = set()  # of the batches for which it was compiled

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Learned:
        """One update, with the results of `Learner.update`."""
        self._learning_rate.fill_(capturable_learning_rate(self._group["lr"]))
        layout = tuple(None if field is None else (field.shape, field.dtype) for field in batch)
        known = layout in self._layouts
        self._layouts.add(layout)
        # On each call torch checks whether anything has changed since it compiled, which takes a fifth of an update.
        # Only batches can change, and as long as all have one layout there is only one function.
        with torch.compiler.set_stance(skip_guard_eval_unsafe=known and len(self._layouts) == 1):
            mean, metrics, priority = self._update(tuple(batch))
        return Learned({"loss": mean, **metrics}, None if batch.weight is None else priority)


class _Loss(nn.Module):
    """The objective as a module, so that the gradient can be taken of its network's parameters."""

    def __init__(self, objective: Callable[..., LossOutput], online: nn.Module, target: nn.Module) -> None:
        super().__init__()
        self.objective = objective
        self.online = online
        # `functional_call` does not accept one network under two names.
        self.target = None if target is online else target

    def forward(self, batch: Batch) -> LossOutput:
        return self.objective(self.online, self.online if self.target is None else self.target, batch)


def _with_code_of_its_own(function: Callable[..., Any]) -> Callable[..., Any]:
    """A copy of the function with its own code object: torch stores compiled functions with the code, and refuses to
    compile the same code a ninth time.
    """
    assert isinstance(function, FunctionType)
    parts = function.__globals__, function.__name__, function.__defaults__, function.__closure__
    return FunctionType(function.__code__.replace(), *parts)


def why_no_steps_are_compiled(optimizer: torch.optim.Optimizer) -> str | None:
    """Why the steps of an optimiser cannot be compiled; None if they can."""
    if type(optimizer) not in COMPILED_OPTIMIZERS:
        return f"of torch's optimisers Adam and AdamW are compiled, {type(optimizer).__name__} is not"
    if len(optimizer.param_groups) > 1:
        return "its parameters are in several groups"
    return None


def why_nothing_is_compiled() -> str | None:
    """Why torch cannot compile on this machine; None if it can. The first call takes some seconds."""
    try:
        torch.compile(torch.neg, fullgraph=True)(torch.zeros(2))
    except Exception as error:  # of many types: no C++ compiler, no disk space for the output
        return f"torch cannot compile here ({one_line(error)[:120]})"
    return None
