import copy
import inspect
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import lightning
import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from lit_dqn.learning.decay import decay_matrices
from lit_dqn.learning.inference import Inference
from lit_dqn.learning.learner import Learner, Update, check_device
from lit_dqn.learning.libraries import prepare_libraries
from lit_dqn.learning.loss_watch import LossWatch
from lit_dqn.learning.networks import Noise, blank_observations, build_network
from lit_dqn.learning.resets import ShrinkAndPerturb
from lit_dqn.playing.ahead import check_draws_nothing
from lit_dqn.replay import PrioritySampler, Rollout
from lit_dqn.saving.loops import count_updates, restore_process_state
from lit_dqn.saving.specification import INSTANTIATOR, specification
from lit_dqn.saving.weights import load_network_weights
from lit_dqn.schedules import Schedule
from lit_dqn.training.acting import Acting
from lit_dqn.training.agreement import check_agreement
from lit_dqn.training.backward import backward_of
from lit_dqn.training.checkpointed import Checkpointed
from lit_dqn.training.checks import (
    check_max_grad_norm,
    check_no_target,
    check_optimizer,
    check_priority,
    check_shards,
    check_target_updates,
    check_update,
    learning_rate_schedule,
    weight_decay_schedule,
)
from lit_dqn.training.evaluated import Evaluated
from lit_dqn.training.protocols import Data, data_of
from lit_dqn.training.ranks import check_ranks, shards_of
from lit_dqn.training.scheduled import Scheduled
from lit_dqn.types import Batch, Chunk, LossOutput


