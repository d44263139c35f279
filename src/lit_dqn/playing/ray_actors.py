"""Players in Ray actors, on this machine or on a cluster."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lit_dqn.errors import SIGNALS, ConfigError, one_line
from lit_dqn.playing.places import ActorLost, Place

if TYPE_CHECKING:
    from lit_dqn.playing.actor import PlayerSpec

log = logging.getLogger("lit_dqn")

REPORT_SECONDS, GIVE_UP_SECONDS = 10.0, 120.0
"""How long a run waits for free CPUs before it reports that, and before it ends."""

STORE_BYTES = 256 * 2**20
"""Memory for objects in transit, weights and chunks, of a Ray that is started here, in bytes. The rest goes to disk."""


class RayActors(Place):
    """Plays in Ray actors, each a process with one CPU; the learner stays in this process.

    An actor that dies is replaced on any machine with room, and its envs are restored by playing the episodes again.

    Args:
        actors: number of processes that play.
        envs_per_player: number of envs that act together; `num_envs` must be a multiple of it, and each actor has one
            or more players. The results do not depend on either.
        address: `local` starts Ray on this machine, and ends it with the run; `auto` is the cluster of this machine;
            any other value is passed to `ray.init`. If this process has already started Ray, that is used.
        asynchronous: whether players play on continuously, and the learner takes what has arrived (Horgan et al. 2018).
            Such a run depends on the speed of its players; `fit --replay_journal` repeats it from its journal.
        slack: how far apart playing and learning may be if `asynchronous`, in training steps; the faster side waits.
        max_staleness: how old the weights that played a chunk may be if `asynchronous`, in training steps.

    Raises:
        ConfigError: if a number is not positive.

    """

    def __init__(
        self,
        actors: int = 2,
        envs_per_player: int = 8,
        address: str = "local",
        asynchronous: bool = False,
        slack: int = 2,
        max_staleness: int = 16,
    ) -> None:
        super().__init__(actors, envs_per_player)
        self.address = address
        self._play_on(asynchronous, slack, max_staleness)

    def check(self) -> None:
        """Refuse to play in Ray if it is not installed.

        Raises:
            ConfigError: naming the extra.

        """
        if importlib.util.find_spec("ray") is None:
            raise ConfigError(
                "place: RayActors needs the package ray, which is not installed; install the extra ray: "
                "pip install 'lit-dqn[ray]', or set --data.place null."
            )

    def begin(self, spec: PlayerSpec) -> _RayCrew:
        """Start Ray, unless it is running, and the actors.

        Raises:
            ConfigError: if Ray cannot be started or joined.

        """
        self.check()
        return _RayCrew(self, spec)


class _RayCrew:
    """Ray's actors with the interface of `Actors`."""

    def __init__(self, place: RayActors, spec: PlayerSpec) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # send no usage statistics
        import ray

        from lit_dqn.playing.packing import Packed, unpack  # torch takes seconds to import, and settings do not need it
        from lit_dqn.playing.ray_actor import RayActor

        self._ray, self._spec, self._packed, self._unpack = ray, spec, Packed, unpack
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
            if place.address == "local":
                settings |= {"num_cpus": place.actors, "object_store_memory": STORE_BYTES, "include_dashboard": False}
            try:
                with _undisturbed():
                    ray.init(address=place.address, **settings)
            except Exception as error:
                if place.address == "local":
                    raise ConfigError(
                        f"place: Ray does not start on this machine: {one_line(error)}; try again when it has less to "
                        "do, or set --data.place null."
                    ) from error
                raise ConfigError(
                    f"place: there is no Ray at address {place.address!r} that can be joined: {one_line(error)}; set "
                    "RAY_AUTH_MODE=token if it asks for a token, or --data.place.init_args.address local."
                ) from error
        self._class = ray.remote(num_cpus=1, max_restarts=0)(RayActor)
        self._home = ray.get_runtime_context().get_node_id()
        self._lost = (
            ray.exceptions.RayActorError,
            ray.exceptions.ObjectLostError,
            ray.exceptions.WorkerCrashedError,
            ray.exceptions.NodeDiedError,
        )
        self._check_cpus(place)
        self._wait_for_cpus(place)
        self._actors = [self._begin(actor) for actor in range(place.actors)]

    def _check_cpus(self, place: RayActors) -> None:
        """Refuse more actors than the cluster has CPUs."""
        cpus = int(self._ray.cluster_resources().get("CPU", 0))
        if cpus < place.actors:
            self.close()
            raise ConfigError(
                f"place: {place.actors} actors take one CPU each, and the cluster has {cpus} in all; set "
                f"--data.place.init_args.actors {max(cpus, 1)}."
            )

    def _wait_for_cpus(self, place: RayActors) -> None:
        """Wait until the CPUs are free, report it, and give up in the end; Ray itself would wait for ever."""
        began, reported = time.monotonic(), False
        while (free := int(self._ray.available_resources().get("CPU", 0))) < place.actors:
            waited = time.monotonic() - began
            sentence = f"place: {place.actors} actors take one CPU each, and {free} of the cluster's are free"
            if waited > GIVE_UP_SECONDS:
                self.close()
                raise ConfigError(
                    f"{sentence}, after {GIVE_UP_SECONDS:.0f} seconds; end what uses them, or set "
                    f"--data.place.init_args.actors {max(free, 1)}."
                )
            if waited > REPORT_SECONDS and not reported:
                log.warning("%s; the run waits for them, at most %.0f seconds", sentence, GIVE_UP_SECONDS)
                reported = True
            time.sleep(0.1)

    def _begin(self, actor: int) -> Any:
        with _undisturbed():
            return self._class.remote(self._spec, self._home)

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
            found = self._ray.get(call)
            return self._unpack(found) if isinstance(found, self._packed) else found
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, Exception) else error from None
        except self._lost as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            raise ActorLost(lines[-1] if lines else type(error).__name__) from error

    def arrived(self, calls: Sequence[Any], wait: bool) -> list[int]:
        lost = [place for place, call in enumerate(calls) if isinstance(call, Exception)]
        if lost or not calls:
            return lost
        count, seconds = (1, None) if wait else (len(calls), 0)
        ready, _ = self._ray.wait(list(calls), num_returns=count, timeout=seconds)
        return [place for place, call in enumerate(calls) if call in ready]

    def begin_again(self, actor: int) -> None:
        with contextlib.suppress(Exception):  # it is usually dead already
            self._ray.kill(self._actors[actor])
        self._actors[actor] = self._begin(actor)

    def close(self) -> None:
        if not self._ray.is_initialized():
            return
        with _undisturbed():
            for actor in getattr(self, "_actors", ()):
                self._ray.kill(actor)
            if self._is_ours:
                self._ray.shutdown()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Undo two side effects of Ray: it handles SIGTERM, which would end a run before it saves, and draws from Python's
    generator.
    """
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
