"""Heartbeats between the processes of one run: without them, the others would wait half an hour for a silent
process.
"""

import os
import socket
import threading
import time
from datetime import timedelta

from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

from lit_dqn.errors import ConfigError, TrainingError, tell_torchrun
from lit_dqn.ranks import LOST, Ranks

BEAT_SECONDS, SILENT_SECONDS = 3.0, 40.0
MEET_BEAT_SECONDS = 0.2
"""Between two heartbeats until all have come, so that nobody waits long for the last one."""
TELL_SECONDS = 60.0
"""How long a process that does not start looks for the others, to tell them so."""
REFUSED, HEARD = "refused", "heard"


def connect(patience: timedelta, as_first: bool = False) -> Store:
    """The store through which the processes of a run find each other, at MASTER_ADDR and MASTER_PORT.

    Args:
        patience: how long an answer may take.
        as_first: by the first process, which holds the store unless torchrun does.

    """
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    holds_it = as_first and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    return TCPStore(address, port, is_master=holds_it, wait_for_workers=False, timeout=patience)


def _of_this_attempt(store: Store) -> Store:
    """Torchrun's store survives a restart, and so does what is in it."""
    return PrefixStore(f"lit_dqn/alive/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def refuse(sentence: str, count: int, is_first: bool) -> None:
    """Tell the other processes, which wait for this one, why it does not start; the first one waits for them to hear.

    Args:
        sentence: the reason.
        count: of all processes.
        is_first: whether this is the first one.

    """
    try:
        store = _of_this_attempt(connect(timedelta(seconds=TELL_SECONDS), as_first=is_first))
        store.compare_set(REFUSED, "", sentence)
        _hear_refusal(store)
        if is_first:
            _wait_until_heard(store, count)
    except RuntimeError:
        pass  # nobody is there to hear it


def _hear_refusal(store: Store) -> str:
    if store.add(f"{HEARD}/{socket.gethostname()}/{os.getpid()}", 1) == 1:
        store.add(HEARD, 1)
    return store.get(REFUSED).decode()


def _wait_until_heard(store: Store, count: int) -> None:
    until = time.monotonic() + TELL_SECONDS
    while store.add(HEARD, 0) < count and time.monotonic() < until:
        time.sleep(MEET_BEAT_SECONDS)


class Heartbeat:
    """Sends heartbeats on a thread, and ends this process when another has sent none for 40 seconds.

    Closed connections reveal a process that ends. This is for a machine that hangs or loses its network, and for a
    process that dies while the others evaluate, wait for a disk, or wait for those that have not started yet. A
    process that sends heartbeats may take any time for its work.

    Args:
        ranks: the processes, which need not be connected yet.

    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._ended = threading.Event()
        self._all_came = threading.Event()
        self._refusal = ""
        # A separate connection: torch's blocks while it waits for answers.
        self._store = _of_this_attempt(connect(timedelta(seconds=SILENT_SECONDS)))
        self._missing = {rank for rank in range(ranks.count) if rank != ranks.rank}
        self._heard: dict[int, tuple[bytes, float]] = {}
        for work in (self._beat, self._listen):
            threading.Thread(target=work, daemon=True).start()

    def meet(self, seconds: float) -> None:
        """Wait for the first heartbeat of each of the others.

        Args:
            seconds: for so long.

        Raises:
            ConfigError: if one of them does not start, with its sentence.
            TrainingError: naming those that have not come.

        """
        all_came = self._all_came.wait(seconds)
        if self._refusal:
            if self._ranks.rank == 0:
                _wait_until_heard(self._store, self._ranks.count)
            raise ConfigError(self._refusal)
        if not all_came:
            missing = ", ".join(map(str, sorted(self._missing)))
            raise TrainingError(
                f"not all of the {self._ranks.count} processes of this run came within {seconds / 60:.0f} minutes "
                f"(missing: {missing}), so this one ends, too; their messages tell why."
            )

    def stop(self) -> None:
        """From now on this process does not watch the others."""
        self._ended.set()

    def _beat(self) -> None:
        count = 0
        while True:
            try:
                self._store.set(str(self._ranks.rank), str(count))
                self._hear()
            except RuntimeError:
                pass  # the first process holds the store; if it does not answer, it counts as silent
            count += 1
            if self._ended.wait(BEAT_SECONDS if self._all_came.is_set() else MEET_BEAT_SECONDS):
                return

    def _hear(self) -> None:
        for rank in [rank for rank in self._missing if self._store.check([str(rank)])]:
            self._heard[rank] = (b"", time.monotonic())
            self._missing.remove(rank)
        for rank, (before, _) in list(self._heard.items()):
            now = self._store.get(str(rank))
            if now != before:
                self._heard[rank] = (now, time.monotonic())
        if not self._missing:
            self._all_came.set()
        elif self._store.check([REFUSED]):
            self._refusal = _hear_refusal(self._store)
            self._ended.set()
            self._all_came.set()

    def _listen(self) -> None:
        while not self._ended.wait(1):
            heard = list(self._heard.items())
            silent = [rank for rank, (_, at) in heard if time.monotonic() - at > SILENT_SECONDS]
            if silent:
                # The main thread is blocked where no exception reaches it.
                sentence = f"{LOST} (process {silent[0]} is silent for {SILENT_SECONDS:.0f} s)"
                os.write(2, f"error: {sentence}\n".encode())
                tell_torchrun(sentence)
                os._exit(2)
