"""Heartbeats between the processes of one run: without them, the others would wait half an hour for a silent
process.
"""

import os
import threading
import time
from datetime import timedelta

from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

from lit_dqn.ranks import LOST, Ranks

BEAT_SECONDS, SILENT_SECONDS = 3.0, 40.0


def connect(patience: timedelta) -> Store:
    """The store through which the processes of a run find each other.

    Args:
        patience: how long an answer may take.

    """
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=patience)


class Heartbeat:
    """Sends heartbeats on a thread, and ends this process when another has sent none for 40 seconds.

    Closed connections reveal a process that ends. This is for a machine that hangs or loses its network, and for a
    process that dies while the others evaluate or wait for a disk. A process that sends heartbeats may take any time
    for its work.

    Args:
        ranks: the connected processes.

    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._ended = threading.Event()
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        # A separate connection: torch's blocks while it waits for answers.
        self._store = PrefixStore(f"lit_dqn/alive/{attempt}", connect(timedelta(seconds=SILENT_SECONDS)))
        self._heard = {rank: (b"", time.monotonic()) for rank in range(ranks.count) if rank != ranks.rank}
        self._store.set(str(ranks.rank), "0")
        for work in (self._beat, self._listen):
            threading.Thread(target=work, daemon=True).start()

    def stop(self) -> None:
        """From now on this process does not watch the others."""
        self._ended.set()

    def _beat(self) -> None:
        count = 0
        while not self._ended.wait(BEAT_SECONDS):
            count += 1
            try:
                self._store.set(str(self._ranks.rank), str(count))
                for rank, (before, _) in list(self._heard.items()):
                    now = self._store.get(str(rank))
                    if now != before:
                        self._heard[rank] = (now, time.monotonic())
            except RuntimeError:
                pass  # the first process holds the store; if it does not answer, it counts as silent

    def _listen(self) -> None:
        while not self._ended.wait(1):
            silent = [rank for rank, (_, at) in self._heard.items() if time.monotonic() - at > SILENT_SECONDS]
            if silent:
                # The main thread is blocked where no exception reaches it.
                os.write(2, f"error: {LOST} (process {silent[0]} is silent for {SILENT_SECONDS:.0f} s)\n".encode())
                os._exit(2)
