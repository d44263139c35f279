"""What the command line does, in a few lines of Python: the same parser, the same objects, the same errors.

run = lit_dqn.Run.from_config("configs/maze_fast.yaml", {"stop.max_episodes": 50})
run.fit()
run.evaluate()["eval/mean_reward"], run.agent.act(observation), run.plot()
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import lightning
from matplotlib.figure import Figure

from lit_dqn import plots
from lit_dqn.callbacks import LiveView, run_folder
from lit_dqn.commands.inputs import word_of
from lit_dqn.commands.prepared import Prepared
from lit_dqn.envs import make_env
from lit_dqn.envs.grid.world import GridWorld
from lit_dqn.errors import ConfigError
from lit_dqn.playing.trajectories import Trajectory
from lit_dqn.saving.io import ReplayCheckpointIO
from lit_dqn.saving.specification import check_forgets_nothing, specification
from lit_dqn.training.agent import LitAgent
from lit_dqn.training.data import ReplayDataModule

Paths = str | Path | Sequence[str | Path]


class Run:
    """One run: an agent, the data that it learns from, and the trainer; created by `from_config`.

    Attributes:
        agent: a `LitDQN`, `LitTD` or `LitActorCritic`.
        data: env and replay, and how they feed the updates.
        trainer: Lightning's; `fit` uses it.

    """

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self.agent: LitAgent = prepared.model
        self.data: ReplayDataModule = prepared.datamodule
        self.trainer: lightning.Trainer = prepared.trainer

    @classmethod
    def from_config(
        cls,
        config: Paths,
        overrides: Mapping[str, Any] | None = None,
        *,
        ckpt_path: str | Path | None = None,
    ) -> "Run":
        """What `python -m lit_dqn fit --config ... --key=value` builds before it starts.

        Args:
            config: a YAML file, or several; later files override earlier ones.
            overrides: values by dotted key, as on the command line: {"data.capacity": 500}. A value may also be a
                class, a `functools.partial` of one, or an object such as `EpsilonGreedy(0.1)`. Texts inside of a
                mapping, a list or an object, and below `data.env_kwargs`, stay texts; others are read like words of
                the command line.
            ckpt_path: `last` or `best` of the run of that name, a run's folder, or a file. The agent has its weights
                and its env step at once; `fit` resumes from it.

        Raises:
            ConfigError: if a key does not exist, a value is invalid, or the checkpoint does not fit.

        """
        files = [config] if isinstance(config, str | Path) else config
        arguments = ["fit", *(f"--config={file}" for file in files)]
        for key, value in (overrides or {}).items():
            check_forgets_nothing(value)
            arguments.append(word_of(key, specification(value)))
        if ckpt_path is not None:
            arguments.append(f"--ckpt_path={ckpt_path}")
        run = cls(Prepared(arguments))
        found = run._prepared.config["fit"].ckpt_path
        if found is not None:
            checkpoint_io = cast(ReplayCheckpointIO, run.trainer.strategy.checkpoint_io)
            checkpoint = checkpoint_io.read(found)
            run.agent.load_state_dict(checkpoint.weights())
            run.agent.env_step = checkpoint.env_step
        return run

    @property
    def folder(self) -> Path:
        """Where the run keeps its curves, checkpoints and pictures."""
        folder = run_folder(self.trainer)
        assert folder is not None  # as on the command line, where every run has one
        return folder

    def fit(self, *, live: bool = False) -> "Run":
        """Train until a stopping rule ends it.

        Args:
            live: show the progress in the notebook, at most twice a second (`LiveView`).

        Returns:
            The run itself.

        Raises:
            ConfigError: if the run was fitted before, or `live` is asked for outside of a notebook.
            TrainingError: if the loss is NaN or infinite.
            KeyboardInterrupt: if it was interrupted; `last` is then the checkpoint of that moment.

        """
        if self.trainer.global_step > 0:
            raise ConfigError(
                "fit: this run has been trained; make another by Run.from_config, with ckpt_path='last' to resume it."
            )
        if live:
            self.trainer.callbacks.append(LiveView())  # type: ignore[attr-defined]
        try:
            self._prepared.run()
        except SystemExit as error:
            # On the command line an interrupted run ends the process; in a notebook the process continues.
            raise KeyboardInterrupt("interrupted; resume with ckpt_path='last'") from error
        return self

    def evaluate(self) -> dict[str, float]:
        """Evaluation episodes without learning, as `python -m lit_dqn validate` plays them.

        Returns:
            The metrics that are logged as `eval/...`: mean_reward, std_reward, mean_ep_length, episodes,
            truncated_episodes, and for policy evaluation the errors of V.

        """
        return dict(self._trainer().validate(self.agent, datamodule=self.data, verbose=False)[0])

    def watch(self, episodes: int = 1) -> list[Trajectory]:
        """Episodes without learning, with all observations and actions, as `python -m lit_dqn predict` plays them.

        Args:
            episodes: their number; beyond `data.eval_episodes` they go on with seeds of their own.

        Raises:
            ConfigError: if it is less than 1.

        """
        if not isinstance(episodes, int) or episodes < 1:
            raise ConfigError(f"episodes: {episodes!r} must be a whole number, at least 1, such as watch(episodes=1).")
        self.data.watched_episodes = episodes
        try:
            return cast(list[Trajectory], self._trainer().predict(self.agent, datamodule=self.data))
        finally:
            self.data.watched_episodes = None

    def _trainer(self) -> lightning.Trainer:
        # The trainer of `fit` would write into the run's folder, with updates on the x-axis.
        return lightning.Trainer(
            accelerator=self.trainer.accelerator,
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    # --- pictures ---

    def plot(self, *, smooth: int = 10) -> Figure:
        """Steps and return per episode (`plots.plot_episodes`).

        Raises:
            ValueError: if no episode has ended yet.

        """
        return plots.plot_episodes(self.folder, smooth=smooth)

    def draw(self) -> Figure:
        """The grid world with V, the greedy actions, and the path of an episode without learning.

        Raises:
            ConfigError: if the env is not a grid world.

        """
        world, (trajectory,) = self.world, self.watch()
        path = plots.grid_path(world, trajectory.observation)
        title = (
            f"an episode without learning: return {trajectory.reward.sum():,.2f} in {len(trajectory.action):,} steps"
        )
        return plots.draw_agent(world, self.agent, frame_stack=self.data.frame_stack, path=path, title=title)

    def animate(self) -> plots.Animation:
        """An episode without learning as an animation.

        Raises:
            ConfigError: if the env cannot be drawn.

        """
        (trajectory,) = self.watch()
        if not trajectory.pictures:
            raise ConfigError(
                f"env_id: {self.data.env_id!r} offers no pictures; give its class render_mode 'rgb_array'."
            )
        return plots.Animation(trajectory.pictures, trajectory.fps)

    def saliency(self, moments: int = 4) -> Figure:
        """What the network looks at, at selected steps of an episode without learning (`plots.saliency`).

        Raises:
            ValueError: if the agent sees no images.

        """
        return plots.draw_episode_saliency(self.agent, self.watch()[0], moments)

    @property
    def world(self) -> GridWorld:
        """A separate env of the grid world that the run plays in.

        Raises:
            ConfigError: if the env is not a grid world, or wrappers change its observations.

        """
        if self.data.wrappers:
            raise ConfigError(
                "wrappers: the agent sees what they make of the world, and this picture cannot say where."
            )
        world = make_env(self.data.env_id, self.data.env_kwargs, self.data.wrappers).unwrapped
        if not isinstance(world, GridWorld):
            raise ConfigError(f"env_id: {self.data.env_id!r} is not a grid world; this picture is made for those only.")
        return world
