"""Atari games, played by ALE's own C++ vector env (ale-py), with an explicit protocol."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from lit_dqn.errors import ConfigError, TrainingError
from lit_dqn.worker import Worker

SCREEN_HEIGHT, SCREEN_WIDTH = 210, 160

ANSWER_SECONDS = 60.0
"""The longest time for one step, in seconds; the slowest games take milliseconds."""


def is_atari(env_id: str) -> bool:
    """Whether an id names a game of ALE, such as `ALE/Pong-v5`."""
    return env_id.startswith("ALE/")


@dataclass(frozen=True)
class AtariProtocol:
    """How a game is played and rendered: the possible `env_kwargs` of an ALE id.

    The defaults are those of `ALE/...-v5` (Machado et al. 2018), with the image of Mnih et al. (2015).

    Args:
        frameskip: number of frames for which each action is repeated; one agent step.
        repeat_action_probability: "sticky actions": the probability, in each frame, that the previous action is
            repeated.
        full_action_space: all 18 actions of the joystick in place of those that the game uses.
        max_num_frames_per_episode: frames after which a game is truncated.
        noop_max: a game begins with 1 to `noop_max` frames without action, drawn with its seed; 0: none.
        fire_reset: press fire at the beginning of a game that waits for it.
        life_loss_is_terminal: the loss of a life has no future *for learning*, but the game continues.
        screen_size: height and width of the grey image, pixels.
        maxpool: each image is the maximum of the last two frames, against flicker.

    Raises:
        ConfigError: if a value has another type or is out of its range.

    """

    frameskip: int = 4
    repeat_action_probability: float = 0.25
    full_action_space: bool = False
    max_num_frames_per_episode: int = 108_000
    noop_max: int = 0
    fire_reset: bool = False
    life_loss_is_terminal: bool = False
    screen_size: int = 84
    maxpool: bool = True

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            wanted = type(field.default)
            if type(value) is int and wanted is float:
                object.__setattr__(self, field.name, float(value))
            elif type(value) is not wanted:
                raise ConfigError(
                    f"env_kwargs.{field.name}: {value!r} must be of type {wanted.__name__}, such as {field.default}."
                )
        for name in ("frameskip", "max_num_frames_per_episode", "screen_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"env_kwargs.{name}: {getattr(self, name)} must be at least 1.")
        if not 0 <= self.repeat_action_probability < 1:
            raise ConfigError(
                f"env_kwargs.repeat_action_probability: {self.repeat_action_probability} must lie in [0, 1); "
                "0 plays every action, 0.25 is ALE's standard."
            )
        if self.noop_max < 0:
            raise ConfigError(f"env_kwargs.noop_max: {self.noop_max} must not be negative; 0 means none.")

    @classmethod
    def of(cls, env_id: str, env_kwargs: Mapping[str, Any]) -> "AtariProtocol":
        """The protocol of an id, changed by `env_kwargs`.

        Raises:
            ConfigError: if there is no such game or key, or a value is out of its range.

        """
        names = [field.name for field in fields(cls)]
        for key in env_kwargs:
            if key not in names:
                near = difflib.get_close_matches(key, names, n=1, cutoff=0.6)
                raise ConfigError(
                    f"env_kwargs.{key}: ALE games have no such key; "
                    + (f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}.")
                )
        meant = {key: value for key, value in _game_spec(env_id).kwargs.items() if key in names}
        return replace(cls(**meant), **env_kwargs)

    def describe(self) -> dict[str, Any]:
        """The protocol as plain values, for reporting it with a score."""
        return asdict(self)


def _game_spec(env_id: str) -> Any:
    try:
        import ale_py
    except ImportError as error:
        raise ConfigError(
            f"env_id: {env_id!r} needs the package ale-py, which is not installed; install the extra atari: "
            "pip install 'lit-dqn[atari]', in a clone pip install -e '.[atari]'."
        ) from error
    gymnasium.register_envs(ale_py)  # importing it registers the games
    if env_id not in gymnasium.registry:
        games = [name for name in gymnasium.registry if is_atari(name)]
        near = difflib.get_close_matches(env_id, games, n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {len(games)}, such as ALE/Pong-v5."
        raise ConfigError(f"env_id: there is no game {env_id!r}; {hint}")
    spec = gymnasium.spec(env_id)
    if not ale_py.roms.get_rom_path(spec.kwargs["game"]):
        raise ConfigError(
            f"env_id: {env_id!r} has no ROM in this installation of ale-py; reinstall it with "
            "pip install --force-reinstall ale-py."
        )
    return spec


class AtariVec(VectorEnv):
    """N parallel games on ALE's own threads, with one grey frame [screen_size, screen_size] each.

    It does not reset itself: the caller resets finished games with `reset_mask`. The same seed and actions give the
    same game, whatever the other games do. Infos hold `life_lost` [N] if the protocol uses it.

    Args:
        env_id: such as `ALE/Pong-v5`.
        num_envs: N.
        protocol: how games are played.
        in_colour: frames are RGB screens [210, 160, 3] instead, for people.

    Raises:
        ConfigError: if there is no such game, or ale-py is not installed.

    """

    def __init__(self, env_id: str, num_envs: int, protocol: AtariProtocol, *, in_colour: bool = False) -> None:
        spec = _game_spec(env_id)
        from ale_py.vector_env import AtariVectorEnv

        height, width = (SCREEN_HEIGHT, SCREEN_WIDTH) if in_colour else (protocol.screen_size, protocol.screen_size)
        self.env_id = env_id
        self.protocol = protocol
        self.num_envs = num_envs
        self._ale = AtariVectorEnv(
            spec.kwargs["game"],
            num_envs,
            max_num_frames_per_episode=protocol.max_num_frames_per_episode,
            repeat_action_probability=protocol.repeat_action_probability,
            full_action_space=protocol.full_action_space,
            # ALE has no mode without auto-reset. Games are reset by mask before the step that would reset them.
            autoreset_mode=AutoresetMode.NEXT_STEP,
            img_height=height,
            img_width=width,
            grayscale=not in_colour,
            stack_num=1,  # only the replay stacks frames, for acting and for sampling
            frameskip=protocol.frameskip,
            maxpool=protocol.maxpool,
            noop_max=protocol.noop_max,
            reward_clipping=False,
            use_fire_reset=protocol.fire_reset,
        )
        self.metadata = {"autoreset_mode": AutoresetMode.DISABLED, "render_fps": 60 / protocol.frameskip}
        self.num_actions = len(self._ale.ale.get_action_set())
        colours = (3,) if in_colour else ()
        self.single_observation_space = spaces.Box(0, 255, (height, width, *colours), np.uint8)
        self.single_action_space = spaces.Discrete(self.num_actions)
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, num_envs)
        self._lives = np.zeros(num_envs, np.int32)
        self._ended = np.ones(num_envs, bool)
        self._steps = 0
        self._worker = Worker()

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Begin games, all or those in `options["reset_mask"]` [N].

        Args:
            seed: of each game [N] that begins; a single number seeds them consecutively.
            options: only `reset_mask`.

        Returns:
            The frames of all games [N, *shape], and infos.

        """
        mask = np.ones(self.num_envs, bool) if options is None else np.asarray(options["reset_mask"], bool)
        if seed is None or isinstance(seed, int):
            seeds = [None if seed is None else seed + env for env in range(self.num_envs)]
        else:
            seeds = list(seed)
        # ALE takes 31 bits; -1 continues with the present generator.
        begun = [seed for seed, begins in zip(seeds, mask, strict=True) if begins]
        ale_seeds = np.array([-1 if seed is None else seed % 2**31 for seed in begun], np.int64)
        frames, infos = self._answer(lambda: self._ale.reset(seed=ale_seeds, options={"reset_mask": mask}))
        self._lives = infos["lives"].copy()
        self._ended[mask] = False
        return frames[:, 0], {"lives": infos["lives"]}

    def step(
        self, actions: NDArray[np.integer]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One agent step of every game.

        Returns:
            Frames [N, *shape], the game's rewards, terminated, truncated, infos.

        Raises:
            ValueError: if an action is not one of the game's, or a finished game was not reset.
            TrainingError: if ALE does not answer.

        """
        actions = np.asarray(actions, np.int64)
        # ALE itself would wait endlessly.
        if actions.shape != (self.num_envs,) or ((actions < 0) | (actions >= self.num_actions)).any():
            raise ValueError(f"{self.env_id} takes {self.num_envs} actions below {self.num_actions}: {actions}")
        if self._ended.any():
            raise ValueError(f"{self.env_id}: games {np.flatnonzero(self._ended).tolist()} ended and were not reset")
        frames, reward, terminated, truncated, infos = self._answer(lambda: self._ale.step(actions))
        self._steps += 1
        lives = infos["lives"]
        info: dict[str, Any] = {"lives": lives}
        if self.protocol.life_loss_is_terminal:
            info["life_lost"] = lives < self._lives
        self._lives = lives.copy()
        self._ended = terminated | truncated
        return frames[:, 0], reward.astype(np.float64), terminated, truncated, info

    def _answer(self, ask: Callable[[], Any]) -> Any:
        try:
            return self._worker(ask).result(ANSWER_SECONDS)
        except TimeoutError as error:
            raise TrainingError(
                f"env_id: {self.env_id} did not answer within {ANSWER_SECONDS:g} s in step {self._steps + 1:,} of its "
                f"{self.num_envs} envs; a thread of ale-py has died."
            ) from error

    def close_extras(self, **kwargs: Any) -> None:
        """End the threads of the worker and of ALE."""
        self._worker.stop()
        del self._ale


class AtariGame(gymnasium.Env):
    """One game as a plain env; with `render_mode="rgb_array"`, `render` returns the full-colour screen.

    The screen belongs to a second game with the same seed and actions.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(self, env_id: str, protocol: AtariProtocol, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self._game = AtariVec(env_id, 1, protocol)
        self._screen = AtariVec(env_id, 1, protocol, in_colour=True) if render_mode == "rgb_array" else None
        self._picture: NDArray[np.uint8] | None = None
        self.metadata = {**type(self).metadata, "render_fps": self._game.metadata["render_fps"]}
        self.observation_space = self._game.single_observation_space
        self.action_space = self._game.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Begin a game; without a seed, with a random one."""
        super().reset(seed=seed)
        if seed is None:
            seed = int(self.np_random.integers(2**31))  # both games need the same seed
        frames, infos = self._game.reset(seed=seed)
        if self._screen is not None:
            self._picture = self._screen.reset(seed=seed)[0][0]
        return frames[0], {name: value[0] for name, value in infos.items()}

    def step(self, action: int) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """One agent step."""
        actions = np.array([action])
        frames, reward, terminated, truncated, infos = self._game.step(actions)
        if self._screen is not None:
            self._picture = self._screen.step(actions)[0][0]
        info = {name: value[0] for name, value in infos.items()}
        return frames[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> NDArray[np.uint8] | None:
        """The screen [210, 160, 3], or None without a render mode."""
        return self._picture

    def close(self) -> None:
        """End ALE's threads."""
        for game in (self._game, self._screen):
            if game is not None:
                game.close()
