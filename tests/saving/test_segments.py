import numpy as np
import pytest
import torch

from helpers import make_agent
from lit_dqn.replay import ReplayBuffer
from lit_dqn.saving import sidecar_writer
from lit_dqn.saving.io import ReplayCheckpointIO
from lit_dqn.saving.segments import ROW_ARRAYS, START_ARRAYS
from lit_dqn.saving.sidecar import Sidecar
from lit_dqn.saving.sidecar_writer import SidecarWriter
from lit_dqn.types import Timestep


def make_replay(num_envs: int, n_step: int, capacity: int = 120) -> ReplayBuffer:
    return ReplayBuffer(capacity, num_envs, (3,), np.float32, gamma=0.9, n_step=n_step, frame_stack=2)


def feed(replay: ReplayBuffer, steps: int, dice: np.random.Generator) -> None:
    envs = replay.num_envs
    for _ in range(steps):
        last = dice.random(envs) < 0.15
        frames = dice.random((2, envs, 3))
        replay.add(Timestep(frames[0], dice.integers(0, 4, envs), dice.random(envs), ~last, last, frames[1]))


def write(replay: ReplayBuffer, folder, previous: Sidecar | None = None, **rewritten: np.ndarray) -> Sidecar:
    state = replay.state_dict()
    arrays = {name: tensor.numpy() for name, tensor in state["arrays"].items()}
    settings = {"n_step": replay.n_step, "identity": state["identity"], "rewritten": rewritten, "previous": previous}
    return SidecarWriter(arrays, state["next_start"], **settings).write(folder)


def read(replay: ReplayBuffer, found: Sidecar) -> ReplayBuffer:
    other = make_replay(replay.num_envs, replay.n_step, replay.capacity)
    state = replay.state_dict()
    other.load_state_dict(state | {"arrays": {"head": state["arrays"]["head"]}, "sidecar": found})
    return other


def same(one: ReplayBuffer, other: ReplayBuffer) -> bool:
    arrays = [replay.state_dict()["arrays"] for replay in (one, other)]
    return one.starts == other.starts and all(np.array_equal(arrays[0][name], arrays[1][name]) for name in arrays[0])


def test_every_array_of_the_replay_is_in_the_sidecar_or_in_the_checkpoint():
    arrays = make_replay(2, 1).state_dict()["arrays"]
    assert {*ROW_ARRAYS, *START_ARRAYS, "head"} == set(arrays)
    assert all(arrays[name].shape[:2] == arrays["observation"].shape[:2] for name in ROW_ARRAYS)


DEFAULT = [((1, 1), 400), ((3, 1), 100), ((2, 4), 10**6)]
"""The other combinations are slow tests."""


@pytest.mark.parametrize(
    ("num_envs", "n_step", "segment_bytes"),
    [
        pytest.param(*envs, segment_bytes, marks=[] if (envs, segment_bytes) in DEFAULT else [pytest.mark.slow])
        for envs in ((1, 1), (3, 1), (2, 4))
        for segment_bytes in (100, 400, 10**6)
    ],
)
def test_what_is_linked_from_the_state_before_is_what_memory_holds(
    tmp_path, monkeypatch, num_envs, n_step, segment_bytes
):
    monkeypatch.setattr(sidecar_writer, "SEGMENT_BYTES", segment_bytes)
    dice, replay, previous = np.random.default_rng(n_step), make_replay(num_envs, n_step), None
    linked = 0
    for number in range(60):
        feed(replay, int(dice.choice([0, 1, 2, 7, 90])), dice)
        if number % 10 == 9:
            replay.cut_episodes(dice.random(num_envs) < 0.5)
        folder = tmp_path / str(number)
        previous = write(replay, folder, previous)
        assert same(replay, read(replay, Sidecar.open(folder, previous.manifest_crc32)))
        linked += sum(path.stat().st_nlink > 1 for path in folder.iterdir())
    assert linked > 100 or segment_bytes == 10**6


def test_a_resumed_run_links_segments_that_it_has_read_and_another_replay_does_not(tmp_path, monkeypatch):
    monkeypatch.setattr(sidecar_writer, "SEGMENT_BYTES", 100)
    dice, replay = np.random.default_rng(0), make_replay(1, 1)
    feed(replay, 60, dice)
    first = write(replay, tmp_path / "first")
    again = read(replay, first)
    feed(again, 3, dice)
    second = write(again, tmp_path / "second", first)
    assert same(again, read(again, second))
    assert sum(path.stat().st_nlink > 1 for path in (tmp_path / "second").iterdir()) > 10
    other = make_replay(1, 1)
    feed(other, 63, dice)
    third = write(other, tmp_path / "third", second)
    assert same(other, read(other, third))
    assert all(path.stat().st_nlink == 1 for path in (tmp_path / "third").iterdir())


