"""A network's outputs for the observations of players: NumPy in, NumPy out."""

import contextlib
import logging
from collections import Counter
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lit_dqn.learning.graphs import capture, generator_states, same_tensors, set_generator_states
from lit_dqn.parts import Parts

log = logging.getLogger("lit_dqn")

OFTEN = 8
"""Calls with the same number of observations before they are captured, because a capture takes time."""

MOST_GRAPHS = 8
"""Numbers of observations for which a graph is kept."""


class Inference:
    """Computes a network's outputs for N observations; on a GPU in one captured call, with one wait.

    Args:
        network: in evaluation mode.
        captures: whether calls are captured on a GPU, once for each frequent N.
        aside: on a GPU, compute on a separate stream; `follow` keeps the order.
        parts: of the observations; None: they have none.

    """

    def __init__(self, network: nn.Module, *, captures: bool, aside: bool = False, parts: Parts | None = None) -> None:
        self._network = network
        self._parts = parts
        self._parameter = next(network.parameters())  # the same object wherever the network is moved
        self._captures = captures
        self._aside = aside
        self._stream: torch.cuda.Stream | None = None
        self._graphs: dict[tuple[tuple[int, ...], np.dtype], _CapturedInference] = {}
        self._calls: Counter[tuple[tuple[int, ...], np.dtype]] = Counter()
        self._weights: list[int] = []  # their addresses

    def follow(self) -> None:
        """Later calls run after everything that the device has been given so far."""
        device = self._device
        if self._aside and device.type == "cuda":
            self._stream = self._stream or torch.cuda.Stream(device)
            self._stream.wait_stream(torch.cuda.current_stream(device))

    def __call__(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        """[N, *shape] to [N, outputs]."""
        if self._device.type != "cuda":
            return _infer(self._network, torch.as_tensor(observation), self._parts).numpy()
        with self._on_stream():
            graph = self._graph(observation) if self._captures else None
            if graph is not None:
                return graph(observation)
            return _infer(self._network, torch.as_tensor(observation, device=self._device), self._parts).cpu().numpy()

    def remember(
        self, observation: NDArray[Any], memory: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Outputs [N, outputs] and memory [N, M] of a network with a memory; this is never captured."""
        with self._on_stream(), torch.inference_mode():
            seen = torch.as_tensor(observation, device=self._device)
            outputs, after = self._network.remember(  # type: ignore[operator]
                seen if self._parts is None else self._parts.tensors(seen), torch.as_tensor(memory, device=self._device)
            )
            return outputs.float().cpu().numpy(), after.cpu().numpy()

    @property
    def _device(self) -> torch.device:
        return self._parameter.device

    def _on_stream(self) -> AbstractContextManager[Any]:
        return contextlib.nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def _graph(self, observation: NDArray[Any]) -> "_CapturedInference | None":
        weights = [parameter.data_ptr() for parameter in self._network.parameters()]
        if weights != self._weights:  # they have been moved
            self._graphs.clear()
            self._weights = weights
        key = observation.shape, observation.dtype
        if key not in self._graphs:
            self._calls[key] += 1
            if self._calls[key] <= OFTEN or len(self._graphs) == MOST_GRAPHS:
                return None
            try:
                self._graphs[key] = _CapturedInference(self._network, observation, self._device, self._parts)
            except RuntimeError as error:
                self._captures = False
                log.info("actions are chosen without a captured graph: %s", str(error).splitlines()[0])
                return None
        return self._graphs[key]


class _CapturedInference:
    """One captured call for observations of one shape."""

    def __init__(
        self, network: nn.Module, observation: NDArray[Any], device: torch.device, parts: Parts | None
    ) -> None:
        like = torch.from_numpy(np.zeros(observation.shape, observation.dtype))
        self._host = torch.empty_like(like, pin_memory=True)
        self._observation = like.to(device)
        self._done = torch.cuda.Event()
        generators = generator_states(device)

        def infer() -> None:
            self._outputs = _infer(network, self._observation, parts)

        self._graph = capture(infer, device)
        drew = not same_tensors(generators, generator_states(device))
        set_generator_states(device, generators)
        if drew:
            raise RuntimeError("the network draws random numbers")
        self._host_outputs = torch.empty_like(self._outputs, device="cpu", pin_memory=True)

    def __call__(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        np.copyto(self._host.numpy(), observation)
        self._observation.copy_(self._host, non_blocking=True)
        self._graph.replay()
        self._host_outputs.copy_(self._outputs, non_blocking=True)
        self._done.record()
        self._done.synchronize()
        return self._host_outputs.numpy().copy()


@torch.inference_mode()
def _infer(network: nn.Module, observation: Tensor, parts: Parts | None) -> Tensor:
    outputs: Tensor = network(observation if parts is None else parts.tensors(observation))
    return outputs.float()
