"""A place without Ray: actors on threads, which share nothing with the recorder, and die on request."""

import itertools
import pickle
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

import gymnasium
import numpy as np

from lit_dqn.playing.actor import Actor, PlayerSpec
from lit_dqn.playing.places import ActorLost, Place
from lit_dqn.worker import Worker

STROLL = "stand_in:lit_dqn_tests/Stroll-v0"
_nonces = itertools.count()


class Stroll(gymnasium.Env):
    """Shows (nonce, episode's own number, t, action), pays at random, and ends, loses a life or continues at random.

    Args:
        comes_back: whether an episode is a function of its seed and actions; else its nonce is of this env alone.

    """

    observation_space = gymnasium.spaces.Box(0, 2**20, (4,), np.float32)
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, comes_back: bool = True) -> None:
        self.nonce = 0 if comes_back else next(_nonces)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.number, self.t = int(self.np_random.integers(2**20)), 0
        return self.observe(0), {}

    def step(self, action):
        self.t += 1
        terminated, truncated, life_lost = (self.np_random.random(3) < 0.06).tolist()
        reward = float(self.np_random.normal()) + int(action)
        return self.observe(action), reward, terminated, truncated, {"life_lost": life_lost}

    def observe(self, action):
        return np.array([self.nonce, self.number, self.t, action], np.float32)


gymnasium.register("lit_dqn_tests/Stroll-v0", Stroll, disable_env_checker=True)


def nobody(actor: int, chunk: float) -> bool:
    """Dies."""
    return False


class ThreadPlace(Place):
    """Plays on threads.

    Args:
        actors: as of every place.
        envs_per_player: likewise.
        dies: asked with (actor, number of its chunk over all its lives) before and after each: True ends its life.

    """

    def __init__(self, actors: int, envs_per_player: int, dies: Callable[[int, float], bool] = nobody) -> None:
        super().__init__(actors, envs_per_player)
        self._dies = dies

    def check(self) -> None:
        """Threads are always there."""

    def begin(self, spec: PlayerSpec) -> "ThreadActors":
        return ThreadActors(self.actors, pickle.dumps(spec), self._dies)


class FreePlace(ThreadPlace):
    """Likewise, but they play on by themselves, some faster than others, and no run is the same twice.

    Args:
        seconds: that the chunks of actor a take, of a place `a`; of the others none.

    """

    def __init__(
        self,
        actors: int,
        envs_per_player: int,
        asynchronous: bool = True,
        slack: int = 2,
        max_staleness: int = 6,
        seconds: Sequence[float] = (),
        dies: Callable[[int, float], bool] = nobody,
    ) -> None:
        super().__init__(actors, envs_per_player, dies)
        self._play_on(asynchronous, slack, max_staleness)
        self._seconds = seconds

    def begin(self, spec: PlayerSpec) -> "ThreadActors":
        return ThreadActors(self.actors, pickle.dumps(spec), self._dies, self._seconds)


class ThreadActors:
    """What is asked, and what is answered, is pickled on its way."""

    def __init__(
        self, count: int, spec: bytes, dies: Callable[[int, float], bool], seconds: Sequence[float] = ()
    ) -> None:
        self._spec, self._dies, self._seconds = spec, dies, [*seconds, *[0.0] * count]
        self._workers = [Worker() for _ in range(count)]
        self._lives: Counter[int] = Counter()
        self._chunks: Counter[int] = Counter()
        self._actors: dict[tuple[int, int], Actor | None] = {}
        self.closed = False

    def put(self, value: Any) -> Any:
        return Stored(pickle.dumps(value))

    def ask(self, actor: int, method: str, *arguments: Any) -> Any:
        life, asked = self._lives[actor], pickle.dumps((method, arguments))
        return self._workers[actor](lambda: self._call(actor, life, asked))

    def _call(self, actor: int, life: int, asked: bytes) -> bytes:
        if (actor, life) not in self._actors:
            self._actors[actor, life] = Actor(pickle.loads(self._spec))
        lives = self._actors[actor, life]
        if lives is None:
            raise ActorLost("it is dead")
        method, arguments = pickle.loads(asked)
        arguments = [pickle.loads(value.bytes) if isinstance(value, Stored) else value for value in arguments]
        is_chunk = method == "play"
        chunk = self._chunks[actor]
        self._chunks[actor] += is_chunk
        if is_chunk and self._dies(actor, chunk):
            self._die(actor, life)
        answer = pickle.dumps(getattr(lives, method)(*arguments))
        if is_chunk:
            time.sleep(self._seconds[actor])
        if is_chunk and self._dies(actor, chunk + 0.5):  # what it has played is lost with it
            self._die(actor, life)
        return answer

    def _die(self, actor: int, life: int) -> None:
        self._actors[actor, life] = None
        raise ActorLost("it was killed")

    def arrived(self, calls: Sequence[Future[bytes]], wait_for_one: bool) -> list[int]:
        if wait_for_one and calls:
            wait(calls, return_when=FIRST_COMPLETED)
        return [place for place, call in enumerate(calls) if call.done()]

    def answer(self, call: Any) -> Any:
        return pickle.loads(call.result())

    def begin_again(self, actor: int) -> None:
        self._lives[actor] += 1

    def close(self) -> None:
        self.closed = True
        for worker in self._workers:
            worker.stop()


class Stored:
    """What `put` gives."""

    def __init__(self, stored: bytes) -> None:
        self.bytes = stored
