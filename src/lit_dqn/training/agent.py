import argparse
import copy
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import lightning
import numpy as np
import torch
from lightning.pytorch.cli import OptimizerCallable, instantiate_module
from numpy.typing import NDArray
from torch import Tensor, nn

from lit_dqn.errors import ConfigError, one_line
from lit_dqn.learning.asking import Asked
from lit_dqn.learning.graphs import make_deterministic
from lit_dqn.learning.learner import Learner, Update, check_device
from lit_dqn.learning.loss_watch import LossWatch
from lit_dqn.learning.networks import build_network, update_target
from lit_dqn.learning.update_graph import why_not_captured
from lit_dqn.playing.ahead import check_draws_nothing
from lit_dqn.playing.policies import Greedy
from lit_dqn.saving.loops import (
    add_training_state,
    count_updates,
    keep_settings_of_optimizer,
    restore_training_state,
)
from lit_dqn.saving.read import read_checkpoint
from lit_dqn.saving.settings import checked_arguments
from lit_dqn.saving.specification import INSTANTIATOR, made_by, specification
from lit_dqn.saving.trust import Trust
from lit_dqn.saving.weights import check_weights, load_network_weights
from lit_dqn.schedules import Constant, Schedule
from lit_dqn.types import Batch, Chunk, Episode, LossOutput


