import logging
from typing import Any

import lightning
from gymnasium.vector import SyncVectorEnv
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure

from lit_dqn.callbacks.datamodule import collector_of, data_of
from lit_dqn.callbacks.pictures import send_picture
from lit_dqn.callbacks.run_folder import run_folder
from lit_dqn.envs.grid.values import policy_state_values
from lit_dqn.envs.grid.world import GridWorld
from lit_dqn.errors import ConfigError
from lit_dqn.playing.value_errors import stacked_observations
from lit_dqn.plots import draw_agent, draw_preferences, draw_values_beside_truth, figure_to_array, grid_path

log = logging.getLogger("lit_dqn")

MAZE_PNG, ACTIONS_PNG, TRUTH_PNG = "maze.png", "actions.png", "values_beside_truth.png"


class MazeView(Callback):
    """Shows an agent's values and actions in a grid world.

    The cells show V(s), with the greedy actions as arrows if the agent has preferences, and the path of the last
    training episode. The picture is sent to the run's loggers after every n-th evaluation, and saved as `maze.png` in
    the run's folder at the end. Slower pictures are drawn only at the end: `actions.png`, the value of each action in
    each state (Q(s, a), or an actor's preferences), or, if only V is learned, `values_beside_truth.png`, next to the
    exact values of the policy that played. Other environments are ignored.

    Args:
        every_n_evaluations: number of evaluations between two images.

    """

    def __init__(self, every_n_evaluations: int = 1) -> None:
        if every_n_evaluations < 1:
            raise ConfigError(f"maze_view.every_n_evaluations: {every_n_evaluations} must be at least 1 evaluation.")
        self.every_n_evaluations = every_n_evaluations
        self._evaluations = 0
        self._shown_at = -1  # env step of the final pictures

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Send the picture if it is due."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        self._evaluations += 1
        data = data_of(trainer)
        if self._evaluations % self.every_n_evaluations == 0 and grid_world_of(data) is not None:
            send_picture(trainer, "maze", figure_to_array(draw_last_episode(data, pl_module)))
        if trainer.should_stop:  # before the last checkpoint, so that a resume does not save them again
            self._show_the_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Also for runs without evaluations."""
        if trainer.should_stop:
            self._show_the_end(trainer, pl_module)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save the pictures of the trained agent."""
        self._show_the_end(trainer, pl_module)

    def _show_the_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        data = data_of(trainer)
        env_step = collector_of(trainer).env_step
        if env_step == self._shown_at:
            return
        self._shown_at = env_step
        world = grid_world_of(data)
        folder = run_folder(trainer)
        if folder is None or world is None:
            return
        name, figure = _draw_the_rest(world, pl_module, data)
        try:
            draw_last_episode(data, pl_module).savefig(folder / MAZE_PNG, dpi=120)
            figure.savefig(folder / name, dpi=100)
        except OSError as error:  # the last checkpoint must still be saved
            log.warning("the pictures of the run cannot be written: %s", error)
        send_picture(trainer, name.removesuffix(".png"), figure_to_array(figure))

    def state_dict(self) -> dict[str, Any]:
        """The number of evaluations, and when the final pictures were drawn."""
        return {"evaluations": self._evaluations, "shown_at": self._shown_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        self._evaluations = state_dict["evaluations"]
        self._shown_at = state_dict.get("shown_at", -1)


def grid_world_of(data: Any) -> GridWorld | None:
    """The grid world that a data module plays; None if it plays another env, or uses wrappers."""
    envs = getattr(data.collector.players, "envs", None)  # None if they are played in other processes
    if not isinstance(envs, SyncVectorEnv) or data.wrappers:
        return None
    world = envs.envs[0].unwrapped
    return world if isinstance(world, GridWorld) else None


def draw_last_episode(data: Any, agent: Any) -> Figure:
    """The picture of an agent (`LitAgent`) in the grid world that a data module plays."""
    world, collector = grid_world_of(data), data.collector
    assert world is not None
    path = grid_path(world, data.store.buffer.last_episode(env=0))
    title = f"env step {collector.env_step:,}, episode {collector.episodes:,}"
    if path:
        title += f": the last episode took {len(path) - 1:,} steps"
    return draw_agent(world, agent, frame_stack=data.frame_stack, path=path, title=title)


def _draw_the_rest(world: GridWorld, agent: Any, data: Any) -> tuple[str, Figure]:
    """The name of the file, and its figure."""
    env_step = data.collector.env_step
    if agent.has_preferences:
        title = f"env step {env_step:,}"
        return ACTIONS_PNG, draw_preferences(world, agent, frame_stack=data.frame_stack, title=title)
    observations = stacked_observations(world, data.frame_stack)
    probabilities = data.policy.probabilities(agent, observations, env_step)
    truth = policy_state_values(world, probabilities, data.horizon.discount(env_step))
    return TRUTH_PNG, draw_values_beside_truth(world.layout, agent.state_values(observations), truth)
