"""Two renderings of a grid world: grey pixels for networks, and colours for people."""

import cv2
import numpy as np
from numpy.typing import NDArray

from lit_dqn.envs.grid.layouts import Cell, GridLayout

Pixels = NDArray[np.uint8]

IMAGE_HEIGHT, IMAGE_WIDTH = 50, 84  # the lesson's image
# Black on white, as in the lesson. On a black background E4 of the lesson does not learn: with few bright pixels all
# Q-values fall together, and the greedy agent does not move.
BACKGROUND_GREY, CLIFF_GREY, WALL_GREY, GOAL_GREY, AGENT_GREY = 255, 210, 110, 180, 0


class GridImage:
    """The grey image of a grid, uint8 [1, 50, 84]: whole cells, the lowest row at the bottom.

    Raises ValueError if the grid has more rows or columns than the image has pixels.
    """

    shape = (1, IMAGE_HEIGHT, IMAGE_WIDTH)

    def __init__(self, layout: GridLayout) -> None:
        if layout.rows > IMAGE_HEIGHT or layout.columns > IMAGE_WIDTH:
            raise ValueError(
                f"size=({layout.rows}, {layout.columns}) does not fit into an image of {IMAGE_HEIGHT} x {IMAGE_WIDTH} "
                f"pixels; give at most {IMAGE_HEIGHT} rows and {IMAGE_WIDTH} columns, or observation='index'"
            )
        # With floor division, unlike rounding halves to even, two edges never coincide.
        row_edges = [row * IMAGE_HEIGHT // layout.rows for row in range(layout.rows + 1)]
        column_edges = [column * IMAGE_WIDTH // layout.columns for column in range(layout.columns + 1)]
        self._pixels_of_state = [
            (
                0,
                slice(IMAGE_HEIGHT - row_edges[row + 1], IMAGE_HEIGHT - row_edges[row]),
                slice(column_edges[column], column_edges[column + 1]),
            )
            for row, column in map(layout.cell_of, range(layout.num_states))
        ]
        self._without_agent: Pixels = np.full(self.shape, BACKGROUND_GREY, np.uint8)
        greys = ((layout.walls, WALL_GREY), (layout.cliff, CLIFF_GREY), (layout.goals, GOAL_GREY))
        for cells, grey in greys:
            for cell in cells:
                self._without_agent[self._pixels_of_state[layout.state_of(cell)]] = grey

    def with_agent(self, state: int) -> Pixels:
        """A new array: the grid with the agent in `state`."""
        image = self._without_agent.copy()
        image[self._pixels_of_state[state]] = AGENT_GREY
        return image


# RGB after Okabe & Ito, whose colours colour-blind people can distinguish.
FLOOR = (250, 249, 245)
LINE = (222, 220, 212)
WALL = (74, 78, 88)
CLIFF = (213, 94, 0)
CLIFF_HATCH = (150, 58, 0)
START = (206, 232, 247)
GOAL = (0, 158, 115)
LETTER = (40, 60, 80)
WIND = (150, 190, 215)
AGENT = (0, 90, 160)
WHITE = (255, 255, 255)

CELL = 56  # pixels
MARGIN = 8
# With this shift cv2 takes coordinates in 1/16 pixel, so that anti-aliased shapes are exactly centred.
SHIFT = 4


def draw_picture(layout: GridLayout, state: int) -> Pixels:
    """The grid for people: RGB uint8 [56 * rows + 16, 56 * columns + 16, 3], with the agent as a disc."""
    height, width = CELL * layout.rows + 2 * MARGIN, CELL * layout.columns + 2 * MARGIN
    picture: Pixels = np.full((height, width, 3), WALL, np.uint8)
    for grid_state in range(layout.num_states):
        _draw_cell(picture, layout, layout.cell_of(grid_state))
    _draw_agent(picture, layout, layout.cell_of(state))
    return picture


def _corner(layout: GridLayout, cell: Cell) -> tuple[int, int]:
    row, column = cell
    return MARGIN + column * CELL, MARGIN + (layout.rows - 1 - row) * CELL


def _draw_cell(picture: Pixels, layout: GridLayout, cell: Cell) -> None:
    if cell in layout.walls:
        return
    left, top = _corner(layout, cell)
    inside = picture[top : top + CELL, left : left + CELL]
    inside[:] = LINE
    inside[1:-1, 1:-1] = FLOOR
    wind = layout.wind_at(cell[1])
    if cell in layout.cliff:
        ground = inside[1:-1, 1:-1]
        ground[:] = CLIFF
        for offset in range(-CELL, CELL, 14):
            _line(ground, (offset, CELL), (offset + CELL, 0), CLIFF_HATCH, 2)
    elif cell in layout.goals:
        inside[1:-1, 1:-1] = GOAL
        number = str(layout.goals.index(cell) + 1) if len(layout.goals) > 1 else ""
        _letter(inside, "G" + number, WHITE)
    elif cell == layout.start:
        inside[1:-1, 1:-1] = START
        _letter(inside, "S", LETTER)
    elif wind:
        for arrow in range(wind):
            middle = CELL // 2 + (arrow * 2 - (wind - 1)) * 9
            _line(inside, (middle, 40), (middle, 17), WIND, 3)
            _line(inside, (middle - 6, 24), (middle, 17), WIND, 3)
            _line(inside, (middle + 6, 24), (middle, 17), WIND, 3)


def _draw_agent(picture: Pixels, layout: GridLayout, cell: Cell) -> None:
    left, top = _corner(layout, cell)
    middle = (int((left + CELL / 2 - 0.5) * 2**SHIFT), int((top + CELL / 2 - 0.5) * 2**SHIFT))
    for radius, colour in ((0.36 * CELL, WHITE), (0.31 * CELL, AGENT)):
        cv2.circle(picture, middle, int(radius * 2**SHIFT), colour, cv2.FILLED, cv2.LINE_AA, SHIFT)


def _line(
    picture: Pixels,
    start: tuple[int, int],
    end: tuple[int, int],
    colour: tuple[int, int, int],
    thickness: int,
) -> None:
    cv2.line(picture, start, end, colour, thickness, cv2.LINE_AA)


def _letter(picture: Pixels, text: str, colour: tuple[int, int, int]) -> None:
    font, scale, thickness = cv2.FONT_HERSHEY_SIMPLEX, 0.9, 2
    # In cv2 5 getTextSize returns more than the height of a capital letter, which is 18 pixels at this scale.
    (width, _), _ = cv2.getTextSize(text, font, scale, thickness)
    bottom_left = ((CELL - width) // 2, (CELL + 18) // 2)
    cv2.putText(picture, text, bottom_left, font, scale, colour, thickness, cv2.LINE_AA)
