"""Playing the next chunk while this one is learned from."""

from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from typing import Any

import torch

from lit_dqn.errors import ConfigError
from lit_dqn.playing.collector import Collector
from lit_dqn.playing.sharded import ShardedCollector
from lit_dqn.saving.random_state import random_state
from lit_dqn.types import CopiedAgent
from lit_dqn.worker import Worker

CLOSE_SECONDS = 5.0
"""How long the end of a run waits for what is being played: an env may hang."""


def check_draws_nothing(who: str, act: Callable[[], Any], ahead: bool = True) -> None:
    """Refuse to play ahead, or elsewhere, with what draws random numbers while it acts.

    torch, NumPy and Python have one global generator each for all threads. Updates may draw from it, such as dropout;
    if acting does, too, who gets which number depends on how the threads take turns, and no run is the same twice.

    Args:
        who: acts, in words.
        act: lets it act once.
        ahead: whether it would play ahead; else elsewhere.

    Raises:
        ConfigError: if it draws.

    """
    before = random_state()
    act()
    after = random_state()
    changed = any(before[name] != after[name] for name in ("python", "numpy"))
    if changed or not torch.equal(before["torch"], after["torch"]):
        what, remedy = ("play_ahead: true", "play_ahead false") if ahead else ("a place", "place null")
        raise ConfigError(
            f"{what} is not possible here, for {who} draws random numbers while it acts, and from the same generator "
            f"as the updates beside it, so that no run could be repeated; set --data.{remedy}."
        )


class PlayAhead:
    """Plays on a thread of its own, by weights that the updates meanwhile do not touch.

    Whoever starts it waits for its end before anything else looks at the collector or its replay. So a run is the same
    each time, however the two threads take turns, and a checkpoint never meets it half-way.

    Args:
        collector: that plays.

    """

    def __init__(self, collector: Collector | ShardedCollector) -> None:
        self._collector = collector
        self._actor: CopiedAgent | None = None
        self._playing: Future[None] | None = None
        # One thread for all chunks, for torch gives each thread helpers of its own.
        self._worker = Worker()
        # Each thread has a mode of its own; `prepare_process` sets that of the main one.
        self._worker(partial(torch.set_flush_denormal, True))

    def start(self, agent: CopiedAgent, env_steps: int) -> None:
        """Begin to play `env_steps` env steps by the weights that the agent has now."""
        self._actor = agent.acting_copy(self._actor)
        self._playing = self._worker(partial(self._collector.collect, self._actor, env_steps))

    def wait(self) -> None:
        """Until what was begun is played and stored.

        Raises:
            BaseException: what went wrong there.

        """
        if self._playing is not None:
            self._playing.result()

    def close(self) -> None:
        """End the thread, once it is free; so that the envs can be closed, wait for it as long as one step may take."""
        self._worker.stop()
        if self._playing is not None:
            wait([self._playing], timeout=CLOSE_SECONDS)
