"""What captures of CUDA graphs have in common."""

import os
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

WARM_UPS = 3
"""Calls before a capture, in which libraries choose and allocate what they need."""


def capture(
    call: Callable[[], None], device: torch.device, check: Callable[[], None] = lambda: None
) -> torch.cuda.CUDAGraph:
    """Capture a call after some warm-ups, which really compute; undoing what they changed is the caller's business.

    Args:
        call: without arguments or results: it reads and writes tensors that stay where they are.
        device: a GPU.
        check: called after the warm-ups; may raise.

    Raises:
        RuntimeError: if its operations cannot be captured.

    """
    current = torch.cuda.current_stream(device)
    stream = torch.cuda.Stream(device)
    stream.wait_stream(current)
    try:
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                call()
    finally:
        current.wait_stream(stream)
    check()
    graph = torch.cuda.CUDAGraph()
    # Other threads may use the device meanwhile: one plays ahead.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        call()
    return graph


def make_deterministic() -> None:
    """Let cuDNN and cuBLAS choose algorithms that give the same bits each time."""
    torch.backends.cudnn.deterministic = True
    # cuBLAS reads it when it is first used; it is torch's own size on recent cards.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


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
