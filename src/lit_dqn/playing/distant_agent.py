"""The agent in actors: a network whose preferences have the same bits everywhere."""

import copy
import logging
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor, nn

from lit_dqn.branches import Branches, branches_of
from lit_dqn.errors import ConfigError
from lit_dqn.parts import Parts

log = logging.getLogger("lit_dqn")

FEWEST_ROWS = 4
"""Smaller batches of observations use other instructions, and give other bits."""


class DistantAgent:
    """A network that computes the agent's preferences in another process.

    Args:
        network: a copy of the agent's, on the CPU.
        num_actions: the number of its first outputs that are preferences, if its actions have no parts.
        among: pad the batch with zeros to this number of rows, if a row's bits depend on the number of rows; None: do
            not.
        parts: of observations; None: they have none.
        branches: of the network; None: it has an output for each action.

    Attributes:
        first_row: the first row of the next batch.

    """

    def __init__(
        self,
        network: nn.Module,
        num_actions: int,
        among: int | None = None,
        parts: Parts | None = None,
        branches: Branches | None = None,
    ) -> None:
        self.branches = branches
        self.parts = parts
        self.network = network
        self.num_actions = num_actions
        self.among = among
        self.first_row = 0

    @torch.inference_mode()
    def preferences(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        """[N, *shape] to [N, num_actions]."""
        rows = slice(0, len(observation))
        if self.among is not None:
            rows = slice(self.first_row, self.first_row + len(observation))
            everybody = np.zeros((self.among, *observation.shape[1:]), observation.dtype)
            everybody[rows] = observation
            observation = everybody
        seen = torch.as_tensor(observation)
        outputs: Tensor = self.network(seen if self.parts is None else self.parts.tensors(seen))
        wanted = self.num_actions if self.branches is None else self.branches.num_outputs
        return outputs.float()[rows, :wanted].numpy()

    choice_values = preferences  # if its actions have parts

    @torch.no_grad()
    def take(self, weights: NDArray[np.uint8]) -> None:
        """Use these weights from now on: the result of `bytes_of` for a network of the same layout."""
        tensors, done = _tensors(self.network), 0
        flat = torch.from_numpy(weights.copy())  # a received array may be read-only
        for tensor in tensors:
            part = flat[done : done + tensor.nbytes]
            tensor.copy_(part.clone().view(tensor.dtype).reshape(tensor.shape))
            done += tensor.nbytes


def bytes_of(network: nn.Module) -> NDArray[np.uint8]:
    """All parameters and buffers of a network, including noise and statistics."""
    parts = [tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in _tensors(network)]
    return torch.cat(parts).cpu().numpy()


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def distant_agent(agent: Any, observations: NDArray[Any], rows: int) -> DistantAgent:
    """The acting part of an agent, with the same preferences bit for bit when fewer rows are computed at once.

    Args:
        agent: a `CopiedAgent`.
        observations: to try it with, [N, *shape].
        rows: the number of rows computed at once; N is a multiple of it.

    Raises:
        ConfigError: if the agent's preferences differ from its network's outputs.

    """
    network = copy.deepcopy(agent.online).cpu().requires_grad_(False)
    branches = branches_of(agent)
    whole = (agent.preferences if branches is None else agent.choice_values)(observations)
    few = rows < FEWEST_ROWS and rows < len(observations)
    for among in (len(observations),) if few else (None, len(observations)):
        distant = DistantAgent(network, agent.num_actions, among, getattr(agent, "parts", None), branches)
        said = np.empty_like(whole)
        for first in range(0, len(observations), rows):
            distant.first_row = first
            said[first : first + rows] = distant.preferences(observations[first : first + rows])
        distant.first_row = 0
        if np.array_equal(said, whole):
            return distant
    if not np.allclose(said, whole, rtol=1e-2, atol=1e-2):
        raise ConfigError(
            f"place: the preferences of {type(agent).__name__} are not the outputs of its network, and actors get only "
            "the network; set --data.place null."
        )
    log.warning(
        "the agent acts on %s, and actors act on CPUs, with other bits: this run is the same whatever the number of "
        "actors, but not the one that is played without a place",
        next(agent.online.parameters()).device,
    )
    return distant


def observations_of_nothing(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Random observations, for comparing the outputs of two networks."""
    generator, dtype = np.random.default_rng(0), np.dtype(dtype)
    if dtype.kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    return generator.integers(0, 2 if dtype == np.bool_ else 256, shape).astype(dtype)


def rows_of_nothing(count: int, parts: Parts) -> NDArray[np.uint8]:
    """Likewise, of several parts: [count, *row_shape]."""
    generator = np.random.default_rng(0)
    rows = generator.integers(0, 256, (count, *parts.row_shape), np.uint8)
    numbers = parts.numbers(rows.reshape(-1, rows.shape[-1]))
    numbers[...] = generator.standard_normal(numbers.shape)
    return rows
