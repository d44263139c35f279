import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import connection, resource_tracker, util
from multiprocessing.process import BaseProcess
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.vector.async_vector_env import AsyncState
from numpy.typing import NDArray

from lit_dqn.errors import SIGNALS, ConfigError, TrainingError

ANSWER_SECONDS = 60.0
"""The longest time for one step or reset, in seconds."""

CLOSE_SECONDS = 5.0
"""The longest time for closing all envs together, in seconds."""

START_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
"""Forking this process, which has torch's threads, can hang the children. The fork server has no threads, and has
already imported the modules that each env would otherwise import and keep in memory. Windows has no fork server.
"""


def end_if_this_plays_an_env() -> None:
    """End this process if it was started to play an env, and imports the script that starts the run for that.

    A script without `if __name__ == "__main__":` would start another run here.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as multiprocessing itself finds out
        raise SystemExit(1)


def _undisturbed(make: Callable[[], gymnasium.Env]) -> gymnasium.Env:
    """Create an env in a process that ignores the signals that end the run: only the trainer handles them."""
    if multiprocessing.parent_process() is not None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    return make()


def _start_fork_server() -> None:
    # If the fork server ended, so would all envs. It inherits the signals blocked here, and so do its children; a
    # running one does not change. The resource tracker, which it would start, unblocks the signals, so it must be
    # started before.
    from multiprocessing import forkserver

    multiprocessing.get_context("forkserver").set_forkserver_preload(["lit_dqn.envs"])
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _kill(processes: Sequence[BaseProcess]) -> None:
    """End processes that ignore signals to end."""
    started = [process for process in processes if process.pid is not None]
    for process in started:
        process.kill()
    for process in started:
        process.join()


Stepped = tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]
"""Observations, rewards, terminated, truncated and infos of a step."""


class ProcessVec(AsyncVectorEnv):
    """Envs in separate processes that never reset themselves.

    Args:
        env_id: for messages.
        makes: functions that create one env each.
        first_env: the number of the first env over the whole run, for messages.

    Raises:
        ConfigError: if an env cannot be created in a separate process.

    """

    def __init__(self, env_id: str, makes: Sequence[Callable[[], gymnasium.Env]], first_env: int = 0) -> None:
        self.env_id = env_id
        self.first_env = first_env
        self._steps = 0
        self.processes = []
        if START_METHOD == "forkserver":
            _start_fork_server()
        try:
            super().__init__(
                [partial(_undisturbed, make) for make in makes],
                autoreset_mode=AutoresetMode.DISABLED,
                context=START_METHOD,
            )
        except BaseException as error:
            self.closed = True
            _kill(self.processes)
            if not isinstance(error, EOFError | ConnectionError):
                raise
            raise ConfigError(
                f"env_processes: {env_id!r} cannot be made in a process of its own, though it can in this one; if a "
                "script registers it, write module:id; if a script starts the run, let it do so after if __name__ == "
                "'__main__': only; else set --data.env_processes false."
            ) from error
        # If nobody closes them, the interpreter asks them to end when it exits, which they ignore, and waits.
        self._end_with_this_process = util.Finalize(self, _kill, args=(self.processes,), exitpriority=1)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """As Gymnasium's.

        Raises:
            TrainingError: if an env has died or does not answer.

        """
        answer: tuple[Any, dict[str, Any]] = self._answer(
            "reset", self.reset_async, self.reset_wait, seed=seed, options=options
        )
        return answer

    def step(self, actions: Any) -> Stepped:
        """As Gymnasium's.

        Raises:
            TrainingError: if an env has died or does not answer.

        """
        self._steps += 1
        answer: Stepped = self._answer("step", self.step_async, self.step_wait, actions=actions)
        return answer

    def _answer(self, verb: str, ask: Callable[..., Any], wait: Callable[..., Any], **arguments: Any) -> Any:
        try:
            ask(**arguments)
            self._await_answers()
            return wait()
        except (EOFError, OSError, TimeoutError) as error:
            if None in self.parent_pipes:
                raise  # an env raised it, not the pipe
            for process in self.processes:
                process.join(0.1)  # the end of a process is noticed with a delay
            dead = [index for index, process in enumerate(self.processes) if not process.is_alive()]
            self.close(terminate=True)
            which = f"env {self.first_env + dead[0]}" if dead else f"one of the {self.num_envs} envs"
            reason = "its process was ended from outside" if dead else f"no answer within {ANSWER_SECONDS:g} s"
            raise TrainingError(
                f"env_id: {which} of {self.env_id} failed in {verb} {self._steps:,}: {reason}."
            ) from error

    def _await_answers(self) -> None:
        """Wait for answers, and notice dead processes, which Gymnasium does not."""
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

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """Let the envs close themselves, and kill the processes of those that do not.

        Gymnasium's own method waits endlessly if a process is dead or its env is in the middle of a step.

        Args:
            timeout: in seconds.
            terminate: kill them without asking.

        """
        pipes = [pipe for pipe in self.parent_pipes if pipe is not None]
        if not terminate:
            for pipe in pipes:
                with contextlib.suppress(OSError):  # its process is dead
                    pipe.send(("close", None))
            deadline = time.monotonic() + (CLOSE_SECONDS if timeout is None else timeout)
            for process in self.processes:
                process.join(max(deadline - time.monotonic(), 0))
        self._end_with_this_process()
        for pipe in pipes:
            pipe.close()
        self._state = AsyncState.DEFAULT
