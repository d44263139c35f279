"""Minari data sets as Minari itself writes them; skipped where it is not installed."""

import json
import sys

import numpy as np
import pytest
from gymnasium import spaces

from audit import AUDIT_ENV
from helpers import make_agent, make_data
from lit_dqn import ConfigError, MinariEpisodes, UniformRandom

ENDS = {"terminated": (True, False), "truncated": (False, True), "both": (True, True), "stopped": (False, False)}
EPISODES = [(5, "terminated"), (3, "truncated"), (4, "both"), (7, "stopped"), (2, "terminated"), (6, "truncated")]
STEPS = sum(steps for steps, _ in EPISODES)


def write(folder, observation_space=None, action_space=None, change=lambda number, episode: episode):
    """A data set whose observations say (9, episode, step), rewards 10 episode + step, and actions step modulo 4."""
    pytest.importorskip("minari")
    from minari.data_collector.episode_buffer import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    data = folder / "audit/test-v0/data"
    data.mkdir(parents=True)
    seen = observation_space or spaces.Box(0, 2**20, (3,), np.float32)
    storage = MinariStorage.new(data, seen, action_space or spaces.Discrete(4, start=2))
    buffers = []
    for number, (steps, end) in enumerate(EPISODES):
        flags = np.zeros((steps, 2), bool)
        flags[-1] = ENDS[end]
        episode = {
            "observations": [np.array([9, number, step], np.float32) for step in range(steps + 1)],
            "actions": [2 + step % 4 for step in range(steps)],
            "rewards": [10.0 * number + step for step in range(steps)],
            "terminations": flags[:, 0].tolist(),
            "truncations": flags[:, 1].tolist(),
        }
        buffers.append(EpisodeBuffer(**change(number, episode)))
    storage.update_episodes(buffers)
    storage.update_metadata({"dataset_id": "audit/test-v0", "minari_version": "0.5.4"})
    return MinariEpisodes("audit/test-v0", str(folder))


def filled(prefill, **settings):
    defaults = {"env_id": AUDIT_ENV, "capacity": 200, "min_replay_size": 20, "env_steps_per_update": 6}
    data = make_data(prefill=[prefill], **(defaults | settings))
    data.setup("fit")
    data.fill(data.store)
    return data


def expected(cuts, n_step, gamma):
    """(episode, step) -> return, discount and end of its window, of all timesteps of the data set."""
    ends = {}
    for number, (steps, end) in enumerate(EPISODES):
        for step in range(steps):
            total, discount, now = 0.0, 1.0, step
            for _ in range(n_step):
                total += discount * (10 * number + now)
                last = now == steps - 1
                discount *= 0 if last and ENDS[end][0] else gamma
                now += 1
                if last or (number, now - 1) in cuts:
                    break
            ends[number, step] = total, discount, now
    return ends


PLACES = [(number, step) for number, (steps, _) in enumerate(EPISODES) for step in range(steps)]


@pytest.mark.parametrize("num_envs", [1, 2, 3])
@pytest.mark.parametrize(("n_step", "frame_stack"), [(1, 1), (3, 2)])
def test_each_transition_is_that_of_the_data_set(tmp_path, num_envs, n_step, frame_stack):
    data = filled(write(tmp_path), num_envs=num_envs, n_step=n_step, frame_stack=frame_stack, gamma=0.5)
    each = STEPS // num_envs
    cuts = [PLACES[each * (env + 1) - 1] for env in range(num_envs)]
    begins = [PLACES[each * env] for env in range(num_envs)]
    data.collector.collect(make_agent(), 6, UniformRandom())  # the agent's own, which must not join them
    buffer = data.store.buffer
    batch = buffer.sample(np.array(buffer.starts))
    ends, found = expected(cuts, n_step, 0.5), {}
    seen, after = (frames.numpy().reshape(len(frames), -1) for frames in (batch.observation, batch.next_observation))
    for row, (env, number, step) in enumerate(seen[:, -3:].astype(int)):
        if env != 9:
            continue
        total, discount, end = ends[number, step]
        assert batch.action[row] == step % 4  # and not 2 + step % 4, as the data set counts them
        assert (batch.reward[row].item(), batch.discount[row].item()) == (total, discount)
        assert after[row, -3:].tolist() == [9, number, end]
        if frame_stack == 2:
            before = step if step == 0 or (number, step) in begins else step - 1
            assert seen[row, :3].tolist() == [9, number, before]
        found[number, step] = row
    assert found.keys() == set(PLACES[: each * num_envs])
    assert data.prefilled == each * num_envs


