import pickle
import shutil
from pathlib import Path

import pytest
import torch

FIXTURE = Path(__file__).parent.parent / "fixtures/cartpole_0.1.0"
EVIL = "open('pwned', 'w').close()\n"
SPECIFICATION = "{class_path: os.system, init_args: {command: touch pwned}}"


class Pickled:
    """Makes the file when it is read."""

    def __reduce__(self):
        return open, ("pwned", "w")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The current folder: what a stranger has packed: a run, and modules that `python -m` would find."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    shutil.copytree(FIXTURE, tmp_path / "run")
    for module in ("stranger", "étranger"):
        (tmp_path / f"{module}.py").write_text(f"{EVIL}make = Agent = dict\n")
    (tmp_path / "hubconf.py").write_text(f"{EVIL}pwn = dict\n")
    (tmp_path / "settings.yaml").write_text(SPECIFICATION)
    (tmp_path / "settings").write_text(SPECIFICATION)
    (tmp_path / "kwargs.yaml").write_text(f"a: {SPECIFICATION}")
    (tmp_path / "wrappers.txt").write_text("stranger.make\n")
    with (tmp_path / "pickle.pt").open("wb") as file:
        pickle.dump(Pickled(), file)
    return tmp_path


@pytest.fixture
def checkpoint(folder) -> Path:
    """The checkpoint of the run."""
    return folder / "run/checkpoints/last.ckpt"


@pytest.fixture
def change(checkpoint):
    """Write a value into the checkpoint, at a dotted path; `...` takes it away."""

    def change(at: str, value: object) -> None:
        contents = torch.load(checkpoint, weights_only=True)
        *names, last = [
            int(name) if name.lstrip("-").isdigit() else name for name in at.split("/" if "/" in at else ".")
        ]
        place = contents
        for name in names:
            place = place[name]
        if value is ...:
            del place[last]
        else:
            place[last] = value
        torch.save(contents, checkpoint)

    return change
