"""Checks of an agent's settings, before its network is built."""

import inspect
from collections.abc import Iterable

from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from lit_dqn.errors import ConfigError, one_line
from lit_dqn.learning.compiled import why_no_steps_are_compiled, why_nothing_is_compiled
from lit_dqn.learning.learner import Update
from lit_dqn.learning.networks import Dueling, HeadedNetwork, ObservationShape, SpectralNorms, ValueHead
from lit_dqn.learning.update_graph import why_not_captured, why_not_repeated
from lit_dqn.saving.specification import made_by
from lit_dqn.schedules import Constant, Schedule, bounds


def check_target_updates(period: int | None, tau: float) -> None:
    """Refuse a target network that would never be updated.

    Args:
        period: updates of the online network between two updates of the target network; None: no target.
        tau: τ of target <- τ online + (1 - τ) target.

    Raises:
        ConfigError: names the key and the values that fit.

    """
    if period is not None and period < 1:
        raise ConfigError(f"target_update_period: {period} must be at least 1 update.")
    if not 0 < tau <= 1:
        raise ConfigError(f"target_update_tau: {tau} must lie in (0, 1]; 1 copies the weights.")


def check_no_target(period: int | None) -> None:
    """Refuse a target network that would not be used, because complete returns are learned.

    Args:
        period: as for `check_target_updates`.

    Raises:
        ConfigError: if there is one.

    """
    if period is not None:
        raise ConfigError(
            f"target_update_period: {period} updates of a target network, which a rollout does not use: its returns "
            "are whole; set --model.target_update_period null."
        )


def check_no_head(network: nn.Module, agent: str) -> None:
    """Refuse a network with a head, or dueling layers, whose outputs are values of actions, for another agent.

    Args:
        network: the online network.
        agent: the class that learns something else.

    Raises:
        ConfigError: names the key.

    """
    dueling = any(isinstance(module, Dueling) for module in network.modules())
    found = [("dueling", "true", "false")] if dueling else []
    if isinstance(network, HeadedNetwork) and not isinstance(network.head, ValueHead | None):
        found.append(("head", type(network.head).__name__, "null"))
    if found:
        key, said, _ = found[0]
        remedy = " ".join(f"--model.network.{each} {value}" for each, _, value in found)
        raise ConfigError(f"{key}: {said} is for the values of actions, which {agent} does not learn; set {remedy}.")


def check_max_grad_norm(max_grad_norm: float | None) -> None:
    """Refuse a norm to which no gradient can be scaled.

    Raises:
        ConfigError: names the key and the values that fit.

    """
    if max_grad_norm is not None and not max_grad_norm > 0:
        raise ConfigError(f"max_grad_norm: {max_grad_norm} must be positive, or null for no clipping.")


def learning_rate_schedule(learning_rate: Schedule | float | None) -> Schedule | None:
    """The schedule of a learning rate; a number is constant, None is the optimiser's default.

    Raises:
        ConfigError: if it is negative anywhere, or 0 at both ends.

    """
    if isinstance(learning_rate, int | float):
        learning_rate = Constant(learning_rate)
    if learning_rate is not None and not (
        min(learning_rate.start, learning_rate.end) >= 0 and max(learning_rate.start, learning_rate.end) > 0
    ):
        raise ConfigError(
            f"learning_rate: from {learning_rate.start} to {learning_rate.end}, but it must be positive, and 0 at "
            "most at one end; set --model.learning_rate 1e-4."
        )
    return learning_rate


def weight_decay_schedule(weight_decay: Schedule | float | None) -> Schedule | None:
    """The schedule of a weight decay; a number is constant, None is the optimiser's default.

    Raises:
        ConfigError: if it is negative anywhere.

    """
    if isinstance(weight_decay, int | float):
        weight_decay = Constant(weight_decay)
    if weight_decay is not None and min(bounds(weight_decay)) < 0:
        raise ConfigError(
            f"weight_decay: {min(bounds(weight_decay))} must be at least 0; set --model.weight_decay 0.1."
        )
    return weight_decay


