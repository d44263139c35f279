"""The positions of start, goals, walls, cliff and wind in the grid worlds, without time, rewards or pictures.

Rows count from the **bottom**, columns from the left, both from 0; a state is `row * columns + column`.
The worlds are those of Sutton & Barto (2020): the maze of figure 8.2, the windy grid of example 6.5, the cliff of
example 6.6 and the random walk of example 6.2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral

Cell = tuple[int, int]

# Worlds with 2 or 4 actions use the first 2 or 4 of these.
ACTION_NAMES = ("left", "right", "down", "up", "left-down", "left-up", "right-down", "right-up")
MOVES: tuple[Cell, ...] = ((0, -1), (0, 1), (-1, 0), (1, 0), (-1, -1), (1, -1), (-1, 1), (1, 1))

WIND_OF_EXAMPLE_6_5 = (0, 0, 0, 1, 1, 1, 2, 2, 1, 0)


@dataclass(frozen=True)
class GridLayout:
    """The fixed parts of a grid world, as (row, column) cells.

    `goals` holds one or two cells, goal 1 first; entering a goal ends the episode. `wind` is the upward strength in
    cells of each column, or empty if there is no wind.

    Raises ValueError if a cell lies outside the grid, or start, goals, walls and cliff overlap.
    """

    rows: int
    columns: int
    start: Cell
    goals: tuple[Cell, ...]
    walls: frozenset[Cell] = frozenset()
    cliff: frozenset[Cell] = frozenset()
    wind: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        special = [self.start, *self.goals, *sorted(self.walls), *sorted(self.cliff)]
        outside = [cell for cell in special if not self.contains(cell)]
        if outside:
            raise ValueError(f"cell {outside[0]} lies outside the {self.rows} x {self.columns} grid; move it inside")
        if len(set(special)) < len(special):
            raise ValueError("start, goals, walls and cliff share a cell; give each cell one meaning")
        if len(self.goals) not in (1, 2):
            raise ValueError(f"goals has {len(self.goals)} cells; give one or two")
        if len(self.wind) not in (0, self.columns):
            raise ValueError(f"wind has {len(self.wind)} strengths; give one for each of the {self.columns} columns")

    @property
    def num_states(self) -> int:
        return self.rows * self.columns

    def state_of(self, cell: Cell) -> int:
        row, column = cell
        return row * self.columns + column

    def cell_of(self, state: int) -> Cell:
        return divmod(state, self.columns)

    def contains(self, cell: Cell) -> bool:
        row, column = cell
        return 0 <= row < self.rows and 0 <= column < self.columns

    def can_enter(self, cell: Cell) -> bool:
        return self.contains(cell) and cell not in self.walls

    def acts_in(self, cell: Cell) -> bool:
        """Whether an agent can choose an action here: not in a wall, in a goal, or on the cliff."""
        return self.can_enter(cell) and cell not in self.goals and cell not in self.cliff

    @property
    def acting_states(self) -> list[int]:
        """The states in which an agent chooses an action, ascending."""
        return [state for state in range(self.num_states) if self.acts_in(self.cell_of(state))]

    def wind_at(self, column: int) -> int:
        return self.wind[column] if self.wind else 0


def maze(rows: int, columns: int) -> GridLayout:
    """The maze of S&B figure 8.2 at 6 x 9; other sizes keep its three walls, generalised (at least 4 x 9)."""
    _require(rows >= 4 and columns >= 9, rows, columns, "the maze's three walls need at least 4 rows and 9 columns")
    left_wall = {(row, 2) for row in range(2, rows - 1)}
    low_wall = {(1, column) for column in range(5, columns - 3)}
    right_wall = {(row, columns - 2) for row in range(3, rows)}
    return GridLayout(
        rows,
        columns,
        start=(rows // 2, 0),
        goals=((rows - 1, columns - 1),),
        walls=frozenset(left_wall | low_wall | right_wall),
    )


def open_grid(rows: int, columns: int) -> GridLayout:
    """An empty grid; start and goal in the (lower) middle row, 1 from the left and 3 from the right edge."""
    _require(columns >= 6, rows, columns, "start and goal of the grid need at least 6 columns")
    middle = (rows - 1) // 2
    return GridLayout(rows, columns, start=(middle, 1), goals=((middle, columns - 4),))


def windy_grid(rows: int, columns: int) -> GridLayout:
    """The windy grid of S&B example 6.5; only the number of rows can vary, because the wind is defined for 10
    columns.
    """
    _require(columns == 10, rows, columns, "the wind is given for exactly 10 columns")
    middle = rows // 2
    return GridLayout(rows, columns, start=(middle, 0), goals=((middle, 7),), wind=WIND_OF_EXAMPLE_6_5)


def cliff_walk(rows: int, columns: int) -> GridLayout:
    """The cliff of S&B example 6.6: the whole bottom row between start (left) and goal (right)."""
    _require(rows >= 2 and columns >= 3, rows, columns, "the cliff walk needs at least 2 rows and 3 columns")
    cliff = frozenset((0, column) for column in range(1, columns - 1))
    return GridLayout(rows, columns, start=(0, 0), goals=((0, columns - 1),), cliff=cliff)


def random_walk(rows: int, columns: int) -> GridLayout:
    """The random walk of S&B example 6.2: one row with the start in the middle; the left end is goal 1, the right end
    goal 2.
    """
    _require(
        rows == 1 and columns >= 3 and columns % 2 == 1,
        rows,
        columns,
        "the random walk is 1 row of an odd number of columns (3 or more), so that it has a middle",
    )
    return GridLayout(rows, columns, start=(0, columns // 2), goals=((0, 0), (0, columns - 1)))


LAYOUTS: dict[str, Callable[[int, int], GridLayout]] = {
    "maze": maze,
    "grid": open_grid,
    "windy_grid": windy_grid,
    "cliff_walk": cliff_walk,
    "random_walk": random_walk,
}


def build_layout(world: str, size: Sequence[int]) -> GridLayout:
    """Build the layout of a world in LAYOUTS; `size` is (rows, columns). Raises ValueError if either does not fit."""
    if world not in LAYOUTS:
        raise ValueError(f"world={world!r} is unknown; give one of {', '.join(LAYOUTS)}")
    if (
        isinstance(size, str)
        or not isinstance(size, Sequence)
        or len(size) != 2
        or not all(isinstance(length, Integral) and length >= 1 for length in size)
    ):
        raise ValueError(f"size={size!r} is not a grid's size; give two whole numbers from 1 up, (rows, columns)")
    rows, columns = size
    return LAYOUTS[world](int(rows), int(columns))


def _require(fits: bool, rows: int, columns: int, rule: str) -> None:
    if not fits:
        raise ValueError(f"size=({rows}, {columns}) does not fit this world: {rule}; give such a size (rows, columns)")
