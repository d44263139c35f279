"""An update as a CUDA graph: captured once, then replayed with one call in place of a hundred kernel launches."""

import copy
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lit_dqn.learning.graphs import capture, generator_states, same_tensors, set_generator_states
from lit_dqn.learning.networks import ObservationShape, SpectralNorm, blank_observations
from lit_dqn.types import Batch, Learned, StaticBatches

CHANGES_BUFFERS = "the network changes its buffers, as batch norm does"
DRAWS = "it draws random numbers, as dropout does"


# Torch's capturable Adam divides by the learning rate: at 0 a weight without a gradient would become 0 / 0.
_SMALLEST_LEARNING_RATE = 1e-30


class NotCapturedError(Exception):
    """Why an update cannot be captured; the message is a clause."""


class UpdateGraph:
    """One update, captured with fixed addresses of the batches, and replayed for each batch of a chunk.

    A counter on the device selects the batch, so there is no waiting and no copying between updates.

    Args:
        learn: makes an update, except for the target network.
        modules: the modules whose parameters and buffers `learn` may change.
        optimizer: the optimiser that `learn` steps, `Capturable`, with a state.

    """

    def __init__(
        self,
        learn: Callable[[Batch], Learned],
        modules: Sequence[nn.Module],
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self._learn = learn
        self._modules = modules
        self._optimizer = optimizer
        self._graph: torch.cuda.CUDAGraph | None = None
        self._places: tuple[Any, ...] = ()  # the addresses with which the graph was captured
        self._own: _CopiedBatches | None = None
        self._uniform: Tensor | None = None

    def run(self, batches: Sequence[Batch], after_each: Callable[[], None], uniform: Tensor | None = None) -> Learned:
        """One update for each of K batches.

        Args:
            batches: of the same shapes and number each time.
            after_each: called after each launch of an update.
            uniform: [K, B, D], on the host: `uniform` of each batch.

        Returns:
            The results of `learn`, with a leading axis K.

        Raises:
            NotCapturedError: if the update cannot be captured; then nothing has changed.

        """
        static = self._static(batches)
        fields = static.fields if uniform is None else (*static.fields, self._fill(uniform, static.fields[0].device))
        places = tuple((field.data_ptr(), field.shape) for field in fields)
        if self._graph is None or places != self._places:
            self._capture(static)
            self._places = places
        assert self._graph is not None
        self._number.zero_()
        for _ in range(len(static)):
            self._graph.replay()
            after_each()
        metrics = {name: rows.clone() for name, rows in self._metrics.items()}
        return Learned(metrics, None if self._priority is None else self._priority.clone())

    def _fill(self, uniform: Tensor, device: torch.device) -> Tensor:
        """The numbers, at the address from which the graph reads them."""
        if self._uniform is None or self._uniform.shape != uniform.shape:
            self._uniform = torch.empty_like(uniform, device=device)
        return self._uniform.copy_(uniform)

    def _static(self, batches: Sequence[Batch]) -> StaticBatches:
        if isinstance(batches, StaticBatches):
            return batches
        if self._own is None or not self._own.take(batches):
            device = next(self._modules[0].parameters()).device
            self._own = _CopiedBatches(batches, device)
        return self._own

    def _capture(self, batches: StaticBatches) -> None:
        device = batches.fields[0].device
        self._number = torch.zeros(1, dtype=torch.int64, device=device)  # of the batch
        self._metrics: dict[str, Tensor] = {}
        self._priority: Tensor | None = None

        def update() -> None:
            batch = batches.make(tuple(field.index_select(0, self._number).squeeze(0) for field in batches.fields))
            if self._uniform is not None:
                batch = batch._replace(uniform=self._uniform.index_select(0, self._number).squeeze(0))
            # A cached cast of the weights from the capture would never be updated.
            with torch.autocast(
                device.type,
                dtype=torch.get_autocast_dtype(device.type),
                enabled=torch.is_autocast_enabled(device.type),
                cache_enabled=False,
            ):
                metrics, priority = self._learn(batch)
            for name, value in metrics.items():
                self._metrics[name] = self._noted(self._metrics.get(name), value, len(batches))
            if priority is not None:
                self._priority = self._noted(self._priority, priority, len(batches))
            self._number.add_(1)

        before = [tensor.detach().clone() for tensor in self._changing()]
        buffers = [buffer.clone() for buffer in buffers_of(self._modules)]
        generators = generator_states(device)

        def check() -> None:
            if not same_tensors(buffers, buffers_of(self._modules)):
                raise NotCapturedError(CHANGES_BUFFERS)
            if not same_tensors(generators, generator_states(device)):
                raise NotCapturedError(DRAWS)

        try:
            with warnings.catch_warnings():
                # Torch warns about `capturable` in steps that are not captured, such as warm-ups.
                warnings.filterwarnings("ignore", message=".*capturable=True")
                self._graph = capture(update, device, before=self._number.zero_, check=check)
        except RuntimeError as error:
            raise NotCapturedError(f"its operations cannot be captured ({str(error).splitlines()[0]})") from error
        finally:
            # A resumed run captures again, which must leave no trace.
            set_generator_states(device, generators)
            with torch.no_grad():
                for tensor, value in zip(self._changing(), before, strict=True):
                    tensor.copy_(value)

    def _noted(self, rows: Tensor | None, value: Tensor, count: int) -> Tensor:
        """The rows of `count` updates, allocated on first use, with a value in the row of this update."""
        if rows is None:
            rows = torch.zeros(count, *value.shape, dtype=value.dtype, device=value.device)
        return rows.index_copy_(0, self._number, value.unsqueeze(0))

    def _changing(self) -> list[Tensor]:
        """Everything that an update may change."""
        tensors = [tensor for module in self._modules for tensor in (*module.parameters(), *module.buffers())]
        states = self._optimizer.state.values()
        return [*tensors, *(value for state in states for value in state.values() if isinstance(value, Tensor))]


class _CopiedBatches(StaticBatches):
    """Batches that are copied to the addresses of the first ones."""

    def __init__(self, batches: Sequence[Batch], device: torch.device) -> None:
        self._names = list(batches[0].given)
        self.fields = tuple(torch.stack(tensors).to(device) for tensors in _columns(batches))

    def take(self, batches: Sequence[Batch]) -> bool:
        """Copy these batches; False if their shapes differ."""
        shapes = [column[0].shape for column in _columns(batches)]
        if len(batches) != len(self) or shapes != [field.shape[1:] for field in self.fields]:
            return False
        for field, tensors in zip(self.fields, _columns(batches), strict=True):
            if tensors[0].device == field.device:
                torch.stack(tensors, out=field)
            else:
                field.copy_(torch.stack(tensors))
        return True

    def make(self, fields: tuple[Tensor, ...]) -> Batch:
        return Batch(**dict(zip(self._names, fields, strict=True)))


def _columns(batches: Sequence[Batch]) -> list[list[Tensor]]:
    """The tensors of batches field by field."""
    return list(map(list, zip(*(batch.tensors for batch in batches), strict=True)))


def capturable_learning_rate(learning_rate: float) -> float:
    """The learning rate for a capturable optimiser: unchanged, except that 0 becomes a number too small to move a
    weight.
    """
    return max(learning_rate, _SMALLEST_LEARNING_RATE)


class Capturable:
    """Makes an optimiser's steps capturable: its learning rate becomes a tensor, which is filled in place.

    Args:
        optimizer: an optimiser that torch can capture; its settings change until `undo`.

    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._before = [{key: group[key] for key in ("capturable", "lr")} for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["capturable"] = True
            learning_rate = capturable_learning_rate(float(group["lr"]))
            group["lr"] = torch.tensor(learning_rate, device=group["params"][0].device)
        self._move_steps(to_host=False)

    def set_learning_rate(self, learning_rate: float) -> None:
        """Set it for the next steps, captured or not."""
        for group, before in zip(self._optimizer.param_groups, self._before, strict=True):
            if before["lr"] != learning_rate:
                group["lr"].fill_(capturable_learning_rate(learning_rate))
                before["lr"] = learning_rate

    def restore(self, param_groups: Iterable[dict[str, Any]]) -> None:
        """Write the settings without a capture into groups of this optimiser, or of its `state_dict`."""
        for group, before in zip(param_groups, self._before, strict=True):
            group.update(before)

    def undo(self) -> None:
        """Restore the optimiser's settings."""
        self.restore(self._optimizer.param_groups)
        self._move_steps(to_host=True)

    def _move_steps(self, *, to_host: bool) -> None:
        for group in self._optimizer.param_groups:
            on_host = to_host and not (group["capturable"] or group.get("fused"))
            for parameter in group["params"]:
                state = self._optimizer.state.get(parameter, {})
                if "step" in state:
                    device = torch.device("cpu") if on_host else parameter.device
                    state["step"] = state["step"].to(device, torch.float32)


def why_no_steps_are_captured(optimizer: torch.optim.Optimizer) -> str | None:
    """Why torch cannot capture an optimiser's steps; None if it can."""
    if all("capturable" in group for group in optimizer.param_groups):
        return None
    return f"torch cannot capture the steps of {type(optimizer).__name__}"


def why_not_captured(
    network: nn.Module, observation_shape: ObservationShape, optimizer: torch.optim.Optimizer
) -> str | None:
    """Why updates of this network with this optimiser cannot be captured, as far as a CPU can tell.

    Args:
        network: on a CPU.
        observation_shape: of one observation.
        optimizer: over its parameters.

    """
    return why_no_steps_are_captured(optimizer) or why_not_repeated(network, observation_shape)


def why_not_repeated(network: nn.Module, observation_shape: ObservationShape) -> str | None:
    """Why a network does not compute the same each time; None if it does.

    Args:
        network: on a CPU.
        observation_shape: of one observation.

    """
    network = copy.deepcopy(network).train()
    device = torch.device("cpu")
    buffers, generators = [buffer.clone() for buffer in network.buffers()], generator_states(device)
    with torch.no_grad():
        network(blank_observations(observation_shape))
    draws = not same_tensors(generators, generator_states(device))
    set_generator_states(device, generators)
    if draws:
        return DRAWS
    return None if same_tensors(buffers, list(network.buffers())) else CHANGES_BUFFERS


def buffers_of(modules: Iterable[nn.Module]) -> list[Tensor]:
    """The buffers that must not change: all but the estimates of spectral norms, which each update changes by one
    step.
    """
    parts = (part for module in modules for part in module.modules() if not isinstance(part, SpectralNorm))
    return [buffer for part in parts for buffer in part.buffers(recurse=False)]
