"""Pictures, drawn without a screen, for TensorBoard, files and notebooks."""

from lit_dqn.plots.action_values import draw_q_values
from lit_dqn.plots.agents import draw_agent, draw_preferences, grid_path
from lit_dqn.plots.animation import Animation
from lit_dqn.plots.episodes import plot_episodes
from lit_dqn.plots.grid import draw_grid
from lit_dqn.plots.saliency import draw_episode_saliency, draw_saliency, saliency
from lit_dqn.plots.studies import Band, Estimate, plot_estimates, plot_improvements, plot_learning_curves
from lit_dqn.plots.style import figure_to_array
from lit_dqn.plots.value_error import draw_value_error, draw_values_beside_truth, plot_state_values

__all__ = [
    "Animation",
    "Band",
    "Estimate",
    "draw_agent",
    "draw_episode_saliency",
    "draw_grid",
    "draw_preferences",
    "draw_q_values",
    "draw_saliency",
    "draw_value_error",
    "draw_values_beside_truth",
    "figure_to_array",
    "grid_path",
    "plot_episodes",
    "plot_estimates",
    "plot_improvements",
    "plot_learning_curves",
    "plot_state_values",
    "saliency",
]
