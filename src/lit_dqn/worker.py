"""A thread for one call at a time."""

import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class Worker:
    """Calls functions on a thread of its own, so that others can continue meanwhile, or give up one that hangs.

    A `ThreadPoolExecutor` would keep the interpreter from ending while one hangs; this thread is a daemon.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, args=(self._calls,), name="worker", daemon=True).start()
        # Also where nobody stops it, such as after an error in a notebook.
        self._stop = weakref.finalize(self, self._calls.put, None)

    @staticmethod
    def _run(calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None]) -> None:
        while (item := calls.get()) is not None:
            call, future = item
            try:
                future.set_result(call())
            except BaseException as error:  # raised again where the result is asked for
                future.set_exception(error)
            del item, call, future  # not to hold an env or a replay while waiting for the next

    def __call__(self, call: Callable[[], Any]) -> Future[Any]:
        """What the function gives, once it has been called."""
        future: Future[Any] = Future()
        self._calls.put((call, future))
        return future

    def stop(self) -> None:
        """End the thread, once it is free."""
        self._stop()