def check_optimizer(
    optimizer: OptimizerCallable,
    parameters: Iterable[nn.Parameter],
    weight_decay: Schedule | None = None,
    decay_biases: bool = True,
) -> None:
    """Refuse an optimiser that cannot be created, needs the loss more than once per step, or has no weight decay.

    Args:
        optimizer: called with parameters.
        parameters: of its network.
        weight_decay: that the optimiser must support; None: it need not.
        decay_biases: False: the optimiser must support weight decay.

    Raises:
        ConfigError: names the optimiser and one that fits.

    """
    name = getattr(made_by(optimizer), "__name__", optimizer)
    try:
        made = optimizer(parameters)
        step = inspect.signature(made.step)
    except Exception as error:
        raise ConfigError(f"optimizer: {name} cannot be made: {one_line(error)}.") from error
    if any(parameter.default is parameter.empty for parameter in step.parameters.values()):
        raise ConfigError(
            f"optimizer: {name} needs the loss several times per step; set --model.optimizer torch.optim.Adam."
        )
    if (weight_decay is None and decay_biases) or "weight_decay" in made.defaults:
        return
    if weight_decay is not None:
        raise ConfigError(
            f"weight_decay: {name} lets no weights decay; set --model.optimizer torch.optim.AdamW, or "
            "--model.weight_decay null."
        )
    if not decay_biases:
        raise ConfigError(
            f"decay_biases: false, but {name} lets no weights decay; set --model.optimizer torch.optim.AdamW, or "
            "--model.decay_biases true."
        )


def check_update(
    way: Update,
    network: nn.Module,
    observation_shape: ObservationShape,
    make_optimizer: OptimizerCallable,
    weight_decay: Schedule | None,
) -> None:
    """Refuse a way of computing updates that does not work here.

    Args:
        way: the way.
        network: that learns.
        observation_shape: of one observation.
        make_optimizer: called with its parameters.
        weight_decay: its schedule; None: it has none.

    Raises:
        ConfigError: names the reason.

    """
    takes_it_once = way in (Update.graph, Update.compiled)
    if takes_it_once and weight_decay is not None and weight_decay.start != weight_decay.end:
        raise ConfigError(
            f"update: {way.value} takes the weight decay once, and weight_decay goes from {weight_decay.start} to "
            f"{weight_decay.end}; set --model.update eager."
        )
    if way is Update.graph:
        reason = why_not_captured(network, observation_shape, make_optimizer(network.parameters()))
        if reason is not None:
            raise ConfigError(f"update: graph cannot capture this update: {reason}; set --model.update eager.")
    if way is Update.compiled:
        reason = (
            why_no_steps_are_compiled(make_optimizer(network.parameters()))
            or why_not_repeated(network, observation_shape)
            or ("spectral norm is estimated between updates" if SpectralNorms(network) else None)
            or why_nothing_is_compiled()
        )
        if reason is not None:
            raise ConfigError(f"update: compiled cannot compile this update: {reason}; set --model.update eager.")


def check_shards(shards: int, way: Update, network: nn.Module) -> None:
    """Refuse what would learn differently from several shards than from one.

    Args:
        shards: number of shards of each batch.
        way: in which updates are computed.
        network: that learns.

    Raises:
        ConfigError: names it.

    """
    if shards == 1:
        return
    if way in (Update.graph, Update.compiled):
        raise ConfigError(
            f"update: {way.value} makes one gradient of a whole batch, and {shards} shards make one each; set "
            "--model.update eager, or --data.shards 1."
        )
    for name, layer in network.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            raise ConfigError(
                f"shards: {shards}, but the network's layer {name}, {type(layer).__name__}, takes means over a whole "
                "batch; set --data.shards 1, or take a network without it."
            )


def check_priority(priority: Tensor | None, objective: str, sampler: str) -> None:
    """Refuse a sampler that needs priorities if the objective returns none.

    Args:
        priority: the objective's priorities of 2 transitions.
        objective: its name.
        sampler: its name.

    Raises:
        ConfigError: if there are none, or they have another shape.

    """
    if priority is None or priority.shape != (2,):
        says = "none" if priority is None else f"a tensor of shape {tuple(priority.shape)} for 2 of them"
        raise ConfigError(
            f"sampler: {sampler} draws by the priority of each transition, and the objective {objective} gives {says}; "
            "set --data.sampler Uniform."
        )
