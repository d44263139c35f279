from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_dqn.errors import ConfigError
from lit_dqn.learning.losses import lambda_returns
from lit_dqn.replay.buffer import ReplayBuffer
from lit_dqn.replay.horizon import Horizon
from lit_dqn.replay.samplers import Sampler
from lit_dqn.replay.stacking import observations_at
from lit_dqn.replay.store import BufferedStore
from lit_dqn.types import Batch, Drawn, Lookup

LONGEST = 1024
"""The most steps per env in a rollout: they fit into its buffer, however short the episodes are."""

StateValues = Callable[..., NDArray[np.float32]]
"""V(s) of observations [B, *shape] and action masks [B, num_actions], if there are any; as [B], with the present
weights.
"""


class Rollout(Sampler):
    """Learns from the newest steps of all envs as soon as they are played, then discards them.

    A training step plays one rollout of `capacity` env steps and makes its updates in one or more passes over it, each
    in a newly shuffled order. The target is the λ-return, G_t = R_{t+1} + γ ((1 - λ) V(s_{t+1}) + λ G_{t+1})
    (`lambda_returns`), so objectives do not bootstrap. For `LitDQN` V is max_a Q(s, a) with the newest weights, which
    makes it PQN (Gallici et al. 2025); for the other agents it is V(s).

    Args:
        trace_decay: λ; 0 bootstraps after each step, 1 after the last step of the rollout or of the episode.

    Raises:
        ConfigError: if λ is outside [0, 1].

    """

    is_rollout = True

    def __init__(self, trace_decay: float = 0.65) -> None:
        if not 0 <= trace_decay <= 1:
            raise ConfigError(
                f"trace_decay: {trace_decay} is λ and must lie in [0, 1]; 0 bootstraps after each step, 0.65 is PQN's."
            )
        self.trace_decay = trace_decay

    def sample(self, starts: range, batch_size: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """[batch_size], the first ones of a pass."""
        batch: NDArray[np.int64] = self.sample_many(starts, 1, batch_size, generator)[0]
        return batch

    def sample_many(
        self, starts: range, count: int, batch_size: int, generator: np.random.Generator
    ) -> NDArray[np.int64]:
        """[count, batch_size], pass after pass over all starts, each in a new random order."""
        passes = -(-count * batch_size // len(starts))
        numbers = np.concatenate([generator.permutation(len(starts)) for _ in range(passes)])
        return starts.start + numbers[: count * batch_size].reshape(count, batch_size)


class RolloutStore(BufferedStore):
    """The `Store` of a `Rollout`: a buffer that holds one rollout, and computes its returns.

    The values in the returns are computed when batches are drawn, with the weights that have just played. So only the
    timesteps of a rollout have to be saved, and a resumed run computes the same values.

    Args:
        buffer: with one-step windows and room for one rollout, [T] steps of each of N envs.
        rollout: λ, and the order of the transitions.
        state_values: computes V(s).
        horizon: γ of drawn transitions; None: the buffer's.

    """

    device = torch.device("cpu")

    def __init__(
        self, buffer: ReplayBuffer, rollout: Rollout, state_values: StateValues, horizon: Horizon | None = None
    ) -> None:
        self.buffer = buffer
        self.horizon = Horizon(buffer.n_step, buffer.gamma) if horizon is None else horizon
        self.rollout = rollout
        self.state_values = state_values

    def draw(self, updates: int, batch_size: int, generator: np.random.Generator, env_step: int) -> Drawn:
        """The batches of some updates; their rewards are λ-returns, and their discounts 0."""
        starts = self.buffer.starts
        start = self.rollout.sample_many(starts, updates, batch_size, generator)
        found = self.buffer.lookup(np.arange(starts.start, starts.stop), gamma=self.horizon.discount(env_step))
        returns = self._returns(found, batch_size)
        return Drawn([self._batch(found, returns, numbers - starts.start) for numbers in start], start)

    def _returns(self, found: Lookup, batch_size: int) -> NDArray[np.float32]:
        """The λ-return of each transition, in the order of play: by step, then by env."""
        parts = [slice(first, first + batch_size) for first in range(0, len(found.next_rows), batch_size)]
        next_value = np.concatenate([self._next_values(found, part) for part in parts])
        returns = lambda_returns(
            self._by_env(found.reward),
            self._by_env(found.discount),
            self._by_env(found.last),
            self._by_env(next_value),
            self.rollout.trace_decay,
        )
        return returns.T.reshape(-1).numpy()

    def _next_values(self, found: Lookup, part: slice) -> NDArray[np.float32]:
        observation = observations_at(self.buffer.frames, found.next_rows[part])
        if found.next_action_mask is None:
            return self.state_values(observation)
        return self.state_values(observation, found.next_action_mask[part])

    def _by_env(self, numbers: NDArray[Any]) -> Tensor:
        """[N, T], from values in the order of play."""
        return torch.from_numpy(numbers).reshape(-1, self.buffer.num_envs).T

    def _batch(self, found: Lookup, returns: NDArray[np.float32], places: NDArray[np.int64]) -> Batch:
        return Batch(
            observation=torch.from_numpy(observations_at(self.buffer.frames, found.rows[places])),
            action=torch.from_numpy(found.action[places]),
            reward=torch.from_numpy(returns[places]),
            discount=torch.zeros(len(places)),
            action_mask=None if found.action_mask is None else torch.from_numpy(found.action_mask[places]),
        )

    def settle(self, start: NDArray[np.int64], priority: Tensor) -> None:
        """Does nothing: a rollout does not use priorities."""

    def state_dict(self) -> dict[str, Any]:
        """The timesteps; the tensors share memory with the buffer."""
        return self.buffer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of a store of the same layout.

        Raises:
            ValueError: if the frame stack, or an array's shape or dtype differ.
            OSError: if arrays on disk are damaged.

        """
        self.buffer.load_state_dict(state)
