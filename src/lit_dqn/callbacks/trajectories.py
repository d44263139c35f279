import logging
from pathlib import Path
from typing import Any

import lightning
import numpy as np
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure

from lit_dqn.callbacks.run_folder import folder_of_checkpoint
from lit_dqn.envs import env_name
from lit_dqn.envs.grid import GridWorld
from lit_dqn.errors import ConfigError
from lit_dqn.evaluation import Trajectory
from lit_dqn.plots import Animation, draw_agent, draw_episode_saliency, grid_path

log = logging.getLogger("lit_dqn")


class TrajectoryWriter(Callback):
    """Saves what `predict` has seen: for each episode a picture that moves, and its numbers as `.npz`.

    In a grid world also a picture of the way that the agent went; where the agent sees images, a saliency map at some
    moments of the first episode. An mp4 is written if imageio-ffmpeg is installed (the extra `video`), a GIF otherwise.

    Each time has a folder of its own, so that nothing is written over: `predictions/env_step_<n>` in the run's folder,
    and `env_step_<n>_2` if that is there. A checkpoint that lies outside of a run has `predictions/<its name>` beside
    it, an agent without a checkpoint `predictions/<env>` where the command is given.

    Args:
        output_dir: takes the place of `predictions`.

    """

    def __init__(self, output_dir: str | None = None) -> None:
        self.output_dir = output_dir
        self._folder = Path()

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Make the folder.

        Raises:
            ConfigError: if that cannot be done.

        """
        folder = self._folder_of(trainer, pl_module)
        try:
            self._folder = _make_new(folder)
        except OSError as error:
            raise ConfigError(
                f"trajectories.output_dir: {folder} cannot be made ({error.strerror}); set --trajectories.output_dir "
                "to a folder that you may write to."
            ) from error

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
        saved = [folder / f"{name}.npz"]
        np.savez_compressed(
            saved[0],
            seed=batch.seed,
            observation=batch.observation,
            action=batch.action,
            reward=batch.reward,
            terminated=batch.terminated,
        )
        if batch.pictures:
            saved.append(Animation(batch.pictures, batch.fps).save(folder / name))
        seen_as_it_is = not trainer.datamodule.wrappers  # type: ignore[attr-defined]
        world = trainer.predict_dataloaders.envs.unwrapped if seen_as_it_is else None  # type: ignore[union-attr]
        for suffix, figure in _pictures(world, pl_module, batch, batch_idx):
            saved.append(folder / f"{name}{suffix}.png")
            figure.savefig(saved[-1], dpi=100)
        end = "terminated" if batch.terminated else "cut at the cap on its steps"
        log.info(
            "episode %d: return %s, %d steps, %s: %s",
            batch_idx + 1,
            f"{batch.reward.sum():,.2f}",
            len(batch.action),
            end,
            ", ".join(map(str, saved)),
        )

    def _folder_of(self, trainer: lightning.Trainer, agent: Any) -> Path:
        parent, name = Path(), env_name(trainer.datamodule.env_id)  # type: ignore[attr-defined]
        if trainer.ckpt_path is not None:
            checkpoint = Path(trainer.ckpt_path)
            parent = folder_of_checkpoint(checkpoint)
            name = checkpoint.stem if parent == checkpoint.parent else f"env_step_{agent.env_step}"
        parent = parent / "predictions" if self.output_dir is None else Path(self.output_dir)
        return parent / name


def _make_new(folder: Path) -> Path:
    """The folder, or the first of `<folder>_2`, `<folder>_3`, ... that is not there yet."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    numbered, number = folder, 1
    while True:
        try:
            numbered.mkdir()
        except FileExistsError:
            number += 1
            numbered = folder.with_name(f"{folder.name}_{number}")
        else:
            return numbered


def _pictures(world: Any, agent: Any, trajectory: Trajectory, number: int) -> list[tuple[str, Figure]]:
    """Figures of an episode, each with the end of its file's name."""
    figures = []
    if isinstance(world, GridWorld):
        path = grid_path(world, trajectory.observation)
        title = f"return {trajectory.reward.sum():,.2f} in {len(trajectory.action):,} steps"
        figures.append(("", draw_agent(world, agent, frame_stack=trajectory.frame_stack, path=path, title=title)))
    if number == 0 and trajectory.has_images:
        figures.append(("_saliency", draw_episode_saliency(agent, trajectory)))
    return figures