class LitAgent(Acting, Evaluated, Scheduled, Checkpointed):
    """The base class of agents: an online network that learns from chunks, and is evaluated by episodes.

    `LitDQN`, `LitTD` and `LitActorCritic` define the outputs of the network and the loss of a batch.

    Args:
        observation_shape: of one observation, frames stacked; with several parts, the value of `Parts.described`.
        num_actions: of the env, or the number of choices of each part of an action.
        network: (observation_shape, num_outputs) -> module from [B, *observation_shape] to [B, num_outputs].
        outputs: the number of outputs that the network must have, and their meaning, for error messages.
        objective: the loss of a batch.
        optimizer: called with the parameters of the online network.
        learning_rate, weight_decay, decay_biases: of the optimiser, as for `LitDQN`; None: the optimiser's default.
        resets: when and how networks are partly reset; None: never.
        target_update_period: updates between two updates of the target network; None: no target network.
        target_update_tau: τ of target <- τ online + (1 - τ) target.
        max_grad_norm: the gradient is scaled down to this Euclidean norm; None: it is not clipped.
        update: how updates are computed, by name (`Update`).
        init_from: a checkpoint or a `.safetensors` file with the initial weights.

    Raises:
        ConfigError: if a value is out of its range, or observations, network and weights do not fit.

    """

    target: nn.Module

    output_name = "outputs"
    """The meaning of its network's outputs, as an identifier."""

    def __init__(
        self,
        observation_shape: tuple[int, ...] | dict[str, Any],
        num_actions: int | tuple[int, ...],
        *,
        network: Callable[[tuple[int, ...], int], nn.Module],
        outputs: tuple[int, str],
        objective: object,
        optimizer: OptimizerCallable,
        learning_rate: Schedule | float | None = None,
        weight_decay: Schedule | float | None = None,
        decay_biases: bool = True,
        resets: ShrinkAndPerturb | None = None,
        target_update_period: int | None,
        target_update_tau: float,
        max_grad_norm: float | None,
        update: Update,
        init_from: str | None,
    ) -> None:
        super().__init__()
        check_target_updates(target_update_period, target_update_tau)
        check_max_grad_norm(max_grad_norm)
        # Lightning's automatic optimisation makes one update per training step; a chunk holds several.
        self.automatic_optimization = False
        self._will_see(observation_shape)
        self._will_play(num_actions)
        self.objective = objective
        self.make_optimizer = optimizer if decay_biases else partial(decay_matrices, optimizer)
        self.learning_rate = learning_rate_schedule(learning_rate)
        self.weight_decay = weight_decay_schedule(weight_decay)
        self.resets = resets
        self.target_update_period = target_update_period
        self.target_update_tau = target_update_tau
        self.max_grad_norm = max_grad_norm
        self.update_way = Update(update)
        self.env_step = 0
        self._learner: Learner | None = None  # during training
        self._loss_watch = LossWatch()

        self._make_network = partial(build_network, network, self.observation_shape, *outputs)
        self.online = self._make_network()
        if init_from is not None:
            load_network_weights(self.online, init_from)
        check_optimizer(optimizer, self.online.parameters(), self.weight_decay, decay_biases)
        self._noise = Noise(self.online)
        self._inference = Inference(self.online, captures=self.update_way is not Update.eager, parts=self.parts)
        if target_update_period is not None:
            self.target = copy.deepcopy(self.online).requires_grad_(False)

        arguments = {
            "observation_shape": observation_shape,
            "num_actions": num_actions,
            "network": network,
            "objective": objective,
            "optimizer": optimizer,
            "learning_rate": self.learning_rate,
            "max_grad_norm": max_grad_norm,
            "update": self.update_way,
        }
        of_some = {
            "target_update_period": target_update_period,
            "target_update_tau": target_update_tau,
            "weight_decay": self.weight_decay,
            "decay_biases": decay_biases,
            "resets": resets,
        }
        arguments |= {name: of_some[name] for name in inspect.signature(type(self)).parameters if name in of_some}
        # A checkpoint restores the agent from these, and `RunDescription` logs them.
        self.save_hyperparameters(specification({"_instantiator": INSTANTIATOR, **arguments}), logger=False)
        # Dropout and batch norm are in training mode only in the online network during updates.
        self.eval()

    def configure_callbacks(self) -> list[lightning.Callback]:
        """The callbacks that log returns, losses, exploration and journals, for a Trainer without them."""
        from lit_dqn.callbacks import JournalWriter, RunDescription, TrainingStatistics

        trainer: Any = self.trainer
        if trainer.state.fn != "fit" or not hasattr(trainer.datamodule, "collector"):
            return []  # nothing to log
        return [
            kind()
            for kind in (TrainingStatistics, RunDescription, JournalWriter)
            if not any(isinstance(callback, kind) for callback in trainer.callbacks)
        ]

    @abstractmethod
    def batch_loss(self, batch: Batch) -> LossOutput:
        """The objective's loss of a batch."""

    def check_can_learn_from(self, data: Data) -> None:
        """Refuse data that do not go with this agent: their shapes, shards, memory, playing ahead, or sampler.

        Args:
            data: the data module.

        Raises:
            ConfigError: names the key, its value and one that fits.

        """
        check_shards(data.shards, self.update_way, self.online)
        check_agreement(self, data)
        if data.play_ahead or data.place is not None:
            # Lightning knows the device of the run before it moves the weights there.
            rows = torch.as_tensor(data.blank_observation, device=next(self.online.parameters()).device)
            act = torch.inference_mode()(partial(self.online, self.by_parts(rows)))
            check_draws_nothing(type(self.online).__name__, act, data.play_ahead)
        if isinstance(data.sampler, PrioritySampler):
            check_priority(self.loss_of_blanks().priority, type(self.objective).__name__, type(data.sampler).__name__)
        if isinstance(data.sampler, Rollout):
            check_no_target(self.target_update_period)
            self.loss_of_blanks(whole_returns=True)

    @property
    def target_network(self) -> nn.Module:
        """The network that evaluates s': the online network if there is no target network."""
        return self.online if self.target_update_period is None else self.target

    def loss_of_blanks(self, whole_returns: bool = False) -> LossOutput:
        """The objective's loss of two transitions of zeros.

        Args:
            whole_returns: whether their rewards are complete returns, so that there are no next observations.

        """
        device = next(self.online.parameters()).device
        observation, zeros = blank_observations(self.observation_shape, device), torch.zeros(2, device=device)
        levels = torch.full((2, getattr(self.objective, "draws", 0)), 0.5, device=device)
        following = None if whole_returns else observation
        with torch.no_grad():
            return self.batch_loss(Batch(observation, zeros.long(), zeros, zeros, following, uniform=levels))

    def check_device(self, device: torch.device) -> None:
        """Refuse an update that `update` cannot compute.

        Args:
            device: of the training.

        Raises:
            ConfigError: names the reason, and a value to set.

        """
        check_device(self.update_way, device)
        check_update(self.update_way, self.online, self.observation_shape, self.make_optimizer, self.weight_decay)

    def setup(self, stage: str) -> None:
        """Check that agent, data and device are compatible, once per stage."""
        if stage == "fit":
            self.check_device(self.trainer.strategy.root_device)
            prepare_libraries()
        data = data_of(self.trainer)
        check_ranks(self.trainer, 1 if data is None else data.shards)
        if data is not None:
            self.check_can_learn_from(data)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimiser of the online network."""
        return self.make_optimizer(self.online.parameters())

    def on_fit_start(self) -> None:
        """Avoids Lightning's warning about modules that are not in training mode when training starts."""
        self.train()

    def on_train_start(self) -> None:
        """Create the learner, and restore the checkpoint's generators; nothing draws from them until the first step."""
        self.eval()
        self._loss_watch = LossWatch()
        self._learner = Learner(
            self.online,
            self.target if self.target_update_period is not None else None,
            lambda online, target, batch: self.batch_loss(self.batch_by_parts(batch)),
            cast(torch.optim.Optimizer, self.optimizers(use_pl_optimizer=False)),
            target_update_period=self.target_update_period,
            target_update_tau=self.target_update_tau,
            max_grad_norm=self.max_grad_norm,
            update=Update.eager if self.memory_size > 0 else self.update_way,
            backward=backward_of(self),
            updates=self.trainer.global_step,
            draws=getattr(self.objective, "draws", 0),
            seed=getattr(self.trainer.datamodule, "seed", 0),  # type: ignore[attr-defined]
            shards=shards_of(self.trainer),
        )
        if self._resumed_from is not None:
            restore_process_state(self._resumed_from, self.device.type)
            self._resumed_from = None

    def training_step(self, chunk: Chunk, batch_idx: int) -> dict[str, Tensor]:
        """One update per batch.

        Returns:
            The means over the chunk of the loss and of the objective's metrics, scalars on the device.

        Raises:
            TrainingError: if a loss is NaN or infinite; on a GPU one training step later.

        """
        learner = self._learner
        assert learner is not None
        env_step_before, self.env_step = self.env_step, chunk.env_step
        self.follow_schedules(learner)
        self.reset_if_due(learner, env_step_before)
        before, priority = learner.updates, None
        try:
            if learner.captures_next:
                chunk.wait()  # nothing else may use the device during a capture
            learned = learner.update_many(chunk.batches)
            self._loss_watch.watch(learned.metrics["loss"], before, chunk.env_step)
            priority = learned.priority  # only of finite losses
        finally:
            count_updates(self.trainer, learner.updates - before)
            chunk.settle(priority)
        chunk.share()
        return {name: rows.mean() if len(rows) > 1 else rows[0] for name, rows in learned.metrics.items()}

    def on_train_end(self) -> None:
        """Check the last losses."""
        self._loss_watch.settle()

    def on_fit_end(self) -> None:
        """Also after a fit with nothing to do, which never called `on_train_start`."""
        self.eval()
        if self._learner is not None:
            self._learner.release()
            self._learner = None
