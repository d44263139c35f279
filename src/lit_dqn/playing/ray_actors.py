"""Players in Ray actors, on this machine or on a cluster."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lit_dqn.errors import SIGNALS, ConfigError, one_line
from lit_dqn.playing.places import ActorLost, Place

if TYPE_CHECKING:
    from lit_dqn.playing.actor import PlayerSpec

STORE_BYTES = 256 * 2**20
"""Memory of a Ray that is begun here for what is on its way: weights and chunks. What does not fit goes to the disk."""


class RayActors(Place):
    """Plays in actors of Ray, each a process of its own with one CPU; the learner stays in this process.

    An actor that dies is begun again where there is room, and its envs are played again to where they were.

    Args:
        actors: processes that play.
        envs_per_player: envs that are acted in together; `num_envs` is a multiple of it, and each actor has one player
            or several. The results do not depend on either.
        address: `local` begins Ray on this machine, and ends it with the run; `auto` is the cluster that this machine
            belongs to; else as `ray.init` takes it. A Ray that this process has begun already is taken as it is.

    Raises:
        ConfigError: if a number is not positive.

    """

    def __init__(self, actors: int = 2, envs_per_player: int = 8, address: str = "local") -> None:
        super().__init__(actors, envs_per_player)
        self.address = address

    def check(self) -> None:
        """Refuse to play in Ray where it is not installed.

        Raises:
            ConfigError: naming the extra.

        """
        if importlib.util.find_spec("ray") is None:
            raise ConfigError(
                "place: RayActors needs the package ray, which is not installed; install the extra ray: "
                "pip install 'lit-dqn[ray]', or set --data.place null."
            )

    def begin(self, spec: PlayerSpec) -> _RayCrew:
        """Begin Ray, where it is not there yet, and the actors.

        Raises:
            ConfigError: if Ray cannot be begun or joined.

        """
        self.check()
        return _RayCrew(self, spec)


class _RayCrew:
    """Ray's actors as `Actors` has them."""

    def __init__(self, place: RayActors, spec: PlayerSpec) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told what is trained here
        import ray

        from lit_dqn.playing.actor import Actor  # it needs torch, which takes seconds, and settings do without

        self._ray, self._spec = ray, spec
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
            if place.address == "local":
                settings |= {"num_cpus": place.actors, "object_store_memory": STORE_BYTES, "include_dashboard": False}
            try:
                with _undisturbed():
                    ray.init(address=place.address, **settings)
            except Exception as error:
                raise ConfigError(
                    f"place: there is no Ray at address {place.address!r} that can be joined: {one_line(error)}; set "
                    "--data.place.init_args.address local."
                ) from error
        self._class = ray.remote(num_cpus=1, max_restarts=0)(Actor)
        self._lost = (
            ray.exceptions.RayActorError,
            ray.exceptions.ObjectLostError,
            ray.exceptions.WorkerCrashedError,
            ray.exceptions.NodeDiedError,
        )
        self._actors = [self._begin(actor) for actor in range(place.actors)]

    def _begin(self, actor: int) -> Any:
        with _undisturbed():
            return self._class.remote(self._spec)

    def put(self, value: Any) -> Any:
        return self._ray.put(value)

    def ask(self, actor: int, method: str, *arguments: Any) -> Any:
        try:
            return getattr(self._actors[actor], method).remote(*arguments)
        except self._lost as error:
            return error

    def answer(self, call: Any) -> Any:
        try:
            if isinstance(call, Exception):
                raise call
            return self._ray.get(call)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, Exception) else error from None
        except self._lost as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            raise ActorLost(lines[-1] if lines else type(error).__name__) from error

    def begin_again(self, actor: int) -> None:
        with contextlib.suppress(Exception):  # it is dead, as a rule
            self._ray.kill(self._actors[actor])
        self._actors[actor] = self._begin(actor)

    def close(self) -> None:
        if not self._ray.is_initialized():
            return
        with _undisturbed():
            for actor in self._actors:
                self._ray.kill(actor)
            if self._is_ours:
                self._ray.shutdown()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Ray takes SIGTERM for itself, which would end a run before it has saved, and draws from Python's generator."""
    drawn = random.getstate()
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in SIGNALS} if is_main else {}
    try:
        yield
    finally:
        random.setstate(drawn)
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
