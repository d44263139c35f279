"""An episode as an animation."""

import base64
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

SMALL_PICTURES, SMALL_WIDTH = 100, 360

WATCHED_SIZE = 640
"""Small pictures are enlarged up to this length of the longer side, in pixels."""

GIF_BYTES = 1e9
"""The most bytes of enlarged pictures in memory; a GIF needs all of them."""


@dataclass(frozen=True, repr=False)
class Animation:
    """A sequence of pictures; a notebook shows them as a GIF.

    Args:
        pictures: each RGB uint8 [height, width, 3].
        fps: pictures per second.

    """

    pictures: Sequence[NDArray[np.uint8]]
    fps: float

    def save(self, path: str | Path) -> Path:
        """Write a file and return its path. Small pictures are enlarged by an integer factor, so each pixel is a
        square.

        Args:
            path: ends in .mp4 or .gif; without a suffix it is an mp4 if imageio-ffmpeg is installed (the extra
                `video`), otherwise a GIF.

        Raises:
            ValueError: if there are no pictures.

        """
        if not len(self.pictures):
            raise ValueError("there are no pictures to animate; the env cannot be rendered")
        path = Path(path)
        height, width = self.pictures[0].shape[:2]
        factor = max(1, WATCHED_SIZE // max(height, width))
        if not path.suffix:
            path = path.with_suffix(".mp4" if importlib.util.find_spec("imageio_ffmpeg") is not None else ".gif")
        if path.suffix == ".mp4":
            # The codec takes only even heights and widths. FFmpeg enlarges, so memory holds only the small pictures.
            even = np.stack(self.pictures)[:, : height // 2 * 2, : width // 2 * 2]
            enlarge = ["-vf", f"scale=iw*{factor}:ih*{factor}:flags=neighbor"]
            iio.imwrite(path, even, fps=self.fps, codec="libx264", macro_block_size=2, output_params=enlarge)
        else:
            pictures = np.stack(self.pictures)
            factor = max(1, min(factor, int((GIF_BYTES / pictures.nbytes) ** 0.5)))
            enlarged = pictures.repeat(factor, axis=1).repeat(factor, axis=2)
            iio.imwrite(path, enlarged, duration=1000 / self.fps, loop=0)
        return path

    def __repr__(self) -> str:
        return f"Animation of {len(self.pictures)} pictures, {self.fps:g} a second"

    def small_gif(self) -> tuple[bytes, int, int]:
        """A small GIF: fewer pictures, at the same speed, and of intermediate size.

        Returns:
            The file, its height and width in pixels.

        """
        every = -(-len(self.pictures) // SMALL_PICTURES)
        width = self.pictures[0].shape[1]
        zoom = SMALL_WIDTH / width if width > SMALL_WIDTH else SMALL_WIDTH // width
        how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_NEAREST
        small = [cv2.resize(picture, None, fx=zoom, fy=zoom, interpolation=how) for picture in self.pictures[::every]]
        gif = iio.imwrite("<bytes>", np.stack(small), extension=".gif", duration=1000 * every / self.fps, loop=0)
        return gif, *small[0].shape[:2]

    def _repr_html_(self) -> str:
        gif, _, _ = self.small_gif()
        return f'<img alt="an episode" src="data:image/gif;base64,{base64.b64encode(gif).decode()}">'
