import queue
import threading
from collections.abc import Callable
from typing import Any


class Watchdog:
    """Calls functions on a thread of its own, so that one that hangs in C++ can be given up."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        # A daemon: the interpreter must not wait for a thread that hangs.
        threading.Thread(target=self._run, args=(self._calls, self._results), daemon=True).start()

    @staticmethod
    def _run(calls: queue.SimpleQueue, results: queue.SimpleQueue) -> None:
        while (call := calls.get()) is not None:
            try:
                results.put((call(), None))
            except BaseException as error:  # raised again where the call came from
                results.put((None, error))
            del call  # not to hold the env while waiting for the next

    def __call__(self, call: Callable[[], Any], seconds: float) -> Any:
        """The function's result.

        Raises:
            TimeoutError: if there is none after so many seconds.

        """
        self._calls.put(call)
        try:
            result, error = self._results.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError from None
        if error is not None:
            raise error
        return result

    def stop(self) -> None:
        """End the thread, once it is free."""
        self._calls.put(None)
