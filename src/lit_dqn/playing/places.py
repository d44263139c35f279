"""Where envs are played, if not in this process: what a place must be able to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

from lit_dqn.errors import ConfigError

if TYPE_CHECKING:
    from lit_dqn.playing.actor import PlayerSpec  # it needs torch, which takes seconds, and settings do without


class ActorLost(Exception):
    """An actor has died, or its machine, or what it answered was lost with it."""


class Actors(Protocol):
    """Processes that hold an `Actor` each. Calls of one actor are answered in their order."""

    def put(self, value: Any) -> Any:
        """What stands for a value in calls, so that it is sent to each machine once."""
        ...

    def ask(self, actor: int, method: str, *arguments: Any) -> Any:
        """Begin a call of a method of an actor, dead or alive; `answer` takes what this returns."""
        ...

    def answer(self, call: Any) -> Any:
        """Wait for a call.

        Raises:
            ActorLost: if it will never be answered.
            ConfigError: or whatever else the call has raised.

        """
        ...

    def begin_again(self, actor: int) -> None:
        """Begin another actor in the place of one, which is ended if it lives."""
        ...

    def close(self) -> None:
        """End all."""
        ...


class Place(ABC):
    """Where envs are played, as a setting.

    Args:
        actors: processes that play.
        envs_per_player: envs that are acted in together; whatever their number, a run is the same.

    Raises:
        ConfigError: if one is not positive.

    """

    def __init__(self, actors: int, envs_per_player: int) -> None:
        for key, value in (("actors", actors), ("envs_per_player", envs_per_player)):
            if value < 1:
                raise ConfigError(f"place: {key} {value} must be at least 1; set --data.place.init_args.{key} 1.")
        self.actors = actors
        self.envs_per_player = envs_per_player

    @abstractmethod
    def check(self) -> None:
        """Refuse what can be refused before anything is begun.

        Raises:
            ConfigError: such as for a package that is missing.

        """

    @abstractmethod
    def begin(self, spec: PlayerSpec) -> Actors:
        """Begin actors; actor a has the players a, a + actors, ...

        Raises:
            ConfigError: if there is no such place.

        """
