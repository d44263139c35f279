"""Playing the next chunk while this one is learned from."""

from concurrent.futures import Future, ThreadPoolExecutor

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
        # A thread has its own mode for numbers below the smallest normal one; acting shall be as without the thread.
        self._thread = ThreadPoolExecutor(1, "play_ahead", torch.set_flush_denormal, (True,))
        self._actor: CopiedAgent | None = None
        self._playing: Future[None] | None = None

    def start(self, agent: CopiedAgent, env_steps: int) -> None:
        """Begin to play `env_steps` env steps by the weights that the agent has now."""
        self._actor = agent.acting_copy(self._actor)
        self._playing = self._thread.submit(self._collector.collect, self._actor, env_steps)

    def wait(self) -> None:
        """Until what was begun is played and stored.

        Raises:
            Exception: what went wrong there, once.

        """
        playing, self._playing = self._playing, None
        if playing is not None:
            playing.result()

    def close(self) -> None:
        """Let the thread end, when what was begun is played; what went wrong there no longer matters."""
        self._thread.shutdown()
