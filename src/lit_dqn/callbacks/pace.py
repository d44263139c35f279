"""How fast a run goes, and when it will reach its limits."""

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
    """What a run has left to each of its limits; None where there is no such limit."""

    env_steps: float | None = None
    updates: float | None = None
    episodes: float | None = None
    seconds: float | None = None


class _Sample(NamedTuple):
    seconds: float  # of training
    env_step: float
    update: float


class Pace:
    """The speed of the last half minute of training, and the time that a run has left.

    Its clock stands still while evaluations are played, so that they do not pass for slow training; the time left
    counts them in, as far as they took a share of the time until now.

    Args:
        clock: seconds.

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
        """Whether it is time for the next sample."""
        return not self._samples or self._training_clock() - self._samples[-1].seconds >= LEAST_SECONDS

    def note(self, env_step: float, update: float) -> None:
        """Take a sample."""
        now = self._training_clock()
        if self._first is None:
            self._first = now
        self._samples.append(_Sample(now, env_step, update))
        # Those that are left reach back over the whole window.
        while len(self._samples) > 2 and now - self._samples[1].seconds >= WINDOW_SECONDS:
            self._samples.popleft()

    def evaluation_begins(self) -> None:
        """The clock of training stops."""
        self._evaluating_since = self._clock()

    def evaluation_ends(self) -> None:
        """Start the clock of training again, if it stands."""
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
        """Env steps and updates per second of training; 0 while they are not known."""
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
        """Wall time to the limit that will be reached first; None while it cannot be told.

        Args:
            left: to each limit.
            lengths: of the last episodes, in env steps, the newest last. The mean over the run would tell of a time
                when the agent knew less: while it learns, episodes become ten times as short, or as long.

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
        # What is left of an allowance of time needs no speed, and evaluations are in it.
        ends = [training / max(self._share_of_training, 1e-3) for training in seconds]
        if left.seconds is not None:
            ends.append(left.seconds)
        return min(ends, default=None)


def typical_length(lengths: Sequence[int]) -> float | None:
    """Env steps of the episodes to come; None before ten have ended.

    It is the geometric mean of the last five, which follows at once where episodes get shorter, but no more than the
    median of the last twenty, which waits until an agent that has lost its way is over it.
    """
    if len(lengths) < LEAST_EPISODES:
        return None
    return min(statistics.geometric_mean(lengths[-5:]), statistics.median(lengths[-20:]))
