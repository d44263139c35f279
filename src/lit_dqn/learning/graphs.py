"""What captures of CUDA graphs have in common."""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import cache
from typing import Any

import torch
from torch import Tensor

_captures: ContextVar[bool] = ContextVar("captures", default=False)
"""Whether what is called now is, or is about to be, captured."""

WARM_UPS = 3
"""Calls before a capture, in which libraries choose and allocate what they need."""


def capture(
    call: Callable[[], None],
    device: torch.device,
    *,
    before: Callable[[], Any] = lambda: None,
    check: Callable[[], None] = lambda: None,
) -> torch.cuda.CUDAGraph:
    """Capture a call after some warm-ups, which really compute; undoing what they changed is the caller's business.

    Args:
        call: without arguments or results: it reads and writes tensors that stay where they are.
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
        # Other threads may use the device meanwhile: one plays ahead.
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                call()
        except RuntimeError:
            # A capture that broke off leaves the device's generator in the middle of it, where nothing can be drawn.
            index = torch.cuda.current_device() if device.index is None else device.index
            torch.cuda.default_generators[index].graphsafe_set_state(torch.Generator(device).graphsafe_get_state())
            raise
    finally:
        _captures.reset(token)
    return graph


def side_by_side(device: torch.device, *calls: Callable[[], Tensor]) -> list[Tensor]:
    """What each call returns. In a captured graph they are branches, for a small batch fills a fraction of a GPU.

    The numbers are those of one call after the other, which they are made as elsewhere: there the order of what they
    change besides, such as batch norm's means, must stay.

    Args:
        device: that computes.
        calls: none needs what another returns; only the first may have a gradient.

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
    """Torch's global generators, of the host and of a device."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def set_generator_states(device: torch.device, states: Sequence[Tensor]) -> None:
    """Put them where they stood."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
