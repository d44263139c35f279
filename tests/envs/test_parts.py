"""Envs that show several things at once, as rows of bytes."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from lit_dqn import ConfigError, PartsNetwork, TrainingError
from lit_dqn.envs import RowSpace, make_env, make_vec, stored_dtype
from lit_dqn.envs.parts import RowEnv
from lit_dqn.parts import Part, Parts
from lit_dqn.replay import stacked_shape
from parting import SIGNPOST_ENV


def shown(env, row):
    return {name: array[0] for name, array in env.observation_space.parts.arrays(row[None]).items()}


def test_each_part_is_in_the_row_in_its_own_dtype():
    env = make_env(SIGNPOST_ENV)
    space = env.observation_space
    assert isinstance(space, RowSpace)
    assert stored_dtype(space) == np.uint8
    row, _ = env.reset(seed=3)
    assert row.shape == space.shape == (88,)  # 4 of a float32, 80 of the image, 2 of the sign, and 2 of nothing
    told = env.unwrapped
    for _ in range(3):
        parts = shown(env, row)
        assert {name: (part.dtype.name, part.shape) for name, part in parts.items()} == {
            "image": ("uint8", (1, 8, 10)),
            "told/left": ("float32", (1,)),
            "told/sign": ("bool", (2,)),
        }
        assert parts["image"][0, :, 5 * told.lamp].tolist() == [200] * 8
        assert parts["image"].astype(int).sum() == 200 * 40
        assert parts["told/sign"].tolist() == [told.sign == 1, told.sign == 2]
        assert parts["told/left"].tolist() == [told.left]
        before = row.copy()
        row, *_ = env.step(0)
        assert not np.shares_memory(row, before)


def test_parts_of_a_tuple_have_numbers_for_names_and_say_the_same():
    one, other = make_env(SIGNPOST_ENV), make_env(SIGNPOST_ENV, {"form": "tuple"})
    parts, same = shown(one, one.reset(seed=3)[0]), shown(other, other.reset(seed=3)[0])
    assert list(same) == ["part_0", "part_1", "part_2"]
    for name, number in zip(("image", "told/sign", "told/left"), same, strict=True):
        assert np.array_equal(parts[name], same[number])


def test_tensors_of_rows_are_the_arrays_of_rows_and_images_alone_are_stacked():
    parts = Parts(
        {
            "bits": Part((3,), "bool", image=False),
            "grey": Part((2, 5), "uint8", image=True),
            "numbers": Part((2, 2), "float32", image=False),
            "picture": Part((3, 2, 2), "float32", image=True),
        }
    )
    assert Parts.of(parts.stacked(3).described()).items() == parts.stacked(3).items()
    random = np.random.default_rng(0)
    frames = [
        {
            "bits": random.random(3) < 0.5,
            "grey": random.integers(256, size=(2, 5), dtype=np.uint8),
            "numbers": random.normal(size=(2, 2)).astype(np.float32),
            "picture": random.random((3, 2, 2)).astype(np.float32),
        }
        for _ in range(4 * 3)
    ]
    rows = np.stack([parts.pack(frame) for frame in frames]).reshape(4, 3, -1)
    stacked = parts.stacked(3)
    assert stacked.row_shape == rows.shape[1:]
    assert {name: part.shape for name, part in stacked.items()} == {
        name: stacked_shape(3, part.shape) if part.image else part.shape for name, part in parts.items()
    }
    arrays, tensors = stacked.arrays(rows), stacked.tensors(torch.from_numpy(rows))
    for number in range(4):
        of_one = frames[3 * number : 3 * number + 3]
        assert np.array_equal(arrays["bits"][number], of_one[-1]["bits"])
        assert np.array_equal(arrays["numbers"][number], of_one[-1]["numbers"])
        assert np.array_equal(arrays["grey"][number], np.stack([frame["grey"] for frame in of_one]))
        assert np.array_equal(arrays["picture"][number], np.concatenate([frame["picture"] for frame in of_one]))
        packed = stacked.pack_stack({name: array[number] for name, array in arrays.items()})
        assert all(np.array_equal(arrays[name][number], back) for name, (back,) in stacked.arrays(packed[None]).items())
    for name, array in arrays.items():
        assert tensors[name].numpy().dtype == array.dtype
        assert np.array_equal(tensors[name].numpy(), array)
    assert np.array_equal(parts.arrays(rows[:, 0])["numbers"][1], frames[3]["numbers"])


@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_envs_side_by_side_show_the_rows_of_each(processes):
    alone = make_env(SIGNPOST_ENV)
    envs = make_vec(SIGNPOST_ENV, 2, processes=processes)
    rows, _ = envs.reset(seed=[3, 4])
    for number, seed in enumerate((3, 4)):
        assert np.array_equal(rows[number], alone.reset(seed=seed)[0])
    assert isinstance(envs.single_observation_space, RowSpace)
    envs.close()


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ("shape", r"env 7 of .*Signpost-v0 shows of its part 'image' an array of shape \(7, 10, 1\), though"),
        ("missing", "shows of its part 'told/left' none that can be read .KeyError: 'left'., though"),
        ("number", "shows of its part 'told/sign' none that can be read .ValueError: 3 is out of its range., though"),
    ],
)
def test_a_part_that_is_not_what_the_space_says_ends_the_run(form, sentence):
    env = make_env(SIGNPOST_ENV, {"form": form}, number=7)
    env.reset(seed=0)
    with pytest.raises(TrainingError, match=sentence):
        env.step(0)


def test_what_a_network_cannot_take_is_refused_by_its_name():
    with pytest.raises(ConfigError, match=r"'mission' is of type Text; .* a gymnasium.wrappers.FilterObservation"):
        make_env(SIGNPOST_ENV, {"form": "text"})


TWO = spaces.Box(0, 1, (2,))


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        (spaces.Dict(), "no part at all"),
        (spaces.Tuple([]), "no part at all"),
        (spaces.Dict({"a/b": TWO, "a": spaces.Dict({"b": TWO})}), "two parts with the name 'a/b'"),
        (spaces.Dict({"a": TWO, "b": spaces.Box(0, 1, (0,))}), "a part 'b' that holds no number"),
    ],
)
def test_parts_that_are_none_or_would_hide_each_other_are_refused(space, sentence):
    env = gymnasium.Env()
    env.observation_space = space
    with pytest.raises(ConfigError, match=f"^env_id: 'Some-v0' has observations of several parts, with {sentence}; "):
        RowEnv(env, "Some-v0", "env 0")


def test_a_number_alone_is_a_part_of_one():
    env = gymnasium.Env()
    env.observation_space = spaces.Dict({"speed": spaces.Box(0, 9, ()), "two": TWO})
    env.reset = lambda **kwargs: ({"speed": np.float32(7), "two": np.zeros(2, np.float32)}, {})
    rows = RowEnv(env, "Some-v0", "env 0")
    assert rows.parts.arrays(rows.reset()[0][None])["speed"].tolist() == [[7]]
    network = PartsNetwork(rows.parts.shapes, 3)
    assert network(rows.parts.tensors(torch.from_numpy(rows.reset()[0][None]))).shape == (1, 3)


def test_a_mask_among_the_parts_moves_to_the_infos():
    env = make_env(SIGNPOST_ENV, {"form": "masked"}, action_mask=True)
    _, info = env.reset(seed=0)
    assert info["action_mask"].tolist() == [True, True, False]
    assert list(env.observation_space.parts) == ["image", "told/left", "told/sign"]
    _, _, _, _, info = env.step(1)
    assert info["action_mask"].tolist() == [True, True, False]
    with pytest.raises(ConfigError, match="in its observations which actions are allowed; set"):
        make_env(SIGNPOST_ENV, {"form": "masked"})


def test_numbers_of_every_kind_are_ones_and_zeros():
    env = gymnasium.Env()
    env.action_space = spaces.Discrete(2)
    env.observation_space = spaces.Dict(
        {
            "bits": spaces.MultiBinary(3),
            "many": spaces.MultiDiscrete([2, 3]),
            "one": spaces.Discrete(3, start=-1),
            "flags": spaces.Box(0, 1, (2, 2), np.bool_),
        }
    )
    seen = {"bits": [1, 0, 1], "many": [1, 2], "one": 1, "flags": np.eye(2, dtype=np.bool_)}
    env.reset = lambda **kwargs: (seen, {})
    rows = RowEnv(env, "Some-v0", "env 0")
    parts = rows.parts.arrays(rows.reset()[0][None])
    assert {name: array[0].astype(int).tolist() for name, array in parts.items()} == {
        "bits": [1, 0, 1],
        "flags": [[1, 0], [0, 1]],
        "many": [0, 1, 0, 0, 1],
        "one": [0, 0, 1],
    }
