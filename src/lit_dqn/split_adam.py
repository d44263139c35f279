"""A step of Adam that keeps a whole GPU busy."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from lit_dqn.graphs import side_by_side

PIECE = 8192
"""Numbers of a piece of a parameter."""

TOGETHER = 36
"""Tensors that torch gives to one launch of its fused kernel."""


class SplitAdam:
    """Steps of a fused Adam, with large parameters in pieces that are stepped side by side.

    Torch's kernel gives 65,536 numbers to each block of threads: those of Nature's network keep 27 of an H100's 132
    processors busy. What a step does to a number depends on nothing but that number, its gradient and its averages, so
    the bits are the same.

    Args:
        optimizer: with a state, and with settings that do not change any more.

    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.copies: list[Tensor] = []
        """Tensors that steps change, besides the optimiser's own."""
        self._gradients: list[tuple[Tensor, Tensor, int]] = []  # piece, its parameter, where it begins in it
        self._parts: list[torch.optim.Optimizer] = []
        for group in optimizer.param_groups:
            pieces = [piece for parameter in group["params"] for piece in self._pieces(optimizer, parameter)]
            for first in range(0, len(pieces), TOGETHER):
                some = pieces[first : first + TOGETHER]
                part = torch.optim.Adam([piece for piece, _ in some], fused=True)
                part.param_groups[0].update({key: value for key, value in group.items() if key != "params"})
                part.state.update(some)
                self._parts.append(part)

    @staticmethod
    def pays(optimizer: torch.optim.Optimizer) -> bool:
        """Whether an optimiser is one that this can stand for, with parameters that are large enough."""
        if type(optimizer) not in (torch.optim.Adam, torch.optim.AdamW):
            return False
        groups = optimizer.param_groups
        large = any(parameter.numel() > 8 * PIECE for group in groups for parameter in group["params"])
        return large and all(group["fused"] for group in groups)

    def step(self) -> None:
        """One step by the gradients of the parameters."""
        for piece, parameter, begin in self._gradients:
            assert parameter.grad is not None
            if piece.shape == parameter.shape:
                piece.grad = parameter.grad
            else:
                piece.grad = parameter.grad.reshape(-1)[begin : begin + len(piece)]
        device = self._gradients[0][1].device
        side_by_side(device, *(partial(self._step, part) for part in self._parts))

    @staticmethod
    def _step(part: torch.optim.Optimizer) -> Tensor:
        part.step()
        return torch.empty(0)

    def _pieces(self, optimizer: torch.optim.Optimizer, parameter: Tensor) -> Iterator[tuple[Tensor, dict]]:
        """The pieces of a parameter, each with its state; memory is shared with the whole."""
        state = optimizer.state[parameter]
        if parameter.numel() <= PIECE or not parameter.is_contiguous():
            piece = parameter.detach()
            self._gradients.append((piece, parameter, 0))
            yield piece, state
            return
        for begin in range(0, parameter.numel(), PIECE):
            piece = parameter.detach().view(-1)[begin : begin + PIECE]
            self._gradients.append((piece, parameter, begin))
            own = {}
            for name, value in state.items():
                if value.shape == parameter.shape:
                    own[name] = value.view(-1)[begin : begin + PIECE]
                elif begin == 0:
                    own[name] = value
                else:  # the count of steps, which each piece counts
                    own[name] = value.clone()
                    self.copies.append(own[name])
            yield piece, own
