"""An actor in a process of Ray."""

from typing import Any

import ray
from numpy.typing import NDArray

from lit_dqn.playing.actor import Actor, Order, Played, PlayerSpec
from lit_dqn.playing.packing import Packed, pack


class RayActor(Actor):
    """Compresses what it sends to another machine.

    Args:
        spec: of the players.
        home: Ray's name of the machine that learns.

    """

    def __init__(self, spec: PlayerSpec, home: str) -> None:
        super().__init__(spec)
        self._is_away = ray.get_runtime_context().get_node_id() != home

    def play(self, order: Order, weights: NDArray[Any] | None) -> Played | Packed:  # type: ignore[override]
        """Play a chunk, as `Actor` does."""
        played = super().play(order, weights)
        return pack(played) if self._is_away else played
