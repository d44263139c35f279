"""The common style of all pictures: colours that colour-blind people can distinguish, and the conversion to pixels."""

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Colour-blind people can distinguish Okabe & Ito's vermilion and green from cividis (blue to yellow).
VALUE_COLOURS = colormaps["cividis"]
ERROR_COLOURS = colormaps["PuOr_r"]  # purple below the truth, orange above it
SALIENCY_COLOURS = colormaps["inferno"]
FLOOR, WALL, CLIFF, CLIFF_HATCH, GOAL, PATH = "#faf9f5", "#3c3f46", "#d55e00", "#963a00", "#009e73", "#d55e00"
GRID_LINE, WIND, FAINT = "#dcdad2", "#56b4e9", "#666666"
RUN_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")

# TensorBoard shows pictures about 350 pixels wide, which halves a maze of nine columns.
NUMBER_SIZE, TICK_SIZE, TITLE_SIZE, MARK_SIZE = 11.5, 10, 12, 17


def ink_on(fill: Any) -> str:
    """Black or white, whichever is more readable on a colour."""
    red, green, blue = to_rgb(fill)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


def write_number(value: float, largest: float) -> str:
    """At most five characters, where `largest` is the greatest absolute value in the same picture."""
    if largest >= 1e4:
        return f"{value:.0e}"
    decimals = 2 if largest < 10 else 1 if largest < 100 else 0
    return f"{round(value, decimals) + 0.0:.{decimals}f}"  # no "-0.00"


def plain_axes(axes: Axes) -> None:
    """A faint grid, and no frame at the top and on the right."""
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=TICK_SIZE)


def figure_to_array(figure: Figure) -> NDArray[np.uint8]:
    """The figure as RGB pixels, uint8 [height, width, 3], at the figure's resolution."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba(), dtype=np.uint8)[..., :3].copy()
