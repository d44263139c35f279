"""Where envs are played, if not in this process: the interface of a place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from lit_dqn.errors import ConfigError

if TYPE_CHECKING:
    from lit_dqn.playing.actor import PlayerSpec  # it imports torch, which takes seconds, and settings do not need it


class ActorLost(Exception):
    """An actor has died, or its machine, or its answer was lost."""


class Actors(Protocol):
    """Processes that hold one `Actor` each. An actor answers its calls in their order."""

    def put(self, value: Any) -> Any:
        """A reference to a value for use in calls, so that it is sent to each machine once."""
        ...

    def ask(self, actor: int, method: str, *arguments: Any) -> Any:
        """Start a call of a method of an actor, dead or alive; pass the result to `answer`."""
        ...

    def answer(self, call: Any) -> Any:
        """Wait for a call.

        Raises:
            ActorLost: if it will never be answered.
            ConfigError: or any other error of the call.

        """
        ...

    def arrived(self, calls: Sequence[Any], wait: bool) -> list[int]:
        """The indices of the calls that have an answer, or will never get one.

        Args:
            calls: what `ask` returned.
            wait: whether to wait until there is at least one.

        """
        ...

    def begin_again(self, actor: int) -> None:
        """Replace an actor by a new one; end the old one if it is alive."""
        ...

    def close(self) -> None:
        """End all actors."""
        ...


class Place(ABC):
    """The setting of where envs are played.

    Args:
        actors: number of processes that play.
        envs_per_player: number of envs that act together; the run does not depend on it.

    Attributes:
        asynchronous: whether they play on by themselves, as `Asynchronous` says. A place that lets a config say so
            takes this and the next two as arguments, and hands them to `_play_on`.
        slack: training steps that playing and learning may be apart then.
        max_staleness: training steps that weights may be old then.

    Raises:
        ConfigError: if one is not positive.

    """

    asynchronous = False
    slack = 2
    max_staleness = 16

    def __init__(self, actors: int, envs_per_player: int) -> None:
        _check_positive(actors=actors, envs_per_player=envs_per_player)
        self.actors = actors
        self.envs_per_player = envs_per_player

    def _play_on(self, asynchronous: bool, slack: int, max_staleness: int) -> None:
        """Keep these settings.

        Raises:
            ConfigError: if one is not positive.

        """
        _check_positive(slack=slack, max_staleness=max_staleness)
        self.asynchronous = asynchronous
        self.slack = slack
        self.max_staleness = max_staleness

    @abstractmethod
    def check(self) -> None:
        """Refuse what can be refused before anything is started.

        Raises:
            ConfigError: such as for a package that is missing.

        """

    @abstractmethod
    def begin(self, spec: PlayerSpec) -> Actors:
        """Start the actors; actor a has the players a, a + actors, ...

        Raises:
            ConfigError: if there is no such place.

        """


def _check_positive(**numbers: int) -> None:
    for key, value in numbers.items():
        if value < 1:
            raise ConfigError(f"place: {key} {value} must be at least 1; set --data.place.init_args.{key} 1.")
