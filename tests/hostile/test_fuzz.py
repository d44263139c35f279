"""Whatever is changed in a checkpoint or its manifest: it is refused in one sentence, or it works."""

import copy
import json
import random
import shutil
import signal
import time
import warnings
import zlib
from pathlib import Path

import pytest
import torch

from helpers import CARTPOLE, run, tiny, verify_checkpoint
from lit_dqn import ConfigError, load_agent

SMALL = "--model.network.init_args.hidden_sizes=[8]"
NASTY = [
    None,
    True,
    -1,
    0,
    1,
    7,
    2**31,
    2**63,
    2**70,
    -(2**63),
    0.5,
    1e308,
    float("nan"),
    float("-inf"),
    "",
    "..",
    "name",
    "a.b",
    "x" * 5000,
    [],
    [[]],
    [1, 2],
    {},
    {"class_path": "os.system", "init_args": {"command": "touch pwned"}},
    {"a": 1},
    torch.zeros(()),
    torch.zeros(0),
    torch.ones(3, dtype=torch.int64),
    torch.full((8, 4), torch.nan),
    torch.zeros(2, 3),
    torch.zeros(4, 8).T,
    torch.zeros(1).expand(2**20),
    torch.zeros(8, dtype=torch.uint8),
]
HANGS_AFTER = 60
LEAST = 10
"""Tries, however slow the machine is."""


def places(value: object, path: tuple = ()) -> list[tuple]:
    """Where something stands in nested containers; of long lists the first and the last."""
    found = [path] if path else []
    if isinstance(value, dict):
        for key, part in value.items():
            found += places(part, (*path, key))
    elif isinstance(value, list):
        for index in {0, len(value) - 1} if value else ():
            found += places(value[index], (*path, index))
    return found


def changed(tree: object, generator: random.Random) -> tuple[object, str]:
    """A copy with one place changed, and what it is."""
    tree = copy.deepcopy(tree)
    *names, last = path = generator.choice(places(tree))
    place = tree
    for name in names:
        place = place[name]
    if generator.random() < 0.25:
        del place[last]
        return tree, f"{path} is gone"
    old = place[last]
    choices = [*NASTY]
    if isinstance(old, int | float) and not isinstance(old, bool):
        choices += [old + 1, old - 1, -old, old * 1000] * 3
    if isinstance(old, torch.Tensor) and old.dim():
        choices += [old[:-1].clone(), old.double(), old.to(torch.int16), old * float("inf"), old.flip(0)] * 2
    if isinstance(old, list):
        choices += [old[:-1], [*old, *old[:1]]] * 3
    place[last] = generator.choice(choices)
    return tree, f"{path} = {str(place[last])[:80]}"


def fuzz(folder: Path, checkpoint: Path, monkeypatch, capsys, seed: int, seconds: float) -> tuple[int, int]:
    """(tries, those that were let through)."""
    generator = random.Random(seed)
    whole = torch.load(checkpoint, weights_only=True)
    sidecar = checkpoint.parent / "env_step_104.replay/manifest.json"
    manifest = json.loads(sidecar.read_text())
    tries = let_through = 0
    until = time.monotonic() + seconds
    while tries < LEAST or time.monotonic() < until:
        tries += 1
        contents, what = copy.deepcopy(whole), ""
        if generator.random() < 0.25:
            try:
                changed_manifest, what = changed(manifest, generator)
                text = json.dumps(changed_manifest).encode()
            except TypeError:
                continue  # no JSON
            sidecar.write_bytes(text)
            contents["ReplayDataModule"]["replay"]["manifest_crc32"] = zlib.crc32(text)
        else:
            sidecar.write_text(json.dumps(manifest))
            for _ in range(generator.choice([1, 1, 1, 2])):
                contents, one = changed(contents, generator)
                what += one + " "
        torch.save(contents, checkpoint)
        try:
            signal.alarm(HANGS_AFTER)
            said = ""
            try:
                verify_checkpoint(checkpoint)
                load_agent(checkpoint)
            except ConfigError as error:
                said = str(error)
            if said:
                assert "\n" not in said, what
                continue
            let_through += 1
            shutil.rmtree("lightning_logs", ignore_errors=True)
            resume = [*CARTPOLE, *tiny(**{"stop.max_env_steps": 150}), SMALL, "--ckpt_path=run/checkpoints/last.ckpt"]
            code = run(
                monkeypatch, "fit", *resume, "--trainer.logger=CSVLogger", "--trainer.logger.save_dir=lightning_logs"
            )
            assert code in (0, 2), what
            said = capsys.readouterr().err
            assert code == 0 or len([line for line in said.splitlines() if line.startswith("error: ")]) == 1, what
        except BaseException:
            print(f"seed {seed}, try {tries}: {what}")
            raise
        finally:
            signal.alarm(0)
            assert not (folder / "pwned").exists(), what
    return tries, let_through


@pytest.fixture(autouse=True)
def ends_when_it_hangs(monkeypatch):
    def hang(*_):
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, hang)
    yield
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("datamodule_hyper_parameters", "policy", "init_args"), torch.zeros(8, 4), "arguments"),
        (("random", "torch"), torch.zeros(5055, dtype=torch.uint8), "the state of torch's generator is invalid"),
    ],
)
def test_what_was_found_once(folder, checkpoint, monkeypatch, capsys, path, value, said):
    contents = torch.load(checkpoint)
    place = contents
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    torch.save(contents, checkpoint)
    resume = [*CARTPOLE, *tiny(**{"stop.max_env_steps": 150}), SMALL, "--ckpt_path=run/checkpoints/last.ckpt"]
    assert run(monkeypatch, "fit", *resume) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert said in line


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="there is no alarm")
def test_what_is_changed_is_refused_or_works(folder, checkpoint, monkeypatch, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fuzz(folder, checkpoint, monkeypatch, capsys, seed=0, seconds=6)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
def test_much_that_is_changed_is_refused_or_works(folder, checkpoint, monkeypatch, capsys, seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        print(fuzz(folder, checkpoint, monkeypatch, capsys, seed=seed, seconds=45))