def test_the_first_episodes_alone(tmp_path):
    write(tmp_path)
    prefill = MinariEpisodes("audit/test-v0", str(tmp_path), episodes=2)
    data = filled(prefill, env_steps_per_update=1, min_replay_size=16)
    assert data.prefilled == data.check_prefill() == 8


def test_masks_come_from_the_infos(tmp_path, monkeypatch):
    masks = np.arange(4) != np.arange(8)[:, None] % 4

    def with_masks(number, episode):
        return {**episode, "infos": {"action_mask": list(masks[: len(episode["rewards"]) + 1])}}

    prefill = write(tmp_path, change=with_masks)
    task = make_data(env_id=AUDIT_ENV).task._replace(action_mask=True)
    timestep = next(iter(prefill.timesteps(task, 0)))
    assert timestep.action_mask.tolist() == [masks[0].tolist()]
    assert timestep.next_action_mask.tolist() == [masks[1].tolist()]
    write(tmp_path / "without")
    with pytest.raises(ConfigError, match="has no infos of action_mask"):
        next(iter(MinariEpisodes("audit/test-v0", str(tmp_path / "without")).timesteps(task, 0)))


def test_after_a_termination_every_action_counts_as_allowed_and_elsewhere_one_is(tmp_path):
    """As of an env that is played: a target over no action at all would be the lowest number that there is."""

    def masked_at(ends_without):
        def change(number, episode):
            masks = np.ones((len(episode["rewards"]) + 1, 4), bool)
            masks[-1] = not ends_without or number not in ends_without
            return {**episode, "infos": {"action_mask": list(masks)}}

        return change

    task = make_data(env_id=AUDIT_ENV).task._replace(action_mask=True)
    timesteps = list(write(tmp_path / "a", change=masked_at([0, 2, 4])).timesteps(task, 0))
    assert all(timestep.next_action_mask.all() for timestep in timesteps)
    with pytest.raises(ConfigError, match="forbids every action somewhere in episode 1"):
        list(write(tmp_path / "b", change=masked_at([1])).timesteps(task, 0))


def test_masks_of_another_number_of_actions_are_named(tmp_path):
    def change(number, episode):
        return {**episode, "infos": {"action_mask": [np.ones(3)] * (len(episode["rewards"]) + 1)}}

    task = make_data(env_id=AUDIT_ENV).task._replace(action_mask=True)
    with pytest.raises(ConfigError, match=r"has action_mask of shape \(3,\) in episode 0, not \(4,\)"):
        list(write(tmp_path, change=change).timesteps(task, 0))


def test_numbers_that_would_be_cut_to_bytes_are_refused(tmp_path):
    prefill = write(tmp_path)
    task = make_data(env_id=AUDIT_ENV).task._replace(frame_dtype=np.uint8)
    with pytest.raises(ConfigError, match="here numbers of uint8"):
        prefill.check(task)