class LitAgent(lightning.LightningModule, ABC):
    """What every agent is: an online network that learns from chunks, and evaluation episodes that grade it.

    What the network says, and what a batch teaches it, is the business of `LitDQN`, `LitTD` and `LitActorCritic`.

    Args:
        observation_shape: of one observation, frames stacked.
        num_actions: of the env.
        network: (observation_shape, num_outputs) -> module from [B, *observation_shape] to [B, num_outputs].
        outputs: as many as the network must have, and what they are, in words for the user.
        objective: the loss of a batch.
        optimizer: called with the parameters of the online network.
        learning_rate: of the optimiser, a number or a schedule over env steps; None keeps the optimiser's own.
        target_update_period: updates from one update of the target network to the next; None: no target network.
        target_update_tau: τ of target <- τ online + (1 - τ) target.
        max_grad_norm: the gradient is scaled down to this Euclidean norm; None leaves it as it is.
        update: how updates are computed (`Update`), by its name.
        init_from: a checkpoint or a `.safetensors` file with the weights to begin with.

    Raises:
        ConfigError: if a value is out of its range, the network does not take the observations, or the weights do
            not fit.

    """

    target: nn.Module

    has_preferences = True
    """Whether it can choose actions by itself."""

    preferences_name = "Q(s, ·)"
    """What it chooses its actions by, in symbols."""

    scores: tuple[str, ...] = ("eval/mean_reward",)
    """What a run of it is judged by, by the names of the log."""

    output_name = "outputs"
    """What its network says, as an identifier."""

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        num_actions: int,
        *,
        network: Callable[[tuple[int, ...], int], nn.Module],
        outputs: tuple[int, str],
        objective: Any,
        optimizer: OptimizerCallable,
        learning_rate: Schedule | float | None = None,
        target_update_period: int | None,
        target_update_tau: float,
        max_grad_norm: float | None,
        update: Update,
        init_from: str | None,
    ) -> None:
        super().__init__()
        if target_update_period is not None and target_update_period < 1:
            raise ConfigError(f"target_update_period: {target_update_period} must be at least 1 update.")
        if not 0 < target_update_tau <= 1:
            raise ConfigError(f"target_update_tau: {target_update_tau} must lie in (0, 1]; 1 copies the weights.")
        if max_grad_norm is not None and not max_grad_norm > 0:
            raise ConfigError(f"max_grad_norm: {max_grad_norm} must be positive, or null for no clipping.")
        if isinstance(learning_rate, int | float):
            learning_rate = Constant(learning_rate)
        if learning_rate is not None and not (
            min(learning_rate.start, learning_rate.end) >= 0 and max(learning_rate.start, learning_rate.end) > 0
        ):
            raise ConfigError(
                f"learning_rate: from {learning_rate.start} to {learning_rate.end}, but it must be positive, and 0 at "
                "most at one end; set --model.learning_rate 1e-4."
            )
        # Lightning's automatic optimisation makes one update per training step; a chunk holds several.
        self.automatic_optimization = False
        self.observation_shape = tuple(observation_shape)
        self.num_actions = num_actions
        self.objective = objective
        self.make_optimizer = optimizer
        self.learning_rate = learning_rate
        self.target_update_period = target_update_period
        self.target_update_tau = target_update_tau
        self.max_grad_norm = max_grad_norm
        self.update_way = Update(update)
        self.env_step = 0
        self._evaluated: list[Episode] = []
        self._resumed_from: dict[str, Any] | None = None
        self._learner: Learner | None = None  # while it is trained
        self._loss_watch = LossWatch()

        self.online = build_network(network, self.observation_shape, *outputs)
        if init_from is not None:
            load_network_weights(self.online, init_from)
        name = getattr(made_by(optimizer), "__name__", optimizer)
        try:
            step = inspect.signature(optimizer(self.online.parameters()).step)
        except Exception as error:
            raise ConfigError(f"optimizer: {name} cannot be made: {one_line(error)}.") from error
        if any(parameter.default is parameter.empty for parameter in step.parameters.values()):
            raise ConfigError(
                f"optimizer: {name} wants the loss several times for each step; set --model.optimizer torch.optim.Adam."
            )
        self._asked = Asked(self.online, captures=self.update_way is not Update.eager)
        if target_update_period is not None:
            self.target = copy.deepcopy(self.online).requires_grad_(False)

        arguments = {
            "observation_shape": self.observation_shape,
            "num_actions": num_actions,
            "network": network,
            "objective": objective,
            "optimizer": optimizer,
            "learning_rate": learning_rate,
            "max_grad_norm": max_grad_norm,
            "update": self.update_way,
        }
        if target_update_period is not None:
            arguments |= {"target_update_period": target_update_period, "target_update_tau": target_update_tau}
        # A checkpoint builds the agent again from these, and `RunDescription` logs them; the weights to begin with are
        # no part of what it is.
        self.save_hyperparameters(specification({"_instantiator": INSTANTIATOR, **arguments}), logger=False)
        # Dropout and batch norm are for the online network in updates; acting, grading and the target go without.
        self.eval()

    def configure_callbacks(self) -> list[lightning.Callback]:
        """What writes returns, losses and exploration over env steps, for a Trainer that was not given it."""
        from lit_dqn.callbacks import RunDescription, TrainingStatistics

        trainer: Any = self.trainer
        if trainer.state.fn != "fit" or not hasattr(trainer.datamodule, "collector"):
            return []  # nothing to watch
        given = trainer.callbacks
        return [
            kind()
            for kind in (TrainingStatistics, RunDescription)
            if not any(isinstance(callback, kind) for callback in given)
        ]

    # --- learning ---

    @abstractmethod
    def batch_loss(self, batch: Batch) -> LossOutput:
        """What the objective says of a batch."""

    def check_data(self, data: Any) -> None:
        """Refuse what this agent cannot learn from; here, to play ahead where acting draws random numbers.

        Args:
            data: the data module.

        Raises:
            ConfigError: naming the key, its value and one that fits.

        """
        if getattr(data, "play_ahead", False):
            # Lightning says the device of the run before it moves the weights there.
            weights_are_on = next(self.online.parameters()).device
            observation = torch.as_tensor(data.blank_observation, device=weights_are_on)
            with torch.inference_mode():
                check_draws_nothing(type(self.online).__name__, lambda: self.online(observation))

    def check_device(self, device: torch.device) -> None:
        """Refuse an update that cannot be computed as `update` asks.

        Args:
            device: on which it will be trained.

        Raises:
            ConfigError: saying why, and what to set.

        """
        check_device(self.update_way, device)
        if self.update_way is Update.graph:
            optimizer = self.make_optimizer(self.online.parameters())
            reason = why_not_captured(self.online, self.observation_shape, optimizer)
            if reason is not None:
                raise ConfigError(f"update: graph cannot capture this update: {reason}; set --model.update eager.")

    def setup(self, stage: str) -> None:
        """Check that agent, data and device belong together, once for each stage."""
        if stage == "fit":
            self.check_device(self.trainer.strategy.root_device)
            make_deterministic()
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if data is not None:
            self.check_data(data)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimiser, over the online network alone."""
        return self.make_optimizer(self.online.parameters())

    def training_step(self, chunk: Chunk, batch_idx: int) -> dict[str, Tensor]:
        """One update per batch.

        Returns:
            The means over the chunk of the loss and of the objective's metrics, scalars on the device.

        Raises:
            TrainingError: if a loss is NaN or infinite; on a GPU one training step later.

        """
        learner = self._learner
        assert learner is not None
        self.env_step = chunk.env_step
        self.follow_schedules(learner)
        before = learner.updates
        try:
            if learner.captures_next:
                chunk.wait()  # nothing else uses the device while it is captured
            metrics = learner.update_many(chunk.batches)
        finally:
            count_updates(self.trainer, learner.updates - before)
            chunk.wait()
        self._loss_watch.watch(metrics["loss"], before, chunk.env_step)
        return {name: values.mean() if len(values) > 1 else values[0] for name, values in metrics.items()}

    def follow_schedules(self, learner: Learner) -> None:
        """Set what updates take from schedules at this env step: in tensors, for a captured update reads no numbers."""
        if self.learning_rate is not None:
            learner.set_learning_rate(self.learning_rate(self.env_step))

    @property
    def current_learning_rate(self) -> float:
        """Of the optimiser, while it is trained."""
        assert self._learner is not None
        return self._learner.learning_rate

    # --- acting ---

    @abstractmethod
    def preferences(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        """What policies choose actions by, higher is better: observations [N, *observation_shape] to [N, num_actions].

        Q(s, ·) where there are action values, otherwise the preferences h(s, ·) of Sutton & Barto (2020), section 13.1.
        """

    @abstractmethod
    def state_values(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        """V(s) of observations [N, *observation_shape], as [N]."""

    def _outputs(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        """What the online network says, [N, number of outputs]."""
        return self._asked(observation)

    def acting_copy(self, earlier: Self | None = None) -> Self:
        """An agent that acts by the weights of now, and shares all else; what this one learns does not reach it.

        Args:
            earlier: a copy, which is brought up to date; None makes one.

        """
        if earlier is None:
            earlier = copy.copy(self)
            online = copy.deepcopy(self.online).requires_grad_(False)
            earlier._modules = {**self._modules, "online": online}
            earlier._asked = Asked(online, captures=self.update_way is not Update.eager, aside=True)
        else:
            update_target(self.online, earlier.online)
        earlier._asked.follow()
        return earlier

    def act(self, observation: NDArray[Any]) -> int:
        """The greedy action for one observation of shape `observation_shape`.

        Raises:
            ValueError: if the observation has another shape.

        """
        if np.shape(observation) != self.observation_shape:
            raise ValueError(
                f"act takes one observation of shape {self.observation_shape}, not {np.shape(observation)}."
            )
        frame = np.asarray(observation)
        if frame.dtype != np.uint8 or frame.ndim < 2:  # as during training: only images stay uint8
            frame = frame.astype(np.float32)
        return int(Greedy().act(self, frame[None], 0, [np.random.default_rng()])[0])

    # --- evaluation ---

    def on_validation_epoch_start(self) -> None:
        """Forget the episodes of an evaluation that was interrupted; nothing is graded that learned from no number."""
        self._loss_watch.settle()
        self._evaluated.clear()

    def on_test_epoch_start(self) -> None:
        """Likewise."""
        self._evaluated.clear()

    def validation_step(self, episode: Episode, batch_idx: int) -> None:
        """Take note of an evaluation episode."""
        self._evaluated.append(episode)

    def test_step(self, episode: Episode, batch_idx: int) -> None:
        """Take note of an evaluation episode."""
        self._evaluated.append(episode)

    def predict_step(self, trajectory: Any, batch_idx: int) -> Any:
        """The trajectory as it was played."""
        return trajectory

    def on_validation_epoch_end(self) -> None:
        """Log what the evaluation episodes say together."""
        self._log_evaluation()

    def on_test_epoch_end(self) -> None:
        """Log what the evaluation episodes say together."""
        self._log_evaluation()

    def evaluation_metrics(self, episodes: list[Episode]) -> dict[str, float]:
        """What the evaluation episodes say together, by the names of the log."""
        returns = np.array([episode.total_reward for episode in episodes])
        return {
            "eval/mean_reward": float(returns.mean()),
            "eval/std_reward": float(returns.std()),
            "eval/mean_ep_length": float(np.mean([episode.length for episode in episodes])),
            "eval/episodes": float(len(returns)),
            "eval/truncated_episodes": float(sum(not episode.terminated for episode in episodes)),
        }

    def grade(self, metrics: Mapping[str, Tensor]) -> float | None:
        """How good an evaluation was, by which the best checkpoint is chosen: the mean return; None if it says nothing.

        Args:
            metrics: what was logged, by name.

        """
        return metrics["eval/mean_reward"].item() if "eval/mean_reward" in metrics else None

    def _log_evaluation(self) -> None:
        if self.trainer.sanity_checking:
            return
        metrics = self.evaluation_metrics(self._evaluated)
        if self.trainer.state.fn != "fit":
            self.log_dict(metrics)  # validate and test print what is logged as a table
            return
        # During training for those who monitor a metric; the curves have env steps on the x-axis, which Lightning's
        # own logging does not know.
        self.log_dict(metrics, logger=False)
        del metrics["eval/episodes"]  # a line as flat as the config
        for logger in self.loggers:
            logger.log_metrics(metrics, step=self.env_step)

    # --- checkpoints ---

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls,
        checkpoint_path: str | Path,
        map_location: torch.device | str = "cpu",
        *,
        trust: Sequence[type] = (),
        **arguments: Any,
    ) -> Self:
        """The agent of a checkpoint. Lightning's own way would make whatever the checkpoint names.

        Args:
            checkpoint_path: a `.ckpt` file.
            map_location: the device that the agent is for.
            trust: your own classes that the checkpoint may name, such as its network.
            arguments: of the constructor, in place of those in the checkpoint.

        Raises:
            ConfigError: if the file is missing or damaged, its weights do not fit or are no numbers, or a part of the
                agent is of a class that is not trusted, or cannot be made.

        """
        contents = read_checkpoint(checkpoint_path)
        saved = {key: value for key, value in contents["hyper_parameters"].items() if key != "_instantiator"}
        saved.pop("init_from", None)  # the checkpoint has the weights
        saved = checked_arguments(
            cls,
            {key: value for key, value in saved.items() if key not in arguments},
            Trust.registered(trust),
            source=str(checkpoint_path),
            remedy="hand its class over, as in load_agent(path, trust=[MyNetwork])",
        )
        try:
            agent = instantiate_module(cls, saved | arguments)
        except argparse.ArgumentError as error:
            raise ConfigError(f"{checkpoint_path}: the agent cannot be built: {one_line(error)}") from error
        check_weights(agent, contents["state_dict"], "checkpoint", checkpoint_path)
        agent.on_load_checkpoint(contents)
        agent.load_state_dict(contents["state_dict"])
        return agent.to(map_location)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the class of the agent, the env step, and what else decides how the run goes on."""
        self._loss_watch.settle()
        checkpoint["agent"] = type(self).__name__
        checkpoint["env_step"] = self.env_step
        add_training_state(checkpoint, self.trainer)
        if self._learner is not None:
            for state in checkpoint.get("optimizer_states", ()):
                self._learner.plain_settings(state)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the env step; to train on, also the optimiser's state, with the settings of this run."""
        self.env_step = checkpoint["env_step"]
        if self._trainer is not None and self.trainer.state.fn == "fit":
            keep_settings_of_optimizer(checkpoint, self.make_optimizer, self.online.parameters())
            self._resumed_from = checkpoint

    def on_fit_start(self) -> None:
        """For Lightning, which warns of modules that are not in training mode when training starts."""
        self.train()

    def on_train_end(self) -> None:
        """Look at the last losses."""
        self._loss_watch.settle()

    def on_fit_end(self) -> None:
        """Also after a fit that had nothing to do, which never came to `on_train_start`."""
        self.eval()
        if self._learner is not None:
            self._learner.release()
            self._learner = None

    def on_train_start(self) -> None:
        """Make the learner, and go on with the generators of the checkpoint.

        Nothing draws from them between this hook and the first step.
        """
        self.eval()
        self._loss_watch = LossWatch()
        self._learner = Learner(
            self.online,
            self.target if self.target_update_period is not None else None,
            lambda online, target, batch: self.batch_loss(batch),
            cast(torch.optim.Optimizer, self.optimizers(use_pl_optimizer=False)),
            target_update_period=self.target_update_period,
            target_update_tau=self.target_update_tau,
            max_grad_norm=self.max_grad_norm,
            update=self.update_way,
            backward=self.manual_backward,
            updates=self.trainer.global_step,
        )
        if self._resumed_from is not None:
            restore_training_state(self._resumed_from)
            self._resumed_from = None
