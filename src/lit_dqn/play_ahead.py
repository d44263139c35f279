"""Playing the next chunk while this one is learned from."""

import queue
import threading
import weakref
from collections.abc import Callable
from functools import partial

import torch

from lit_dqn.collector import Collector
from lit_dqn.types import CopiedAgent


class PlayAhead:
    """Plays on a thread of its own, by weights that the updates meanwhile do not touch.

    Whoever starts it waits for its end before anything else looks at the collector or its replay. So a run is the same
    each time, however the two threads take turns, and a checkpoint never meets it half-way.

    Args:
        collector: that plays.

    """

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._actor: CopiedAgent | None = None
        self._playing = False
        self._asked: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        # One thread for all chunks, for torch gives each thread helpers of its own; a daemon, for the interpreter must
        # not wait for an env that hangs.
        threading.Thread(target=self._play, args=(self._asked, self._ended), name="play_ahead", daemon=True).start()
        # Also where nobody closes it: a run that fails in a notebook must not keep its replay for ever.
        self._end_of_thread = weakref.finalize(self, self._asked.put, None)

    @staticmethod
    def _play(asked: queue.SimpleQueue, ended: queue.SimpleQueue) -> None:
        torch.set_flush_denormal(True)  # each thread has a mode of its own; `prepare_process` sets that of the main one
        while (collect := asked.get()) is not None:
            try:
                collect()
                ended.put(None)
            except BaseException as error:  # raised again by `wait`
                ended.put(error)
            del collect  # not to hold the replay while waiting for the next

    def start(self, agent: CopiedAgent, env_steps: int) -> None:
        """Begin to play `env_steps` env steps by the weights that the agent has now."""
        self._actor = agent.acting_copy(self._actor)
        self._playing = True
        self._asked.put(partial(self._collector.collect, self._actor, env_steps))

    def wait(self) -> None:
        """Until what was begun is played and stored.

        Raises:
            BaseException: what went wrong there, once.

        """
        if self._playing:
            error = self._ended.get()
            self._playing = False
            if error is not None:
                raise error

    def close(self) -> None:
        """End the thread, once it is free."""
        self._end_of_thread()
