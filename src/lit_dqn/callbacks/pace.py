"""The speed of a run, and when it will reach its limits."""

import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

WINDOW_SECONDS = 30.0
LEAST_SECONDS = 0.25
"""Seconds of training between two samples."""

LEAST_EPISODES = 10


class Left(NamedTuple):
    """What remains to each limit of a run; None if there is no such limit."""

    env_steps: float | None = None
    updates: float | None = None
    episodes: float | None = None
    seconds: float | None = None


class _Sample(NamedTuple):
    seconds: float  # of training
    env_step: float
    update: float


class Pace:
    """The speed of the last half minute of training, and the time left.

    Its clock stops during evaluations, so that they do not count as slow training; the time left includes their share
    of the time so far.

    Args:
        clock: returns seconds.

    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.begin()

    def begin(self) -> None:
        """A session of training begins."""
        self._samples: deque[_Sample] = deque()
        self._first: float | None = None
        self._evaluating_since: float | None = None
        self._evaluated = 0.0  # seconds
        self._share_of_training = 1.0

    @property
    def due(self) -> bool:
        """Whether the next sample is due."""
        return not self._samples or self._training_clock() - self._samples[-1].seconds >= LEAST_SECONDS

    def note(self, env_step: float, update: float) -> None:
        """Take a sample."""
        now = self._training_clock()
        if self._first is None:
            self._first = now
        self._samples.append(_Sample(now, env_step, update))
        # The remaining samples cover the whole window.
        while len(self._samples) > 2 and now - self._samples[1].seconds >= WINDOW_SECONDS:
            self._samples.popleft()

    def evaluation_begins(self) -> None:
        """Stop the clock of training."""
        self._evaluating_since = self._clock()

    def evaluation_ends(self) -> None:
        """Start the clock of training again, if it is stopped."""
        if self._evaluating_since is None:
            return
        self._evaluated += self._clock() - self._evaluating_since
        self._evaluating_since = None
        if self._first is not None:
            training = self._training_clock() - self._first
            self._share_of_training = training / max(training + self._evaluated, 1e-9)

    def _training_clock(self) -> float:
        now = self._clock() if self._evaluating_since is None else self._evaluating_since
        return now - self._evaluated

    def _rates(self) -> tuple[float, float]:
        """Env steps and updates per second of training; 0 while unknown."""
        if len(self._samples) < 2:
            return 0.0, 0.0
        first, last = self._samples[0], self._samples[-1]
        seconds = max(last.seconds - first.seconds, 1e-9)
        return (last.env_step - first.env_step) / seconds, (last.update - first.update) / seconds

    @property
    def env_steps_per_second(self) -> float:
        """Over the last half minute of training."""
        return self._rates()[0]

    def seconds_left(self, left: Left, lengths: Sequence[int] = ()) -> float | None:
        """Wall time to the first limit; None while unknown.

        Args:
            left: what remains to each limit.
            lengths: of the last episodes, in env steps, the newest last. The mean over the whole run would be outdated:
                during learning, episodes can become ten times as short, or as long.

        """
        env_steps_per_second, updates_per_second = self._rates()
        seconds = []
        if left.env_steps is not None and env_steps_per_second:
            seconds.append(left.env_steps / env_steps_per_second)
        if left.updates is not None and updates_per_second:
            seconds.append(left.updates / updates_per_second)
        length = typical_length(lengths)
        if left.episodes is not None and env_steps_per_second and length is not None:
            seconds.append(left.episodes * length / env_steps_per_second)
        # The rest of a time limit needs no speed, and includes evaluations.
        ends = [training / max(self._share_of_training, 1e-3) for training in seconds]
        if left.seconds is not None:
            ends.append(left.seconds)
        return min(ends, default=None)


def typical_length(lengths: Sequence[int]) -> float | None:
    """Expected env steps of the next episodes; None before ten have ended.

    The geometric mean of the last five, which reacts at once when episodes get shorter, but at most the median of the
    last twenty, which ignores a few long episodes of an agent that is lost.
    """
    if len(lengths) < LEAST_EPISODES:
        return None
    return min(statistics.geometric_mean(lengths[-5:]), statistics.median(lengths[-20:]))
