"""Functions that all captures of CUDA graphs use."""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import cache
from typing import Any

import torch
from torch import Tensor

_captures: ContextVar[bool] = ContextVar("captures", default=False)
"""Whether the present call is, or is about to be, captured."""

WARM_UPS = 3
"""Calls before a capture, in which libraries choose algorithms and allocate memory."""


def capture(
    call: Callable[[], None],
    device: torch.device,
    *,
    before: Callable[[], Any] = lambda: None,
    check: Callable[[], None] = lambda: None,
) -> torch.cuda.CUDAGraph:
    """Capture a call after some warm-ups, which really compute; the caller must undo their changes.

    Args:
        call: without arguments or results: it reads and writes tensors at fixed addresses.
        device: a GPU.
        before: called before each warm-up.
        check: called after the warm-ups; may raise.

    Raises:
        RuntimeError: if its operations cannot be captured.

    """
    current = torch.cuda.current_stream(device)
    stream = torch.cuda.Stream(device)
    stream.wait_stream(current)
    token = _captures.set(True)
    try:
        try:
            with torch.cuda.stream(stream):
                for _ in range(WARM_UPS):
                    before()
                    call()
        finally:
            current.wait_stream(stream)
        check()
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the device meanwhile, such as the one that plays ahead.
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                call()
        except RuntimeError:
            # An aborted capture leaves the device's generator in capture mode, in which it cannot draw.
            index = torch.cuda.current_device() if device.index is None else device.index
            torch.cuda.default_generators[index].graphsafe_set_state(torch.Generator(device).graphsafe_get_state())
            raise
    finally:
        _captures.reset(token)
    return graph


def side_by_side(device: torch.device, *calls: Callable[[], Tensor]) -> list[Tensor]:
    """The results of the calls. In a captured graph they are branches, because a small batch fills only a fraction of a
    GPU.

    The numbers are the same as for one call after the other. Without a capture they are made one after the other,
    because the order of their side effects, such as batch norm's means, must not change.

    Args:
        device: the device that computes.
        calls: none needs the result of another; only the first may have a gradient.

    """
    if device.type != "cuda" or not _captures.get():
        return [call() for call in calls]
    main, branches = torch.cuda.current_stream(device), _branches(device, len(calls) - 1)
    for branch in branches:
        branch.wait_stream(main)
    results = [calls[0]()]
    for call, branch in zip(calls[1:], branches, strict=True):
        with torch.cuda.stream(branch):
            results.append(call())
    for branch in branches:
        main.wait_stream(branch)
    return results


@cache
def _branches(device: torch.device, count: int) -> tuple[torch.cuda.Stream, ...]:
    return tuple(torch.cuda.Stream(device) for _ in range(count))


def same_tensors(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    """Whether they are equal bit for bit."""
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


def generator_states(device: torch.device) -> list[Tensor]:
    """The states of torch's global generators, of the host and of a device."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def set_generator_states(device: torch.device, states: Sequence[Tensor]) -> None:
    """Restore these states."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
