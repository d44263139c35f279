"""Weight decay of some parameters."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn


def decay_matrices(
    make_optimizer: Callable[[Any], torch.optim.Optimizer], parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    """Create an optimiser that decays only parameters with two or more axes, not biases or normalisation parameters.

    Args:
        make_optimizer: called with groups of parameters; the first group decays.
        parameters: of a network.

    """
    parameters = list(parameters)
    decayed, others = ([each for each in parameters if (each.ndim > 1) is many] for many in (True, False))
    return make_optimizer([{"params": decayed}, *([{"params": others, "weight_decay": 0.0}] if others else [])])
