import re
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from lit_dqn.errors import ConfigError
from lit_dqn.replay import check_fits, memory
from lit_dqn.replay.layout import replay_bytes
from lit_dqn.replay.memory import RESERVE, available_bytes

MACHINE = 64 * 2**30


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=MACHINE))


def write_v2(folder, limit, current, inactive_file=0):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{current}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {inactive_file}\nactive_file 7\n")


def test_without_a_cgroup_the_machine_is_the_limit(tmp_path):
    assert available_bytes(tmp_path, "/") == MACHINE
    assert available_bytes(tmp_path / "missing", "/user.slice/app.scope") == MACHINE


def test_the_limit_of_the_own_cgroup_counts_less_what_is_used(tmp_path):
    write_v2(tmp_path / "user.slice" / "app.scope", limit=1000, current=400)
    assert available_bytes(tmp_path, "/user.slice/app.scope") == 600


@pytest.mark.parametrize("folder", [".", "user.slice", "user.slice/1000.slice"])
def test_a_limit_in_any_parent_folder_counts(tmp_path, folder):
    write_v2(tmp_path / "user.slice" / "1000.slice" / "app.scope", limit="max", current=400)
    write_v2(tmp_path / folder, limit=1000, current=900)
    assert available_bytes(tmp_path, "/user.slice/1000.slice/app.scope") == 100


def test_the_smallest_of_several_limits_counts(tmp_path):
    write_v2(tmp_path / "a" / "b", limit=5000, current=10)
    write_v2(tmp_path / "a", limit=1000, current=10)
    write_v2(tmp_path, limit=3000, current=10)
    assert available_bytes(tmp_path, "/a/b") == 990


def test_the_limit_of_another_cgroup_does_not_count(tmp_path):
    write_v2(tmp_path / "other", limit=1000, current=10)
    assert available_bytes(tmp_path, "/own") == MACHINE


def test_max_is_no_limit(tmp_path):
    write_v2(tmp_path, limit="max", current=400)
    assert available_bytes(tmp_path, "/") == MACHINE


def test_a_limit_above_the_machine_does_not_count(tmp_path):
    write_v2(tmp_path, limit=2 * MACHINE, current=0)
    assert available_bytes(tmp_path, "/") == MACHINE


def test_cached_files_can_be_given_up_for_the_replay(tmp_path):
    write_v2(tmp_path, limit=1000, current=900, inactive_file=300)
    assert available_bytes(tmp_path, "/") == 400


def test_a_cgroup_over_its_limit_leaves_nothing(tmp_path):
    write_v2(tmp_path, limit=1000, current=1200)
    assert available_bytes(tmp_path, "/") == 0


def test_a_limit_of_version_1_counts(tmp_path):
    folder = tmp_path / "memory"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text("1000\n")
    (folder / "memory.usage_in_bytes").write_text("700\n")
    (folder / "memory.stat").write_text("cache 5\ninactive_file 50\n")
    assert available_bytes(tmp_path, "/") == 350


def test_a_limit_counts_where_the_kernel_tells_no_statistics(tmp_path):
    write_v2(tmp_path, limit=1000, current=400)
    (tmp_path / "memory.stat").unlink()
    assert available_bytes(tmp_path, "/") == 600


def test_this_process_has_some_memory_left():
    assert 0 < available_bytes() <= MACHINE


def required(capacity):
    return replay_bytes(capacity, 8, (84, 84), np.uint8, n_step=3, frame_stack=4)


def check(capacity):
    check_fits(capacity, required)


def refusal(capacity):
    with pytest.raises(ConfigError) as error:
        check(capacity)
    return str(error.value)


def test_what_fits_beside_the_reserve_passes_to_the_byte(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: required(10_000) + RESERVE)
    check(10_000)
    refusal(10_008)


def test_the_refusal_names_the_key_the_value_and_the_sum(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 2 * 2**30 + RESERVE)
    message = refusal(1_000_000)
    assert message.startswith("capacity: ")
    assert "1,000,000 timesteps" in message
    assert f"{required(1_000_000) / 2**30:.2f} GiB" in message
    assert "2.00 GiB are free" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("capacity", "free"), [(50_000, 10 * 2**20), (50_000, 100 * 2**20), (1_000_000, 3 * 2**30), (1_000_000, 6 * 2**30)]
)
def test_the_capacity_that_the_refusal_names_does_fit_and_is_nearly_the_largest(monkeypatch, free, capacity):
    monkeypatch.setattr(memory, "available_bytes", lambda: free + RESERVE)
    named = int(re.search(r"--data\.capacity (\d+)", refusal(capacity)).group(1))
    check(named)
    assert required(int(named * 1.05) + 16) > free


def test_where_nothing_fits_no_capacity_is_named(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: RESERVE / 2)
    assert "--data.capacity 0" not in refusal(1000)
