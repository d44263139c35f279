import logging
from pathlib import Path
from typing import Any

import lightning
import numpy as np
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure

from lit_dqn.envs.grid import GridWorld
from lit_dqn.evaluation import Trajectory
from lit_dqn.plots import Animation, draw_agent, draw_episode_saliency, grid_path

log = logging.getLogger("lit_dqn")


class TrajectoryWriter(Callback):
    """Saves what `predict` has seen: for each episode a picture that moves, and its numbers as `.npz`.

    In a grid world also a picture of the way that the agent went; where the agent sees images, a saliency map at some
    moments of the first episode. An mp4 is written if imageio-ffmpeg is installed (the extra `video`), a GIF otherwise.

    Args:
        output_dir: where the files go.

    """

    def __init__(self, output_dir: str = "predictions") -> None:
        self.output_dir = output_dir

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
        folder = Path(self.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
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
            "episode %d: return %g, %d steps, %s: %s",
            batch_idx + 1,
            batch.reward.sum(),
            len(batch.action),
            end,
            ", ".join(map(str, saved)),
        )


def _pictures(world: Any, agent: Any, trajectory: Trajectory, number: int) -> list[tuple[str, Figure]]:
    """Figures of an episode, each with the end of its file's name."""
    figures = []
    if isinstance(world, GridWorld):
        path = grid_path(world, trajectory.observation)
        title = f"return {trajectory.reward.sum():g} in {len(trajectory.action):,} steps"
        figures.append(("", draw_agent(world, agent, frame_stack=trajectory.frame_stack, path=path, title=title)))
    if number == 0 and trajectory.has_images:
        figures.append(("_saliency", draw_episode_saliency(agent, trajectory)))
    return figures
