import logging
from typing import Any

import lightning
import torch
from gymnasium.wrappers import RenderCollection
from lightning.pytorch.callbacks import Callback

from lit_dqn.callbacks.datamodule import collector_of, data_of
from lit_dqn.callbacks.pictures import send_picture, send_video, takes_pictures
from lit_dqn.envs import make_env_with_pictures
from lit_dqn.errors import ConfigError, one_line
from lit_dqn.playing.trajectories import Trajectory, play_trajectories
from lit_dqn.plots import Animation, draw_episode_saliency, figure_to_array

log = logging.getLogger("lit_dqn")


class EpisodeView(Callback):
    """Logs the first evaluation episode as a video, to TensorBoard, W&B or MLflow, or to a file with a CSVLogger.

    For agents with image observations, a picture shows what they look at (`plots.draw_episode_saliency`). The beginning
    of the episode is played again for the video, after the first evaluation, every n-th after it, and at the end. This
    does not affect learning. Without any of these loggers nothing is played.

    Args:
        every_n_evaluations: number of evaluations between two videos; None: no videos.
        max_steps: number of agent steps in a video.

    Raises:
        ConfigError: if a number is below 1.

    """

    def __init__(self, every_n_evaluations: int | None = 10, max_steps: int = 300) -> None:
        for key, value, unit in (
            ("every_n_evaluations", every_n_evaluations, "evaluation"),
            ("max_steps", max_steps, "agent step"),
        ):
            if value is not None and value < 1:
                raise ConfigError(f"episode_view.{key}: {value} must be at least 1 {unit}.")
        self.every_n_evaluations = every_n_evaluations
        self.max_steps = max_steps
        self._evaluations = 0
        self._shown_at = -1  # env step
        self._gave_up = False

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Show an episode if it is due."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            # The last checkpoint records that the final episode was shown, so that a resume does not show it again.
            due = self.every_n_evaluations is not None and self._evaluations % self.every_n_evaluations == 0
            if due or trainer.should_stop:
                self._show(trainer, pl_module)
            self._evaluations += 1

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Also for runs without evaluations."""
        if trainer.should_stop:
            self._show(trainer, pl_module)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Show the trained agent."""
        self._show(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The number of evaluations, and when the last episode was shown."""
        return {"evaluations": self._evaluations, "shown_at": self._shown_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        self._evaluations = state_dict["evaluations"]
        self._shown_at = state_dict.get("shown_at", -1)

    def _show(self, trainer: lightning.Trainer, agent: Any) -> None:
        data = data_of(trainer)
        env_step = collector_of(trainer).env_step
        if self.every_n_evaluations is None or not takes_pictures(trainer) or env_step == self._shown_at:
            return
        self._shown_at = env_step  # even if nothing can be shown, so that a resumed run behaves the same
        if self._gave_up:
            return
        try:
            # The global generators must not change, because the network may draw from them later.
            with torch.random.fork_rng(devices=[]):
                trajectory = self._play(data, agent)
        except Exception as error:  # an env may raise anything when it is rendered; the run continues
            self._gave_up = True
            log.warning("there will be no videos of episodes: %s", one_line(error))
            return
        if trajectory is None:
            self._gave_up = True
            return
        # An agent with a memory also acts by earlier observations.
        if trajectory.has_images and agent.memory_size == 0 and agent.branches is None:
            send_picture(trainer, "saliency", figure_to_array(draw_episode_saliency(agent, trajectory)))
        if trajectory.pictures:
            send_video(trainer, "episode", Animation(trajectory.pictures, trajectory.fps))

    def _play(self, data: Any, agent: Any) -> Trajectory | None:
        """The episode; None if it cannot be rendered."""
        env = make_env_with_pictures(data.env_id, data.env_kwargs, data.wrappers, action_mask=data.action_mask)
        try:
            sees_images = data.parts is None and len(data.observation_shape) == 3
            if not isinstance(env, RenderCollection) and not sees_images:
                return None
            (trajectory,) = play_trajectories(
                env,
                agent,
                data.eval_policy,
                seeds=data.evaluation_seeds[:1],
                max_steps=min(self.max_steps, data.eval_max_steps),
                frame_stack=data.frame_stack,
                action_mask=data.action_mask,
            )
            return trajectory
        finally:
            env.close()
