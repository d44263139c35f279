import multiprocessing
import signal
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import connection, forkserver, resource_tracker
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.vector.async_vector_env import AsyncState
from numpy.typing import NDArray

from lit_dqn.errors import SIGNALS, TrainingError

ANSWER_SECONDS = 60.0
"""How long an env may take for one step or reset."""


def _undisturbed(make: Callable[[], gymnasium.Env]) -> gymnasium.Env:
    """Make an env whose process does not end by what ends the run: the trainer alone stops, in order."""
    if multiprocessing.parent_process() is not None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    return make()


def _start_fork_server() -> None:
    # Its end would be that of all envs. It inherits what is blocked here, and so does whatever it starts later. One
    # that runs already stays as it is. The resource tracker, which it would start, lets the signals through again, so
    # it must be there before.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class ProcessVec(AsyncVectorEnv):
    """Envs that each live in a process of their own, and never reset themselves.

    Args:
        env_id: for the sentences about it.
        make: makes one env.
        num_envs: how many.

    """

    def __init__(self, env_id: str, make: Callable[[], gymnasium.Env], num_envs: int) -> None:
        # Forking this process, which holds torch's threads, can hang the children. The fork server has none, and has
        # imported already what each env would otherwise import, and keep in memory, for itself.
        multiprocessing.get_context("forkserver").set_forkserver_preload(["lit_dqn.envs"])
        _start_fork_server()
        super().__init__(
            [partial(_undisturbed, make)] * num_envs, autoreset_mode=AutoresetMode.DISABLED, context="forkserver"
        )
        self.env_id = env_id
        self._steps = 0

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """As Gymnasium's.

        Raises:
            TrainingError: if an env has died or does not answer.

        """
        return self._answer("reset", self.reset_async, self.reset_wait, seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict]:
        """As Gymnasium's.

        Raises:
            TrainingError: if an env has died or does not answer.

        """
        self._steps += 1
        return self._answer("step", self.step_async, self.step_wait, actions=actions)

    def _answer(self, verb: str, ask: Callable[..., Any], wait: Callable[..., Any], **arguments: Any) -> Any:
        try:
            ask(**arguments)
            self._await_answers()
            return wait()
        except (EOFError, OSError, TimeoutError) as error:
            for process in self.processes:
                process.join(0.1)  # one that has just ended is not yet known to have
            dead = [index for index, process in enumerate(self.processes) if not process.is_alive()]
            for process in self.processes:
                process.kill()  # one that hangs does not end by itself
            self._state = AsyncState.DEFAULT  # nothing is to be waited for any more
            self.close(terminate=True)
            which = f"env {dead[0]}" if dead else "one"
            reason = "its process was ended from outside" if dead else f"no answer within {ANSWER_SECONDS:g} s"
            raise TrainingError(
                f"env_id: {which} of the {self.num_envs} envs of {self.env_id} failed in {verb} {self._steps:,}: "
                f"{reason}."
            ) from error

    def _await_answers(self) -> None:
        """Gymnasium's own waiting does not see that a process has died."""
        deadline = time.monotonic() + ANSWER_SECONDS
        waiting = {pipe: process for pipe, process in zip(self.parent_pipes, self.processes, strict=True)}
        while waiting:
            sentinels = {process.sentinel for process in waiting.values()}
            ready = connection.wait([*waiting, *sentinels], timeout=max(deadline - time.monotonic(), 0))
            if not ready:
                raise TimeoutError
            answered = [pipe for pipe in waiting if pipe in ready]
            if not answered:
                raise ConnectionError
            for pipe in answered:
                del waiting[pipe]
