"""Refuses an optimiser state that does not fit the weights."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lit_dqn.saving.checks import refuse, short

MakeOptimizer = Callable[[Sequence[Tensor]], torch.optim.Optimizer]


def check_optimizer(state: Mapping[str, Any], weights: Sequence[Tensor], make_optimizer: MakeOptimizer) -> None:
    """Refuse an optimiser's state that does not fit the weights; torch would accept it, and read arbitrary memory.

    Args:
        state: of the optimiser.
        weights: of its network.
        make_optimizer: creates one of that kind; its step on copies of the weights shows the form of a valid state.

    Raises:
        ValueError: names the misfit.

    """
    places = [index for group in state["param_groups"] for index in group["params"]]
    if sorted(places) != list(range(len(weights))):
        raise ValueError(f"its optimiser is of {len(places)} weights, and there are {len(weights)}")
    copies = [weight.detach().clone().requires_grad_() for weight in weights]
    try:
        optimizer = make_optimizer(copies)
        in_its_order = [copy for group in optimizer.param_groups for copy in group["params"]]
        for copy in copies:
            copy.grad = torch.zeros_like(copy)
        optimizer.step()
    except (TypeError, ValueError, RuntimeError, KeyError):
        return  # an optimiser that cannot be tried like this
    for place, index in enumerate(places):
        saved, like = state["state"].get(index, {}), optimizer.state[in_its_order[place]]
        for name, value in like.items() if saved else ():
            found = saved.get(name, ...)
            where = f"its optimiser's {str(name)[:40]}"
            if found is ...:
                refuse(where, "is missing")
            if isinstance(value, Tensor) and not (found is None or _are_alike(found, value)):
                refuse(where, f"is {short(found)}, not {short(value)}")


def check_saved_optimizer(state: Mapping[str, Any], weights: Sequence[Tensor], class_path: str) -> None:
    """Refuse an invalid state, and, if torch has an optimiser of that name, one that does not fit the weights.

    Args:
        state: of the optimiser.
        weights: all tensors of its network, which may include statistics such as batch norm's.
        class_path: of the optimiser, from the checkpoint.

    Raises:
        ValueError: names the defect.

    """
    places = {index for group in state["param_groups"] for index in group["params"]}
    for index, values in state["state"].items():
        if index not in places or not isinstance(values, Mapping):
            raise ValueError(f"its optimiser has a state of {str(index)[:40]}, which is not a weight of it")
        for name, value in values.items():
            if isinstance(value, Tensor) and not (value.is_floating_point() and torch.isfinite(value).all()):
                raise ValueError(f"its optimiser's {str(name)[:40]} is not a number")
    kind = getattr(torch.optim, class_path.rpartition(".")[2], None)
    # Only the network knows which of its tensors are weights, and which are statistics.
    if len(weights) == len(places) and isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer):
        known = inspect.signature(kind).parameters.keys() - {"params"}
        settings = {key: value for key, value in state["param_groups"][0].items() if key in known}
        if len(state["param_groups"]) > 1:
            weights = sorted(weights, key=lambda weight: weight.ndim < 2)  # those that decay are the first group
        check_optimizer(state, weights, partial(kind, **settings))


def _are_alike(found: Any, value: Tensor) -> bool:
    if not isinstance(found, Tensor):
        return False
    return (found.shape, found.stride(), found.dtype) == (value.shape, value.stride(), value.dtype)
