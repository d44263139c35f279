import importlib.util
import logging
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import lightning
import numpy as np
from lightning.pytorch.callbacks import Callback

log = logging.getLogger("lit_dqn")


class TrajectoryWriter(Callback):
    """Saves what `predict` has seen: for each episode a picture that moves, and its numbers as `.npz`.

    An mp4 is written if imageio-ffmpeg is installed (the extra `video`), a GIF otherwise.

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
        folder = Path(self.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"episode_{batch_idx + 1}.npz"
        np.savez_compressed(
            path,
            seed=batch.seed,
            observation=batch.observation,
            action=batch.action,
            reward=batch.reward,
            terminated=batch.terminated,
        )
        saved = [path]
        if batch.pictures:
            saved.append(_save_video(folder / f"episode_{batch_idx + 1}", batch.pictures, batch.fps))
        end = "terminated" if batch.terminated else "cut at the cap on its steps"
        log.info(
            "episode %d: return %g, %d steps, %s: %s",
            batch_idx + 1,
            batch.reward.sum(),
            len(batch.action),
            end,
            ", ".join(map(str, saved)),
        )


def _save_video(path: Path, pictures: list[np.ndarray], fps: float) -> Path:
    if importlib.util.find_spec("imageio_ffmpeg") is not None:
        path = path.with_suffix(".mp4")
        # The codec takes even heights and widths only.
        height, width = (size // 2 * 2 for size in pictures[0].shape[:2])
        even = np.stack(pictures)[:, :height, :width]
        iio.imwrite(path, even, fps=fps, codec="libx264", macro_block_size=2)
    else:
        path = path.with_suffix(".gif")
        iio.imwrite(path, np.stack(pictures), duration=1000 / fps, loop=0)
    return path
