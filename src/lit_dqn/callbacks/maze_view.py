from pathlib import Path
from typing import Any

import lightning
import numpy as np
from gymnasium.vector import SyncVectorEnv
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure

from lit_dqn.collector import Collector
from lit_dqn.envs.grid import GridWorld
from lit_dqn.envs.grid_values import observe_all
from lit_dqn.errors import ConfigError
from lit_dqn.plots import draw_grid, figure_to_array
from lit_dqn.value_errors import stacked_observations

MAZE_PNG = "maze.png"


class MazeView(Callback):
    """What the agent thinks of a grid world: V(s) in the cells, the greedy actions as arrows where the agent prefers
    some, and the path of the last training episode.

    It is an image in TensorBoard after every n-th evaluation, and `maze.png` in the run's folder at the end.
    Other environments are left alone.

    Args:
        every_n_evaluations: evaluations between two images in TensorBoard.

    """

    def __init__(self, every_n_evaluations: int = 1) -> None:
        if every_n_evaluations < 1:
            raise ConfigError(f"maze_view.every_n_evaluations: {every_n_evaluations} must be at least 1 evaluation.")
        self.every_n_evaluations = every_n_evaluations
        self._evaluations = 0

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Send the picture to TensorBoard if it is time."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        self._evaluations += 1
        collector = trainer.datamodule.collector  # type: ignore[attr-defined]
        if self._evaluations % self.every_n_evaluations or _grid_world(collector) is None:
            return
        picture = figure_to_array(draw_agent(collector, pl_module))
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("maze", picture, collector.env_step, dataformats="HWC")

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save the picture of the trained agent."""
        collector = trainer.datamodule.collector  # type: ignore[attr-defined]
        if trainer.loggers and trainer.log_dir and _grid_world(collector) is not None:
            figure = draw_agent(collector, pl_module)
            figure.savefig(Path(trainer.log_dir) / MAZE_PNG, dpi=120)

    def state_dict(self) -> dict[str, Any]:
        """The count of evaluations."""
        return {"evaluations": self._evaluations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the count of evaluations."""
        self._evaluations = state_dict["evaluations"]


def _grid_world(collector: Collector) -> GridWorld | None:
    if not isinstance(collector.envs, SyncVectorEnv):
        return None
    env = collector.envs.envs[0].unwrapped
    return env if isinstance(env, GridWorld) else None


def draw_agent(collector: Collector, agent: Any) -> Figure:
    """The picture of an agent (`LitAgent`) in the grid world that a collector plays."""
    world = _grid_world(collector)
    assert world is not None
    layout = world.layout
    frames = observe_all(world)
    observations = stacked_observations(world, collector.replay.frame_stack)
    greedy = None
    if agent.has_preferences:
        greedy = [np.flatnonzero(row == row.max()).tolist() for row in agent.preferences(observations)]
    state_of = {frame.tobytes(): state for state, frame in enumerate(frames)}
    path = [state_of[frame.tobytes()] for frame in collector.replay.last_episode(env=0)]
    title = f"env step {collector.env_step:,}, episode {collector.episodes:,}"
    if path:
        title += f": the last episode took {len(path) - 1:,} steps"
    return draw_grid(
        layout,
        values=agent.state_values(observations),
        greedy_actions=greedy,
        path=path,
        moves=world.moves,
        title=title,
    )