@pytest.mark.parametrize(
    ("spaces_", "sentence"),
    [
        ({"action_space": spaces.Discrete(3)}, r"takes actions of Discrete\(3\), and lit_dqn_tests/Audit-v0 has 4"),
        ({"action_space": spaces.Box(0, 1, (1,))}, "takes actions of Box"),
        ({"observation_space": spaces.Box(0, 1, (4,))}, r"shows Box\(0.0, 1.0, \(4,\), float32\), and .* \(3,\)"),
    ],
)
def test_a_data_set_of_another_task_is_refused(tmp_path, spaces_, sentence):
    prefill = write(tmp_path, **spaces_)
    with pytest.raises(ConfigError, match=f"^prefill: the data set audit/test-v0 {sentence}.*; give another one"):
        make_data(env_id=AUDIT_ENV, prefill=[prefill]).check_prefill()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda e: {**e, "rewards": [float("nan"), *e["rewards"][1:]]},
            "has a value that is not a number in episode 0",
        ),
        (lambda e: {**e, "actions": [1, *e["actions"][1:]]}, "has actions in episode 0 that"),
        (lambda e: {**e, "actions": [2.5, *e["actions"][1:]]}, "has actions in episode 0 that"),
        (lambda e: {**e, "observations": e["observations"][:-1]}, "has 5 values of observation for the 5 steps"),
        (lambda e: {**e, "terminations": e["terminations"][:-1], "truncations": e["truncations"][:-1]}, "4 values of"),
    ],
)
def test_what_cannot_be_learned_from_is_named(tmp_path, change, sentence):
    prefill = write(tmp_path, change=lambda number, episode: change(episode) if number == 0 else episode)
    with pytest.raises(ConfigError, match=sentence):
        filled(prefill)


def test_a_data_set_that_would_make_its_env_to_know_its_spaces_is_refused(tmp_path, monkeypatch):
    """Minari would import and call what its env_spec names."""
    prefill = write(tmp_path)
    file = tmp_path / "audit/test-v0/data/metadata.json"
    metadata = json.loads(file.read_text())
    del metadata["action_space"]
    spec = {"id": "Evil-v0", "entry_point": "evil_module:Evil", "kwargs": {}, "additional_wrappers": []}
    file.write_text(json.dumps(metadata | {"env_spec": json.dumps(spec)}))
    (tmp_path / "evil_module.py").write_text("raise SystemExit('code was run')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="does not say its action_space, and only sets in HDF5"):
        make_data(env_id=AUDIT_ENV, prefill=[prefill]).check_prefill()


@pytest.mark.parametrize(("name", "content"), [("main_data.hdf5", b"no HDF5"), ("metadata.json", b"[]")])
def test_a_damaged_data_set_is_one_sentence(tmp_path, name, content):
    prefill = write(tmp_path)
    (tmp_path / "audit/test-v0/data" / name).write_bytes(content)
    with pytest.raises(ConfigError, match=r"^prefill: the data set audit/test-v0 in .* cannot be read: "):
        make_data(env_id=AUDIT_ENV, prefill=[prefill]).check_prefill()


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("rewards", np.zeros((5, 2)), r"has reward of shape \(2,\) in episode 0, not \(\)"),
        ("rewards", [b"much"] * 5, "cannot be read in episode 0: "),
        ("observations", 3.0, "has 1 values of observation for the 5 steps of episode 0"),
        ("terminations", np.zeros((5, 2), bool), "cannot be read in episode 0: "),
    ],
)
def test_arrays_of_other_forms_are_named(tmp_path, name, values, sentence):
    prefill = write(tmp_path)
    import h5py

    with h5py.File(tmp_path / "audit/test-v0/data/main_data.hdf5", "a") as file:
        del file["episode_0"][name]
        file["episode_0"][name] = values
    with pytest.raises(ConfigError, match=f"^prefill: the data set audit/test-v0 .*({sentence})"):
        filled(prefill)


def test_a_data_set_that_is_not_there(tmp_path):
    pytest.importorskip("minari")
    with pytest.raises(ConfigError, match=r"there is no data set a/b-v0 in .*; fetch it with minari download a/b-v0"):
        make_data(prefill=[MinariEpisodes("a/b-v0", str(tmp_path))]).check_prefill()


def test_without_minari_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    monkeypatch.setitem(sys.modules, "minari.dataset.minari_storage", None)
    with pytest.raises(ConfigError, match=r"^prefill: .* needs the package minari, .*'lit-dqn\[minari\]'"):
        make_data(prefill=[MinariEpisodes("a/b-v0")]).check_prefill()


def test_episodes_is_a_count():
    with pytest.raises(ConfigError, match=r"^episodes: 0 of a/b-v0 must be at least 1"):
        MinariEpisodes("a/b-v0", episodes=0)