def test_what_a_replay_held_before_it_took_over_another_state_is_forgotten(tmp_path, monkeypatch):
    """The rows that are not stored keep their old contents; a start number there would give up starts too soon."""
    monkeypatch.setattr(sidecar_writer, "SEGMENT_BYTES", 100)
    dice, replay, used = np.random.default_rng(0), make_replay(1, 1), make_replay(1, 1)
    feed(replay, 20, dice)
    feed(used, 500, dice)
    state = replay.state_dict()
    head, found = {"head": state["arrays"]["head"]}, write(replay, tmp_path / "first")
    used.load_state_dict(state | {"arrays": head, "sidecar": found})
    for step in range(300):
        for one in (replay, used):
            feed(one, 1, np.random.default_rng(step))
        assert used.starts == replay.starts


def test_a_file_to_link_that_was_truncated_or_removed_is_rewritten(tmp_path, monkeypatch):
    monkeypatch.setattr(sidecar_writer, "SEGMENT_BYTES", 100)
    replay = make_replay(1, 1)
    feed(replay, 60, np.random.default_rng(0))
    first = write(replay, tmp_path / "first")
    names = sorted(first.contents)
    (tmp_path / "first" / names[0]).unlink()
    (tmp_path / "first" / names[1]).write_bytes(b"")
    second = write(replay, tmp_path / "second", first)
    second.verify()
    assert same(replay, read(replay, second))


def test_a_segment_that_is_damaged_is_named(tmp_path):
    replay = make_replay(2, 1)
    feed(replay, 30, np.random.default_rng(0))
    found = write(replay, tmp_path / "first")
    path = tmp_path / "first/env_1_row_0"
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(content)
    with pytest.raises(OSError, match="env_1_row_0 was changed"):
        found.verify()
    with pytest.raises(OSError, match="env_1_row_0 is damaged"):
        read(replay, found)


# --- rewritten arrays ---


def write_priorities(tmp_path, *priorities: np.ndarray) -> list[Sidecar]:
    """The same replay, saved once with each."""
    replay, written = make_replay(1, 1), [None]
    feed(replay, 60, np.random.default_rng(0))
    for number, priority in enumerate(priorities):
        written.append(write(replay, tmp_path / str(number), written[-1], priority=priority))
    return written[1:]


def test_a_rewritten_array_is_rewritten_while_the_rest_is_linked(tmp_path, monkeypatch):
    monkeypatch.setattr(sidecar_writer, "SEGMENT_BYTES", 100)
    ones, twos = np.ones((120, 2), np.float32), np.full((120, 2), 2, np.float32)
    for found, expected in zip(write_priorities(tmp_path, ones, twos), (ones, twos), strict=True):
        priority, arrays = np.zeros((120, 2), np.float32), make_replay(1, 1).state_dict()["arrays"]
        again = Sidecar.open(found.folder, found.manifest_crc32)
        again.verify()
        again.read_into({**{name: tensor.numpy() for name, tensor in arrays.items()}, "priority": priority})
        assert np.array_equal(priority, expected)
    links = {path.name: path.stat().st_nlink for path in (tmp_path / "1").iterdir()}
    assert (links["env_0_row_0"], links["rewritten_priority"]) == (2, 1)


def test_a_rewritten_array_of_another_kind_is_refused_and_one_that_nobody_wants_stays(tmp_path):
    (found,) = write_priorities(tmp_path, np.ones(120, np.float32))
    arrays = {name: tensor.numpy() for name, tensor in make_replay(1, 1).state_dict()["arrays"].items()}
    for priority in (np.zeros(60, np.float32), np.zeros(120)):
        with pytest.raises(ValueError, match=r"priority is float.* here, and float32 \(120,\) there"):
            found.read_into({**arrays, "priority": priority})
    found.read_into({**arrays, "another": np.zeros(3)})


@pytest.mark.parametrize(
    "bad",
    [
        np.full(120, np.nan, np.float32),
        np.array([1, -np.inf]),
        np.array([np.inf], np.float16),
        np.array([2], np.uint8).view(np.bool_),
    ],
)
def test_a_rewritten_array_of_what_is_no_number_is_refused(tmp_path, bad):
    (found,) = write_priorities(tmp_path, bad)
    with pytest.raises(OSError, match="rewritten_priority is damaged: its priority is out of range"):
        found.verify()


def test_a_rewritten_array_goes_through_a_checkpoint(tmp_path):
    replay = make_replay(1, 1)
    feed(replay, 60, np.random.default_rng(0))
    state = replay.state_dict() | {"rewritten": {"priority": torch.arange(120.0)}}
    agent, path = make_agent(), tmp_path / "last.ckpt"
    hyper_parameters = {"observation_shape": [4], "num_actions": 4}
    checkpoint = {"state_dict": agent.state_dict(), "env_step": 0, "hyper_parameters": hyper_parameters}
    ReplayCheckpointIO().save_checkpoint(checkpoint | {"ReplayDataModule": {"replay": state}}, path)
    assert path.stat().st_size < 10_000
    found = ReplayCheckpointIO().load_checkpoint(path)["ReplayDataModule"]["replay"]["sidecar"]
    assert found.rewritten == {"priority": ("float32", (120,))}
    assert (tmp_path / "last.replay/rewritten_priority").read_bytes() == np.arange(120, dtype=np.float32).tobytes()
