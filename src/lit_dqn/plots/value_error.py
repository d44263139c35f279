"""Learned values next to the true values."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from lit_dqn.envs.grid.layouts import GridLayout
from lit_dqn.plots.grid import grid_inches, paint_values, prepare_axes, state_names
from lit_dqn.plots.style import ERROR_COLOURS, RUN_COLOURS, TICK_SIZE, plain_axes

MIDDLE = (0.0, -0.05)


def draw_value_error(layout: GridLayout, values: ArrayLike, true_values: ArrayLike) -> Figure:
    """V minus the true values, purple where V is too low, orange where it is too high; the title has the RMS error.

    Args:
        layout: the grid.
        values: V, [num_states].
        true_values: [num_states].

    Raises:
        ValueError: if one of them does not have one value per state.

    """
    figure = Figure(figsize=grid_inches(layout), layout="constrained")
    _paint_error(figure.add_subplot(), layout, values, true_values)
    return figure


def draw_values_beside_truth(layout: GridLayout, values: ArrayLike, true_values: ArrayLike) -> Figure:
    """Three panels: V, the true values in the same colours, and their difference as in `draw_value_error`.

    Args:
        layout: the grid.
        values: V, [num_states].
        true_values: [num_states].

    Raises:
        ValueError: if one of them does not have one value per state.

    """
    width, height = grid_inches(layout)
    one_row = layout.rows == 1
    figure = Figure(figsize=(width, 2.7 * height) if one_row else (3 * width, height), layout="constrained")
    v_axes, true_axes, error_axes = figure.subplots(3, 1) if one_row else figure.subplots(1, 3)
    _paint_error(error_axes, layout, values, true_values)
    acting = layout.acting_states
    both = np.concatenate([np.asarray(values, float)[acting], np.asarray(true_values, float)[acting]])
    for axes, shown, name in ((v_axes, values, "V"), (true_axes, true_values, "true values")):
        prepare_axes(axes, layout, name)
        paint_values(axes, layout, shown, limits=(both.min(), both.max()), number_at=MIDDLE)
    return figure


def _paint_error(axes: Axes, layout: GridLayout, values: ArrayLike, true_values: ArrayLike) -> None:
    learned, truth = np.asarray(values, dtype=float), np.asarray(true_values, dtype=float)
    for name, given in (("values", learned), ("true_values", truth)):
        if given.shape != (layout.num_states,):
            raise ValueError(f"{name} has shape {given.shape}; give one value for each of {layout.num_states} states")
    acting = layout.acting_states
    error = learned - truth
    rms = float(np.sqrt(np.mean(error[acting] ** 2)))
    # The scale is at least a hundredth of the values', so that negligible errors look negligible.
    reach = max(float(np.abs(error[acting]).max()), 0.01 * float(np.ptp(truth[acting])), 1e-12)
    prepare_axes(axes, layout, f"V minus the truth: RMS error {rms:.3g}")
    paint_values(axes, layout, error, colours=ERROR_COLOURS, limits=(-reach, reach), number_at=MIDDLE)


def plot_state_values(
    layout: GridLayout, values: Mapping[str, ArrayLike], true_values: ArrayLike | None = None
) -> Figure:
    """V over the states of a world of one row, with one line per name, as in Sutton & Barto's example 6.2.

    Args:
        layout: a grid of one row.
        values: V by name, each [num_states].
        true_values: [num_states], drawn in black.

    Raises:
        ValueError: if the grid has more rows.

    """
    if layout.rows != 1:
        raise ValueError(f"layout has {layout.rows} rows; lines over the states are for one row, else use draw_grid")
    acting = layout.acting_states
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    if true_values is not None:
        axes.plot(acting, np.asarray(true_values)[acting], "o-", color="black", linewidth=2, label="true values")
    for number, (name, learned) in enumerate(values.items()):
        colour = RUN_COLOURS[number % (len(RUN_COLOURS) - 1)]
        axes.plot(acting, np.asarray(learned)[acting], "o-", color=colour, markersize=5, label=name)
    names = state_names(layout)
    axes.set_xticks(acting, [names[state] for state in acting])
    axes.set_xlabel("state", fontsize=TICK_SIZE + 1)
    axes.set_ylabel("V", fontsize=TICK_SIZE + 1)
    plain_axes(axes)
    axes.legend(frameon=False, fontsize=TICK_SIZE)
    return figure
