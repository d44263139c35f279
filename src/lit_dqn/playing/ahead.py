"""Playing the next chunk during the updates of this one."""

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
"""How long the end of a run waits for a step in progress, in seconds: an env may hang."""


def check_draws_nothing(who: str, act: Callable[[], Any], ahead: bool = True) -> None:
    """Refuse to play ahead, or elsewhere, with an agent or policy that draws from a global generator while it acts.

    torch, NumPy and Python have one global generator each for all threads. Updates may draw from it, for example for
    dropout; if acting does, too, the timing of the threads decides who gets which number, and no run can be repeated.

    Args:
        who: what acts, for the message.
        act: a function that lets it act once.
        ahead: whether it would play ahead; otherwise elsewhere.

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
            f"{what} is not possible here, because {who} draws random numbers while it acts, from the same "
            f"generator as the concurrent updates, so no run could be repeated; set --data.{remedy}."
        )


class PlayAhead:
    """Plays on a separate thread, with a copy of the weights that the concurrent updates do not change.

    The caller waits for its end before anything else uses the collector or its replay. So a run does not depend on the
    timing of the threads, and a checkpoint never contains half a chunk.

    Args:
        collector: the collector that plays.

    """

    def __init__(self, collector: Collector | ShardedCollector) -> None:
        self._collector = collector
        self._actor: CopiedAgent | None = None
        self._playing: Future[None] | None = None
        # One thread for all chunks, because torch starts helper threads for each thread.
        self._worker = Worker()
        # Each thread has its own mode; `prepare_process` sets that of the main thread.
        self._worker(partial(torch.set_flush_denormal, True))

    def start(self, agent: CopiedAgent, env_steps: int) -> None:
        """Start to play `env_steps` env steps with the agent's present weights."""
        self._actor = agent.acting_copy(self._actor)
        self._playing = self._worker(partial(self._collector.collect, self._actor, env_steps))

    def wait(self) -> None:
        """Wait until the steps are played and stored.

        Raises:
            BaseException: the error of the thread.

        """
        if self._playing is not None:
            self._playing.result()

    def close(self) -> None:
        """End the thread after its call. Wait for it as long as one step may take, so that the envs can be closed."""
        self._worker.stop()
        if self._playing is not None:
            wait([self._playing], timeout=CLOSE_SECONDS)
