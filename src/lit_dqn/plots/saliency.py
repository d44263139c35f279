"""Where a network for images looks: on which pixels its action values depend."""

from collections.abc import Sequence

import cv2
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lit_dqn.playing.trajectories import Trajectory
from lit_dqn.plots.agents import Watched
from lit_dqn.plots.style import PATH, TICK_SIZE, TITLE_SIZE

BLUR_SIGMA = 3.0  # pixels, as in the paper
BATCH_SIZE = 64  # perturbed observations per forward pass


def saliency(
    agent: Watched, observation: NDArray[np.uint8], *, spacing: int = 5, radius: float = 5.0
) -> NDArray[np.float32]:
    """How much the network's outputs change when the observation is blurred around a pixel (Greydanus et al. 2018,
    *Visualizing and understanding Atari agents*, eqs. 1 and 2, with action values in place of the logits).

    Blurring removes information without adding anything new. All frames of a stack are blurred at the same position.

    Args:
        agent: its preferences are used, Q(s, ·) or an actor's preferences; V(s) if it has none.
        observation: one image, uint8 [channels, height, width], frames stacked.
        spacing: distance between blurred positions, in pixels; the map is interpolated between them.
        radius: standard deviation of the blur mask, in pixels.

    Returns:
        Half the squared distance between the outputs for the sharp and the blurred image, [height, width].

    Raises:
        ValueError: if the observation is not such an image.

    """
    if observation.ndim != 3 or observation.dtype != np.uint8:
        raise ValueError(
            f"observation is {observation.dtype} {observation.shape}; a saliency map is made of an image, "
            "uint8 (channels, height, width)"
        )
    _, height, width = observation.shape
    sharp = observation.astype(np.float32)
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), BLUR_SIGMA) for frame in sharp])
    rows, columns = np.arange(height), np.arange(width)
    centre_rows, centre_columns = np.arange(spacing // 2, height, spacing), np.arange(spacing // 2, width, spacing)
    bell_rows = np.exp(-((rows - centre_rows[:, None]) ** 2) / (2 * radius**2))
    bell_columns = np.exp(-((columns - centre_columns[:, None]) ** 2) / (2 * radius**2))
    masks = np.einsum("ih,jw->ijhw", bell_rows, bell_columns).reshape(-1, 1, height, width)

    def outputs(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return agent.preferences(images) if agent.has_preferences else agent.state_values(images)[:, None]

    sharp_outputs = outputs(observation[None])
    scores = np.empty(len(masks), np.float32)
    for first in range(0, len(masks), BATCH_SIZE):
        mask = masks[first : first + BATCH_SIZE]
        perturbed = np.rint(sharp * (1 - mask) + blurred * mask).astype(np.uint8)
        scores[first : first + BATCH_SIZE] = 0.5 * ((outputs(perturbed) - sharp_outputs) ** 2).sum(axis=1)
    coarse = scores.reshape(len(centre_rows), len(centre_columns))
    return np.maximum(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), 0)


def draw_saliency(
    observations: Sequence[NDArray[np.uint8]],
    maps: Sequence[NDArray[np.float32]],
    titles: Sequence[str] | None = None,
    *,
    of: str = "Q(s, ·)",
) -> Figure:
    """The newest frame of each observation, and below it the same frame with its saliency map in vermilion.

    Every map is scaled to its own highest value; a legend explains the colour.

    Args:
        observations: each uint8 [channels, height, width].
        maps: from `saliency`, one per observation.
        titles: a line above each.
        of: the outputs whose changes the maps show.

    """
    height, width = maps[0].shape
    size = 2.6
    figure = Figure(figsize=(size * len(maps) + 1.2, 2 * size * height / width + 0.7), layout="constrained")
    panels = figure.subplots(2, len(maps), squeeze=False)
    names = titles or [""] * len(maps)
    vermilion = LinearSegmentedColormap.from_list("saliency", ["#bfbfbf", PATH])
    for (above, below), observation, heat, name in zip(panels.T, observations, maps, names, strict=True):
        frame = np.repeat(observation[-1][..., None] / 255, 3, axis=2)
        share = (heat / heat.max() if heat.max() > 0 else heat)[..., None]
        # The rest fades to grey, so that the colour is visible on black and on white.
        receding = 0.5 + 0.5 * (frame - 0.5)
        above.imshow(frame, interpolation="nearest")
        below.imshow(receding * (1 - share) + np.array(to_rgb(PATH)) * share, interpolation="nearest")
        above.set_title(name, fontsize=TITLE_SIZE)
        for axes in (above, below):
            axes.set_xticks([])
            axes.set_yticks([])
    panels[0, 0].set_ylabel("what it sees", fontsize=TICK_SIZE)
    panels[1, 0].set_ylabel("what it looks at", fontsize=TICK_SIZE)
    legend = figure.colorbar(ScalarMappable(Normalize(0, 1), vermilion), ax=panels[1, :], ticks=[0, 1], pad=0.02)
    legend.ax.set_yticklabels(["not at all", "most"], fontsize=TICK_SIZE)
    legend.set_label(f"{of} changes\nwhen it is blurred", fontsize=TICK_SIZE)
    return figure


def draw_episode_saliency(agent: Watched, trajectory: Trajectory, moments: int = 4) -> Figure:
    """What the agent looked at, at evenly spaced steps of an episode.

    Raises:
        ValueError: if the observations are not images.

    """
    steps = np.unique(np.linspace(0, len(trajectory.action) - 1, moments).astype(int))
    observations = [trajectory.seen(step) for step in steps]
    maps = [saliency(agent, observation) for observation in observations]
    titles = [f"step {step:,}" for step in steps]
    return draw_saliency(observations, maps, titles, of=agent.preferences_name if agent.has_preferences else "V(s)")
