"""What cannot be a run ends all of its processes at once, each with one sentence and exit code 2."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from lit_dqn.commands.inputs import say_error
from lit_dqn.errors import ConfigError
from prove_scale import Forked, environment

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")

CONFIG = f"--config={Path(__file__).parents[2] / 'configs/cartpole.yaml'}"
TWO = ["--data.shards=4", "--trainer.strategy=ddp", "--trainer.devices=2"]
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "LOCAL_WORLD_SIZE": 2, "TORCHELASTIC_USE_AGENT_STORE": "False"}
SECONDS = 120
"""On a crowded machine; they would wait for each other for five minutes."""


def hide(package):
    """Let this process be one of a machine without a package."""

    class Hidden:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == package:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        del sys.modules[name]
    sys.meta_path.insert(0, Hidden())


def ends(folder, commands, variables=None, enter=None):
    """The exit code and the last line of each process, each of which is begun by itself as by a launcher."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free.getsockname()[1]}
    processes, began = [], time.monotonic()
    for rank, words in enumerate(commands):
        own = {"WORLD_SIZE": len(commands), "NODE_RANK": 0, "RANK": rank, "LOCAL_RANK": rank, **(variables or {})}
        first = (enter or {}).get(rank, lambda: None)
        processes.append(Forked(["fit", CONFIG, *words], folder, str(rank), environment(**own, **address), first))
    try:
        codes = [process.wait(max(began + SECONDS - time.monotonic(), 0.1)) for process in processes]
    except subprocess.TimeoutExpired:
        codes = [process.poll() for process in processes]
    finally:
        for process in processes:
            process.kill()
    said = [(folder / f"{rank}.txt").read_text().splitlines() for rank in range(len(commands))]
    return codes, [[line for line in lines if line.startswith("error: ")] for lines in said]


@pytest.mark.parametrize(
    ("words", "sentence", "variables"),
    [
        (["--data.shards=1", *TWO[1:]], "trainer.devices: 2 processes cannot share 1 shard", {}),
        pytest.param([*TWO, "--data.num_envs=6"], "num_envs: 6", {}, marks=pytest.mark.slow),
        pytest.param([*TWO, "--trainer.devices=1"], "WORLD_SIZE: 2 processes were started", {}, marks=pytest.mark.slow),
        ([*TWO, "--trainer.devices=1", "--trainer.num_nodes=2"], "and torchrun has started 2 processes", TORCHRUN),
        pytest.param([*TWO, "--data.place=RayActors"], "place: RayActors plays for one", {}, marks=pytest.mark.slow),
    ],
)
def test_what_all_refuse_they_all_say_and_nobody_waits(tmp_path, words, sentence, variables):
    codes, said = ends(tmp_path, [words, words], variables)
    assert codes == [2, 2], said
    assert [len(lines) for lines in said] == [1, 1], said
    assert all(sentence in line for (line,) in said), said
    assert not (tmp_path / "lightning_logs").exists()


@pytest.mark.parametrize("other", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_what_one_process_refuses_ends_the_others_with_its_sentence(tmp_path, other):
    pytest.importorskip("ale_py")
    words = [*TWO, "--data.env_id=ALE/Pong-v5", "--data.num_envs=4", "--model.network=lit_dqn.NatureCNN"]
    words = [*words, "--data.frame_stack=4", "--data.capacity=1600", "--data.min_replay_size=400"]
    codes, said = ends(tmp_path, [words, words], enter={other: lambda: hide("ale_py")})
    assert codes == [2, 2], said
    assert said[0] == said[1]
    assert len(said[0]) == 1
    assert "ale" in said[0][0]
    assert not (tmp_path / "lightning_logs").exists()


def test_different_settings_of_two_processes_are_refused_by_both(tmp_path):
    words = [*TWO, "--data.capacity=1600", "--data.min_replay_size=400"]
    codes, said = ends(tmp_path, [words, [*words, "--data.gamma=0.9"]])
    assert codes == [2, 2], said
    assert said[0] == said[1]
    assert said[0][0].startswith("error: data.gamma: process 0 of this run has 0.99 and process 1 has 0.9; start all")
    assert not (tmp_path / "lightning_logs").exists()


def test_torchrun_repeats_the_sentence_in_its_last_lines(tmp_path, monkeypatch, capfd):
    file = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(file))
    say_error(ConfigError("shards: 3 is not a power of two; set --data.shards 2."))
    failure = ProcessFailure(local_rank=0, pid=1, exitcode=2, error_file=str(file))
    assert "\n  traceback : shards: 3 is not a power" in ChildFailedError("lit_dqn", {0: failure}).format_msg()
    assert capfd.readouterr().err.startswith("error: shards: 3 is not a power of two; set")
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "none" / "error.json"))
    say_error(ConfigError("shards: 3 is not a power of two."))
