"""Pictures that ask an agent: of a grid world, of what it looks at, and of an episode."""

import base64
import io

import imageio.v3 as iio
import numpy as np
import pytest
from test_plots import arrows, numbers_of

from lit_dqn import make_env
from lit_dqn.envs.grid.values import optimal_action_values
from lit_dqn.playing.trajectories import Trajectory
from lit_dqn.plots import (
    Animation,
    draw_agent,
    draw_episode_saliency,
    draw_preferences,
    draw_saliency,
    grid_path,
    saliency,
)


class Optimal:
    """An agent that knows q* of a world whose observations are one-hot."""

    has_preferences = True
    preferences_name = "Q(s, ·)"

    def __init__(self, world) -> None:
        self.q_values = optimal_action_values(world, gamma=1.0)
        self.num_actions = self.q_values.shape[1]

    def preferences(self, observation):
        return self.q_values[observation.argmax(axis=-1)]

    def state_values(self, observation):
        return self.preferences(observation).max(axis=1)


class Values(Optimal):
    """One that knows V alone."""

    has_preferences = False


@pytest.fixture
def world():
    return make_env("lit_dqn/Maze-v0", {"observation": "one_hot", "rewards": "reward_1"}).unwrapped


def test_the_agents_values_and_greedy_actions_stand_in_the_grid(world):
    figure = draw_agent(world, Optimal(world), path=[27, 28])
    assert min(map(float, numbers_of(figure))) == -15
    assert numbers_of(figure).count("-14.0") == 3
    assert (1, 0) in arrows(figure)
    assert arrows(draw_agent(world, Values(world))) == []
    actions = draw_preferences(world, Optimal(world), title="env step 7")
    assert len(numbers_of(actions)) == 4 * 46
    assert actions.axes[0].get_title() == "Q(s, a) of the network; bold: the greedy action; env step 7"


def test_the_path_is_read_from_what_was_seen(world):
    frames = np.stack([world.observe(state) for state in (27, 18, 9)])
    assert grid_path(world, frames) == [27, 18, 9]


class LooksAt:
    """An agent whose action values hang on one pixel of the newest frame."""

    has_preferences = True
    preferences_name = "Q(s, ·)"
    num_actions = 2

    def __init__(self, row: int, column: int) -> None:
        self.row, self.column = row, column

    def preferences(self, observation):
        pixel = observation[:, -1, self.row, self.column].astype(np.float32)
        return np.stack([pixel, -pixel], axis=1)


@pytest.mark.parametrize("channels", [1, 4])
def test_saliency_is_highest_where_the_agent_looks(channels):
    noise = np.random.default_rng(0).integers(0, 256, (channels, 84, 84)).astype(np.uint8)
    heat = saliency(LooksAt(60, 20), noise)
    assert heat.shape == (84, 84)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert abs(row - 60) <= 3
    assert abs(column - 20) <= 3
    assert heat[:30].max() < 1e-3 * heat.max()
    assert saliency(LooksAt(60, 20), np.full((channels, 84, 84), 7, np.uint8)).max() == 0  # nothing to blur


def test_the_picture_of_saliency_shows_each_moment(world):
    images = [np.full((1, 50, 84), grey, np.uint8) for grey in (255, 0)]
    heat = np.zeros((50, 84), np.float32)
    heat[10, 10] = 2.0
    axes = draw_saliency(images, [heat, np.zeros_like(heat)], ["a", "b"]).axes
    above, below = axes[0].images[0].get_array(), axes[2].images[0].get_array()
    assert above.min() == 1
    np.testing.assert_allclose(below[10, 10], (0xD5 / 255, 0x5E / 255, 0), atol=0.01)
    assert [panel.get_title() for panel in axes[:4]] == ["a", "b", "", ""]
    assert (axes[0].get_ylabel(), axes[2].get_ylabel()) == ("what it sees", "what it looks at")
    legend = axes[4]
    assert [label.get_text() for label in legend.get_yticklabels()] == ["not at all", "most"]
    assert legend.get_ylabel() == "Q(s, ·) changes\nwhen it is blurred"
    with pytest.raises(ValueError, match=r"observation is float32 \(54,\); a saliency map is made of an image"):
        saliency(Optimal(world), np.zeros(54, np.float32))


def make_trajectory(frames, frame_stack: int = 1) -> Trajectory:
    steps = len(frames) - 1
    return Trajectory(0, frames, np.zeros(steps, int), np.zeros(steps), True, [], 30, frame_stack)


def test_what_was_seen_is_stacked_as_for_the_network():
    frames = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 40, 40), np.uint8)
    trajectory = make_trajectory(frames, frame_stack=4)
    assert trajectory.seen(0)[:, 0, 0].tolist() == [0, 0, 0, 0]
    assert trajectory.seen(2)[:, 0, 0].tolist() == [0, 0, 1, 2]
    assert trajectory.seen(4)[:, 0, 0].tolist() == [1, 2, 3, 4]
    assert trajectory.has_images
    flat = make_trajectory(frames[:, 0], frame_stack=4)  # frames without an axis of channels
    assert flat.seen(4).shape == (4, 40, 40)
    assert not make_trajectory(np.zeros((5, 3), np.float32)).has_images
    assert (
        len(draw_episode_saliency(LooksAt(1, 1), trajectory, moments=9).axes) == 2 * 4 + 1
    )  # no moment twice, and the legend


def test_an_animation_is_a_file_or_a_gif_in_the_notebook(tmp_path):
    pictures = [np.full((41, 720, 3), number, np.uint8) for number in range(250)]
    animation = Animation(pictures, fps=50)
    assert animation.save(tmp_path / "episode.gif").read_bytes().startswith(b"GIF")
    assert animation.save(tmp_path / "episode.mp4").stat().st_size > 0
    assert animation.save(tmp_path / "episode").suffix in (".mp4", ".gif")
    assert repr(animation) == "Animation of 250 pictures, 50 a second"
    encoded = animation._repr_html_().split("base64,")[1].split('"')[0]
    shown = iio.imread(io.BytesIO(base64.b64decode(encoded)), index=None)
    assert shown.shape[:3] == (84, 20, 360)  # every third picture, half as large
    with pytest.raises(ValueError, match="no pictures"):
        Animation([], fps=30).save(tmp_path / "nothing")


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_small_pictures_are_enlarged_pixel_by_pixel(tmp_path, suffix):
    pytest.importorskip("imageio_ffmpeg")
    rng = np.random.default_rng(0)
    pictures = [(255 * rng.integers(0, 2, (210, 160, 1))).astype(np.uint8).repeat(3, axis=2) for _ in range(3)]
    saved = iio.imread(Animation(pictures, fps=15).save(tmp_path / f"episode{suffix}"))
    assert saved.shape == (3, 630, 480, 3)
    blocks = saved.reshape(3, 210, 3, 160, 3, 3).astype(float)
    # Not exactly in a video, but a pixel is a square of one colour, and its neighbour's colour does not run into it.
    assert np.abs(blocks[:, :, 1, :, 1] - np.stack(pictures)).mean() < 12
    assert (tmp_path / f"episode{suffix}").stat().st_size < 500_000
    large = [np.full((400, 600, 3), grey, np.uint8) for grey in (0, 200)]
    assert iio.imread(Animation(large, fps=15).save(tmp_path / f"large{suffix}")).shape == (2, 400, 600, 3)
