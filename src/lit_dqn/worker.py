"""A thread that runs one call at a time."""

import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class Worker:
    """Calls functions on a separate thread, so that the caller can continue meanwhile, or abandon a call that hangs.

    A `ThreadPoolExecutor` would keep the interpreter from ending while one hangs; this thread is a daemon.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, args=(self._calls,), name="worker", daemon=True).start()
        # Also if nobody stops it, for example after an error in a notebook.
        self._stop = weakref.finalize(self, self._calls.put, None)

    @staticmethod
    def _run(calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None]) -> None:
        while (item := calls.get()) is not None:
            call, future = item
            try:
                future.set_result(call())
            except BaseException as error:  # raised again by the future's `result`
                future.set_exception(error)
            del item, call, future  # so as not to keep an env or a replay alive while waiting for the next call

    def __call__(self, call: Callable[[], Any]) -> Future[Any]:
        """A future of the function's return value."""
        future: Future[Any] = Future()
        self._calls.put((call, future))
        return future

    def stop(self) -> None:
        """End the thread after its current call."""
        self._stop()
