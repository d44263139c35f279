"""An episode as a picture that moves."""

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
"""Pixels of the longer side up to which small pictures are enlarged, so that people can watch them."""

GIF_BYTES = 1e9
"""Of enlarged pictures at once; a GIF has no other way."""


@dataclass(frozen=True, repr=False)
class Animation:
    """Pictures in their order; a notebook shows them as a GIF.

    Args:
        pictures: each RGB uint8 [height, width, 3].
        fps: pictures per second.

    """

    pictures: Sequence[NDArray[np.uint8]]
    fps: float

    def save(self, path: str | Path) -> Path:
        """Write a file and give its path. Small pictures are enlarged by a whole factor, each pixel a square.

        Args:
            path: ends in .mp4 or .gif; without an ending it is an mp4 if imageio-ffmpeg is installed (the extra
                `video`), else a GIF.

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
            # The codec takes even heights and widths only. FFmpeg enlarges: memory holds the small pictures.
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
        """A GIF that takes little room: fewer pictures, at the same speed, and of a size between.

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
