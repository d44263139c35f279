import logging
from pathlib import Path
from typing import Any

import lightning
import numpy as np
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure

from lit_dqn.callbacks.datamodule import data_of
from lit_dqn.callbacks.run_folder import make_new_folder
from lit_dqn.envs import env_name
from lit_dqn.envs.grid.world import GridWorld
from lit_dqn.playing.trajectories import Trajectory
from lit_dqn.plots import Animation, draw_agent, draw_episode_saliency, grid_path
from lit_dqn.saving.layout import PREDICTIONS, output_folder

log = logging.getLogger("lit_dqn")


class TrajectoryWriter(Callback):
    """Saves the episodes of `predict`: for each an animation, and its numbers as `.npz`.

    In a grid world also a picture of the agent's path; with image observations, saliency maps at selected steps of the
    first episode. An mp4 is written if imageio-ffmpeg is installed (the extra `video`), a GIF otherwise.

    Each call uses a new folder, so that nothing is overwritten: `predictions/env_step_<n>` in the run's folder, or
    `env_step_<n>_2` if that exists. A checkpoint outside of a run uses `predictions/<its name>` beside it, an agent
    without a checkpoint `predictions/<env>` in the working folder.

    Args:
        output_dir: replaces `predictions`.

    """

    def __init__(self, output_dir: str | None = None) -> None:
        self.output_dir = output_dir
        self._folder = Path()

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Create the folder.

        Raises:
            ConfigError: if that fails.

        """
        self._folder = make_new_folder(self._folder_of(trainer, pl_module), "trajectories.output_dir")

    def on_predict_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Save one trajectory."""
        name = f"episode_{batch_idx + 1}"
        folder = self._folder
        np.savez_compressed(
            folder / f"{name}.npz",
            seed=batch.seed,
            action=batch.action,
            reward=batch.reward,
            terminated=batch.terminated,
            **self._observation(trainer, batch),
        )
        if batch.pictures:
            Animation(batch.pictures, batch.fps).save(folder / name)
        seen_as_it_is = not data_of(trainer).wrappers
        world = trainer.predict_dataloaders.envs.unwrapped if seen_as_it_is else None  # type: ignore[union-attr]
        for suffix, figure in _pictures(world, pl_module, batch, batch_idx):
            figure.savefig(folder / f"{name}{suffix}.png", dpi=100)
        end = "terminated" if batch.terminated else "cut at the cap on its steps"
        log.info(
            "episode %d: return %s, %s steps, %s",
            batch_idx + 1,
            f"{batch.reward.sum():,.2f}",
            f"{len(batch.action):,}",
            end,
        )

    def on_predict_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log where the files are."""
        saved = list(self._folder.iterdir())
        kinds = ", ".join(sorted({file.suffix for file in saved}))
        log.info("saved: %s files (%s) in %s", f"{len(saved):,}", kinds, self._folder)

    def _observation(self, trainer: lightning.Trainer, batch: Trajectory) -> dict[str, Any]:
        parts = data_of(trainer).frame_parts
        if parts is None:
            return {"observation": batch.observation}
        return {f"observation/{name}": array for name, array in parts.arrays(batch.observation).items()}

    def _folder_of(self, trainer: lightning.Trainer, agent: Any) -> Path:
        folder = Path(PREDICTIONS, env_name(data_of(trainer).env_id))
        if trainer.ckpt_path is not None:
            folder = output_folder(Path(trainer.ckpt_path), agent.env_step, PREDICTIONS)
        return folder if self.output_dir is None else Path(self.output_dir, folder.name)


def _pictures(world: Any, agent: Any, trajectory: Trajectory, number: int) -> list[tuple[str, Figure]]:
    """Figures of an episode, each with the suffix of its file name."""
    figures = []
    if isinstance(world, GridWorld):
        path = grid_path(world, trajectory.observation)
        title = f"return {trajectory.reward.sum():,.2f} in {len(trajectory.action):,} steps"
        figures.append(("", draw_agent(world, agent, frame_stack=trajectory.frame_stack, path=path, title=title)))
    if number == 0 and trajectory.has_images and agent.memory_size == 0:
        figures.append(("_saliency", draw_episode_saliency(agent, trajectory)))
    return figures
