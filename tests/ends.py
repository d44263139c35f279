"""Runs with `env_processes: true` that end in each way that a run can end, each in an interpreter that ends, too.

    python tests/ends.py FOLDER START_METHOD WAY...

Prints, for each way, the exit code, or "hangs", and what is left of its processes, as JSON. The runs are forked from
here, because importing takes longer than the whole run; a Python that was forked ends as any other.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
import psutil

PATIENCE = 240.0
"""Seconds that a run may take from its beginning to its end, on a busy machine."""

ENV = "ends:Ends-v0"


class Ends(gymnasium.Env):
    """Does what its argument says in its 20th step."""

    observation_space = gymnasium.spaces.Box(0, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, fault: str = "") -> None:
        self.fault = fault
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.np_random.random(2, np.float32), {}

    def step(self, action):
        self.t += 1
        self.steps += 1
        if self.steps == 20:
            if self.fault == "raise":
                raise FileNotFoundError("no such level")
            if self.fault == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fault == "hang":
                time.sleep(1000)
        return self.np_random.random(2, np.float32), 1.0, self.t == 10, False, {}


gymnasium.register("Ends-v0", Ends, disable_env_checker=True)

WAYS = ("limit", "SIGINT", "SIGINT twice", "SIGTERM", "SIGKILL", "NaN", "bug", "raise", "die", "hang", "test raises")


def run(way: str, start_method: str) -> None:
    """`lit-dqn` up to the end of this process."""
    from lit_dqn import LitDQN
    from lit_dqn.commands.cli import main
    from lit_dqn.envs import processes

    processes.START_METHOD = start_method
    processes.ANSWER_SECONDS = 10.0
    processes.CLOSE_SECONDS = 2.0
    training_step, calls = LitDQN.training_step, []

    def step(agent, chunk, batch_idx):
        calls.append(batch_idx)
        if len(calls) == 4:
            for _ in range(2 if "twice" in way else 1):
                if way.startswith("SIG"):
                    os.kill(os.getpid(), getattr(signal, way.split()[0]))
            if way == "NaN":
                agent.online[1].weight.data.fill_(float("nan"))
            if way == "bug":
                raise ZeroDivisionError("a bug")
        return training_step(agent, chunk, batch_idx)

    LitDQN.training_step = step
    verb = "test" if way.startswith("test") else "fit"
    fault = "raise" if verb == "test" else way if way in ("raise", "die", "hang") else ""
    settings = {
        "data.env_id": ENV,
        "data.env_kwargs": json.dumps({"fault": fault}),
        "data.env_processes": "true",
        "data.num_envs": 2,
        "data.eval_envs": 2,
        "data.capacity": 200,
        "data.min_replay_size": 20,
        "data.batch_size": 8,
        "data.gradient_steps": 2,
        "data.updates_per_epoch": 16,
        "data.eval_episodes": 6,
        "data.eval_max_steps": 10,
        "data.play_ahead": "true" if way in ("SIGINT twice", "die") else "false",
        "model.network": "lit_dqn.MLP",
        "model.network.hidden_sizes": "[8]",
        "model.optimizer": "torch.optim.Adam",
        "stop.max_env_steps": 80,
        "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": "false",
    }
    sys.argv = ["lit-dqn", verb, *(f"--{key}={value}" for key, value in settings.items())]
    main()


def end_of(way: str, start_method: str, folder: Path) -> dict:
    """The end of a run in a process of its own, with a session of its own."""
    child = os.fork()
    if child == 0:
        os.setsid()
        folder.mkdir()
        os.chdir(folder)
        output = os.open("output.txt", os.O_WRONLY | os.O_CREAT)
        for stream in (1, 2):
            os.dup2(output, stream)
        run(way, start_method)
        sys.exit(0)
    end: dict = {"code": "hangs"}
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            end["code"] = os.waitstatus_to_exitcode(status)
            break
        time.sleep(0.05)
    deadline = time.monotonic() + 10.0
    while (left := processes_of(child)) and time.monotonic() < deadline:
        time.sleep(0.05)
    end["left"] = [" ".join(process.cmdline()) for process in left]
    for process in left:
        process.kill()
    end["said"] = (folder / "output.txt").read_text()[-2000:]
    return end


def processes_of(session: int) -> list[psutil.Process]:
    """The processes of a session that are alive."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            pass
    return found


if __name__ == "__main__":
    folder, start_method, *ways = sys.argv[1:]
    import lit_dqn  # noqa: F401 - once for all

    ends = {way: end_of(way, start_method, Path(folder) / way.replace(" ", "_")) for way in ways}
    print(json.dumps(ends))
