"""MinAtar (Young & Tian 2019): five games of Atari on 10 x 10 cells, played by its authors' own package."""

import colorsys
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from lit_dqn.errors import ConfigError

GAMES = ("asterix", "breakout", "freeway", "seaquest", "space_invaders")
"""The package's names; the ids are `MinAtar/SpaceInvaders-v1` and so on."""

NO_OPERATION = 0
CELL_PIXELS = 16


class MinAtarGame(gymnasium.Env[Any, Any]):
    """A game of the package, with observations bool [channels, 10, 10]: each kind of object has a channel.

    An episode is a function of its seed and its actions, even with sticky actions: in the package the last action of an
    episode can stick into the next; here "no operation" precedes the first action. No episode is truncated.

    Args:
        game: one of GAMES.
        sticky_action_prob: the probability, in each step, that the previous action is repeated.
        difficulty_ramping: games that support it become harder over time.
        use_minimal_action_set: only the actions with an effect in this game, in place of all six.
        render_mode: `rgb_array`, or None.

    Raises:
        ConfigError: if the package is not installed, or a value has another type or is out of its range.

    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012 (Gymnasium's way)

    def __init__(
        self,
        game: str,
        sticky_action_prob: float = 0.1,
        difficulty_ramping: bool = True,
        use_minimal_action_set: bool = True,
        render_mode: str | None = None,
    ) -> None:
        _check(sticky_action_prob, difficulty_ramping=difficulty_ramping, use_minimal_action_set=use_minimal_action_set)
        try:
            from minatar import Environment
        except ImportError as error:
            raise ConfigError(
                f"env_id: MinAtar's {game} needs the package MinAtar, which is not installed; install the extra "
                "minatar: pip install 'lit-dqn[minatar]', in a clone pip install -e '.[minatar]'."
            ) from error
        self.render_mode = render_mode
        self._game = Environment(game, sticky_action_prob, difficulty_ramping)
        self._actions = self._game.minimal_action_set() if use_minimal_action_set else range(self._game.num_actions())
        height, width, channels = self._game.state_shape()
        self._colours = _colours(channels)
        self.action_space = spaces.Discrete(len(self._actions))
        self.observation_space = spaces.Box(0, 1, (channels, height, width), np.bool_)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.bool_], dict[str, Any]]:
        """Begin an episode; without a seed the game continues with its present generator."""
        super().reset(seed=seed)
        self._game.seed(seed)
        self._game.last_action = NO_OPERATION
        self._game.reset()
        return self._channels_first(), {}

    def step(self, action: int) -> tuple[NDArray[np.bool_], float, bool, bool, dict[str, Any]]:
        """One frame of the game."""
        reward, terminated = self._game.act(self._actions[action])
        return self._channels_first(), float(reward), terminated, False, {}

    def render(self) -> NDArray[np.uint8] | None:
        """The cells in the colours of their channels, uint8 [160, 160, 3]; None without a render mode.

        If objects overlap, the one in the first channel is on top: in each game, the player.
        """
        if self.render_mode is None:
            return None
        state = self._channels_first()
        first = np.where(state.any(axis=0), state.argmax(axis=0), len(state))
        return self._colours[first].repeat(CELL_PIXELS, axis=0).repeat(CELL_PIXELS, axis=1)

    def _channels_first(self) -> NDArray[np.bool_]:
        state: NDArray[np.bool_] = self._game.state()
        return state.transpose(2, 0, 1)


def _check(sticky_action_prob: float, **switches: bool) -> None:
    for key, value in switches.items():
        if not isinstance(value, bool):
            raise ConfigError(f"env_kwargs.{key}: {value!r} must be of type bool, such as true.")
    if not isinstance(sticky_action_prob, int | float) or not 0 <= sticky_action_prob < 1:
        raise ConfigError(
            f"env_kwargs.sticky_action_prob: {sticky_action_prob!r} must lie in [0, 1); 0 plays every action, 0.1 is "
            "the package's and the paper's."
        )


def _colours(channels: int) -> NDArray[np.uint8]:
    """[channels + 1, 3]: maximally different hues, and black for an empty cell."""
    hues = [colorsys.hsv_to_rgb(channel / channels, 0.75, 1.0) for channel in range(channels)]
    return (np.array([*hues, (0.0, 0.0, 0.0)]) * 255).astype(np.uint8)


def register_minatar() -> None:
    """Register the package's ids with Gymnasium: `-v1` with the actions of the game, `-v0` with all six."""
    for game in GAMES:
        for version, minimal in (("v0", False), ("v1", True)):
            env_id = f"MinAtar/{game.title().replace('_', '')}-{version}"
            if env_id not in gymnasium.registry:
                gymnasium.register(
                    env_id,
                    entry_point="lit_dqn.envs.minatar:MinAtarGame",
                    kwargs={"game": game, "use_minimal_action_set": minimal},
                )
