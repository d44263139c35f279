import copy
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import lightning
import numpy as np
import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.core.optimizer import LightningOptimizer
from numpy.typing import NDArray
from torch import Tensor, nn

from lit_dqn.checkpoint import load_network_weights
from lit_dqn.errors import ConfigError, TrainingError
from lit_dqn.networks import NatureCNN, update_target
from lit_dqn.objectives import Objective, QLearning
from lit_dqn.policies import Greedy
from lit_dqn.specification import INSTANTIATOR, specification
from lit_dqn.training_state import add_training_state, keep_settings_of_optimizer, restore_training_state
from lit_dqn.types import Chunk, Episode


class LitDQN(lightning.LightningModule):
    """Deep Q-learning: an online network that learns and acts, and a target network that grades s'.

    One training step takes a chunk and makes one update for each batch in it.

    Args:
        observation_shape: of one observation, frames stacked; on the command line it comes from the data.
        num_actions: likewise.
        network: (observation_shape, num_actions) -> module from [B, *observation_shape] to [B, num_actions].
        objective: the loss of a batch.
        optimizer: called with the parameters of the online network.
        target_update_period: updates from one update of the target network to the next (Mnih et al. 2015: C).
        target_update_tau: τ of target <- τ online + (1 - τ) target; 1 copies. For Polyak averaging take a small τ
            with the period 1.
        max_grad_norm: the gradient is scaled down to this Euclidean norm; None leaves it as it is.
        init_from: a checkpoint or a `.safetensors` file: both networks start with its online weights, and nothing
            else of it is used.

    Raises:
        ConfigError: if a value is out of its range, the network does not take the observations, or the weights do
            not fit.

    """

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        num_actions: int,
        network: Callable[[tuple[int, ...], int], nn.Module] = NatureCNN,
        objective: Objective = QLearning(),  # noqa: B008 - it cannot change
        optimizer: OptimizerCallable = partial(torch.optim.Adam, lr=1e-4, fused=True),  # noqa: B008
        target_update_period: int = 1000,
        target_update_tau: float = 1.0,
        max_grad_norm: float | None = None,
        init_from: str | None = None,
    ) -> None:
        super().__init__()
        if target_update_period < 1:
            raise ConfigError(f"target_update_period: {target_update_period} must be at least 1 update.")
        if not 0 < target_update_tau <= 1:
            raise ConfigError(f"target_update_tau: {target_update_tau} must lie in (0, 1]; 1 copies the weights.")
        if max_grad_norm is not None and max_grad_norm <= 0:
            raise ConfigError(f"max_grad_norm: {max_grad_norm} must be positive, or null for no clipping.")
        # Lightning's automatic optimisation makes one update per training step; a chunk holds several.
        self.automatic_optimization = False
        self.observation_shape = tuple(observation_shape)
        self.num_actions = num_actions
        self.objective = objective
        self.make_optimizer = optimizer
        self.target_update_period = target_update_period
        self.target_update_tau = target_update_tau
        self.max_grad_norm = max_grad_norm
        self.env_step = 0
        self._evaluated: list[Episode] = []
        self._resumed_from: dict[str, Any] | None = None

        self.online = _build_network(network, self.observation_shape, num_actions)
        if init_from is not None:
            load_network_weights(self.online, init_from)
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self.save_hyperparameters(
            specification(
                {
                    "_instantiator": INSTANTIATOR,
                    "observation_shape": self.observation_shape,
                    "num_actions": num_actions,
                    "network": network,
                    "objective": objective,
                    "optimizer": optimizer,
                    "target_update_period": target_update_period,
                    "target_update_tau": target_update_tau,
                    "max_grad_norm": max_grad_norm,
                }
            )
        )

    # --- learning ---

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimiser, over the online network alone."""
        return self.make_optimizer(self.online.parameters())

    def training_step(self, chunk: Chunk, batch_idx: int) -> dict[str, Tensor]:
        """One update per batch.

        Returns:
            The means over the chunk of the loss and of the objective's metrics, scalars on the device.

        Raises:
            TrainingError: if a loss is NaN or infinite.

        """
        self.env_step = chunk.env_step
        optimizer = cast(LightningOptimizer, self.optimizers())
        outputs = []
        for batch in chunk.batches:
            output = self.objective(self.online, self.target, batch)
            loss = output.loss.mean()
            optimizer.zero_grad()
            self.manual_backward(loss)
            if self.max_grad_norm is not None:
                nn.utils.clip_grad_norm_(self.online.parameters(), self.max_grad_norm)
            optimizer.step()
            if self.trainer.global_step % self.target_update_period == 0:
                update_target(self.online, self.target, self.target_update_tau)
            outputs.append({"loss": loss.detach(), **output.metrics})
        means = outputs[0]
        if len(outputs) > 1:
            means = {name: torch.stack([output[name] for output in outputs]).mean() for name in means}
        if not torch.isfinite(means["loss"]):
            raise TrainingError(
                f"the loss became {means['loss'].item()} at update {self.trainer.global_step:,} "
                f"(env step {chunk.env_step:,}); lower the learning rate, set --model.max_grad_norm 10, "
                "or look for rewards without bounds."
            )
        return means

    # --- acting ---

    @torch.inference_mode()
    def q_values(self, observation: NDArray) -> NDArray[np.float32]:
        """Q(s, ·) by the online network.

        Args:
            observation: [N, *observation_shape].

        Returns:
            [N, num_actions].

        """
        return self.online(torch.as_tensor(observation, device=self.device)).float().cpu().numpy()

    def act(self, observation: NDArray) -> int:
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

    def _log_evaluation(self) -> None:
        if self.trainer.sanity_checking:
            self._evaluated.clear()
            return
        returns = np.array([episode.total_reward for episode in self._evaluated])
        metrics = {
            "eval/mean_reward": float(returns.mean()),
            "eval/std_reward": float(returns.std()),
            "eval/mean_ep_length": float(np.mean([episode.length for episode in self._evaluated])),
            "eval/episodes": float(len(returns)),
            "eval/truncated_episodes": float(sum(not episode.terminated for episode in self._evaluated)),
        }
        self._evaluated.clear()
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

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the env step, and what else decides how the run goes on."""
        checkpoint["env_step"] = self.env_step
        add_training_state(checkpoint, self.trainer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the env step; to train on, also the optimiser's state, with the settings of this run."""
        self.env_step = checkpoint["env_step"]
        if self._trainer is not None and self.trainer.state.fn == "fit":
            keep_settings_of_optimizer(checkpoint, self.make_optimizer, self.online.parameters())
            self._resumed_from = checkpoint

    def on_train_start(self) -> None:
        """Go on with the generators of the checkpoint. Nothing draws from them between this hook and the first step."""
        if self._resumed_from is not None:
            restore_training_state(self._resumed_from)
            self._resumed_from = None


def _build_network(
    make_network: Callable[[tuple[int, ...], int], nn.Module], observation_shape: tuple[int, ...], num_actions: int
) -> nn.Module:
    """Make the network, and refuse it if it does not map observations to one value per action."""
    name = getattr(make_network, "__name__", "the network")
    try:
        network = make_network(observation_shape, num_actions)
        name = type(network).__name__
        with torch.no_grad():
            values = network(torch.zeros(2, *observation_shape))
    except ConfigError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"network: {name} does not take observations of shape {observation_shape}: {reason}"
        ) from error
    shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
    if shape != (2, num_actions):
        raise ConfigError(
            f"network: {name} maps 2 observations to {shape}, not to {(2, num_actions)}: one value for each "
            "action; its last layer must have num_outputs units."
        )
    return network
