import io
import time
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure

from lit_dqn.callbacks.datamodule import collector_of, data_of
from lit_dqn.callbacks.maze_view import draw_last_episode, grid_world_of
from lit_dqn.callbacks.run_folder import run_folder
from lit_dqn.errors import ConfigError
from lit_dqn.plots import plot_episodes
from lit_dqn.saving.layout import EPISODES

LEAST_SECONDS = 0.5
DRAWING_SHARE = 0.1


class LiveView(Callback):
    """Pictures in a notebook that are updated during training: steps and return per episode, and a grid world with the
    agent's values and actions.

    They are redrawn at most twice a second, and less often if drawing would take more than a tenth of the time.

    Raises:
        ConfigError: if there is no notebook, because IPython is not installed, or not running.

    """

    def __init__(self) -> None:
        try:
            from IPython import get_ipython
            from IPython.display import display
        except ImportError as error:
            raise ConfigError(
                "live: pictures that change need a notebook; pip install ipython, or leave it out."
            ) from error
        if get_ipython() is None:  # `display` would print and give no handle
            raise ConfigError("live: pictures that change need a notebook, and this process is none; leave it out.")
        self._display: Any = display
        self._handles: dict[str, Any] = {}
        self._next = 0.0

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any) -> None:
        """Draw if it is due."""
        if time.monotonic() >= self._next:
            started = time.monotonic()
            self._draw(trainer, pl_module)
            taken = time.monotonic() - started
            self._next = started + max(LEAST_SECONDS, taken / DRAWING_SHARE)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Draw the final state."""
        self._draw(trainer, pl_module)
        self._handles.clear()

    def _draw(self, trainer: lightning.Trainer, agent: Any) -> None:
        collector = collector_of(trainer)
        if grid_world_of(data_of(trainer)) is not None:
            self._show("grid", draw_last_episode(data_of(trainer), agent))
        folder = run_folder(trainer)
        if folder is not None and collector.episodes and (folder / EPISODES).is_file():
            try:
                self._show("episodes", plot_episodes(folder))
            except ValueError:  # the first episode has not been written yet
                return

    def _show(self, name: str, figure: Figure) -> None:
        from IPython.display import Image

        png = io.BytesIO()
        figure.savefig(png, dpi=72)
        picture = Image(png.getvalue(), format="png")
        if name in self._handles:
            self._handles[name].update(picture)
        else:
            self._handles[name] = self._display(picture, display_id=True)
