"""A trained network for use elsewhere: safetensors with its config, and ONNX."""

import copy
import importlib.util
import logging
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from lit_dqn.commands.inputs import dump_yaml
from lit_dqn.errors import TrainingError
from lit_dqn.learning.losses import masked
from lit_dqn.saving import durable
from lit_dqn.saving.layout import CONFIG

log = logging.getLogger("lit_dqn")

WEIGHTS, ONNX = "model.safetensors", "model.onnx"

ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")

TOLERANCE = 1e-4
"""The largest difference between the values of the ONNX network and the live one, as a share of the largest value:
another program adds numbers in another order."""


def export_agent(
    online: nn.Module,
    observation: Tensor | Mapping[str, Tensor],
    settings: Mapping[str, Any],
    folder: Path,
    *,
    output_name: str,
    action_mask: Tensor | None = None,
    memory: Tensor | None = None,
) -> None:
    """Write a network, and compare each written file with it.

    Args:
        online: from [B, *observation_shape] to [B, number of outputs].
        observation: [B, *observation_shape], B >= 2, as the envs return them; with several parts by name, and each is
            an input of the ONNX network; a part with the name of an input below gets `observation_` before it.
        settings: the settings with which `fit` trains such an agent.
        folder: for `model.safetensors`, `config.yaml` and, with the extra `export`, `model.onnx`. The ONNX network
            takes the env's observations: images as uint8, because it includes the scaling.
        output_name: of the ONNX network's output.
        action_mask: [B, num_actions], which actions are allowed: the ONNX network takes such masks as a second input,
            and its outputs for forbidden actions, among the first num_actions, are the lowest float32 number.
        memory: [B, M], the memory before these observations, for a network that has one. The ONNX network has it as the
            input `memory`, all 0 at the start of an episode, and returns the next one as `next_memory`.

    Raises:
        TrainingError: if a written file does not give the values of the live network.

    """
    durable.make_folder(folder)
    online = copy.deepcopy(online).cpu().eval()
    said = partial(_said, observation=observation, memory=memory)
    values = said(online)
    weights = safetensors.torch.save({name: weight.contiguous() for name, weight in online.state_dict().items()})
    durable.replace_file(folder / WEIGHTS, [memoryview(weights)])
    durable.replace_text(folder / CONFIG, dump_yaml(dict(settings)))
    _check_weights(online, said, folder / WEIGHTS)
    log.info(
        "%s: equal to the network on %d observations; train on from it with --model.init_from %s",
        folder / WEIGHTS,
        len(values),
        folder / WEIGHTS,
    )
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        log.warning("no ONNX was written: %s missing; pip install 'lit-dqn[export]'", " and ".join(missing))
        return
    optional = {"memory": memory, "action_mask": action_mask}
    more = {name: tensor for name, tensor in optional.items() if tensor is not None}
    parts = observation if isinstance(observation, Mapping) else {"observation": observation}
    names = tuple(parts) if isinstance(observation, Mapping) else None
    network = _WithInputs(online, names, remembers=memory is not None, masked=action_mask is not None).eval()
    inputs = {f"observation_{name}" if name in more else name: part for name, part in parts.items()} | more
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        # The warning says that all inputs share their first axis.
        warnings.filterwarnings("ignore", message=".*The axis name: batch will not be used")
        torch.onnx.export(
            network,
            tuple(inputs.values()),
            folder / ONNX,
            input_names=list(inputs),
            output_names=[output_name] if memory is None else [output_name, "next_memory"],
            dynamic_shapes=(tuple({0: batch} for _ in inputs),),
            external_data=False,
            verbose=False,
        )
    with torch.no_grad():
        _check_onnx(inputs, _side_by_side(network(*inputs.values())), folder / ONNX)


class _WithInputs(nn.Module):
    """A network with separate positional inputs: its observation, or its parts, its memory, and a mask. Its first
    outputs are the preferences, and a mask puts forbidden actions below all others.
    """

    def __init__(self, network: nn.Module, parts: tuple[str, ...] | None, remembers: bool, masked: bool) -> None:
        super().__init__()
        self.network, self.parts, self.remembers, self.masked = network, parts, remembers, masked

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        observation: Any = inputs[0] if self.parts is None else dict(zip(self.parts, inputs, strict=False))
        if not self.remembers:
            return self._masked(self.network(observation), inputs[-1])
        network: Any = self.network
        outputs, after = network.remember(observation, inputs[1 if self.parts is None else len(self.parts)])
        return self._masked(outputs, inputs[-1]), after

    def _masked(self, outputs: Tensor, mask: Tensor) -> Tensor:
        if not self.masked:
            return outputs
        num_actions = mask.shape[1]
        return torch.cat([masked(outputs[:, :num_actions], mask), outputs[:, num_actions:]], dim=1)


@torch.no_grad()
def _said(network: Any, observation: Any, memory: Tensor | None) -> Tensor:
    """The outputs of a network and, if it has one, its next memory, [B, *]."""
    return network(observation) if memory is None else _side_by_side(network.remember(observation, memory))


def _side_by_side(said: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    return said if isinstance(said, Tensor) else torch.cat(said, dim=1)


def _check_weights(online: nn.Module, said: Callable[[nn.Module], Tensor], path: Path) -> None:
    again = copy.deepcopy(online)
    for parameter in again.parameters():
        nn.init.zeros_(parameter)
    again.load_state_dict(safetensors.torch.load_file(path))
    if not torch.equal(said(again), said(online)):
        raise TrainingError(f"{path} does not give the values of the network that was written; do not use it.")


def _check_onnx(inputs: Mapping[str, Tensor], values: Tensor, path: Path) -> None:
    import onnxruntime  # slow to import, and part of an extra

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = np.concatenate(session.run(None, {name: rows.numpy() for name, rows in inputs.items()}), axis=1)
    first = np.concatenate(session.run(None, {name: rows[:1].numpy() for name, rows in inputs.items()}), axis=1)
    expected, lowest = values.numpy(), np.finfo(np.float32).min
    forbidden = expected == lowest
    if not np.array_equal(found == lowest, forbidden) or not np.array_equal(first == lowest, forbidden[:1]):
        raise TrainingError(f"{path} does not mask the actions that the network masks; do not use it.")
    allowed = np.where(forbidden, 0, expected)
    largest = float(np.abs(allowed).max())
    errors = np.where(forbidden, 0, found) - allowed, np.where(forbidden[:1], 0, first) - allowed[:1]
    error = max(float(np.abs(part).max()) for part in errors)
    if not error <= TOLERANCE * largest:
        raise TrainingError(
            f"{path} gives values up to {error:.2g} away from the network's, which reach {largest:.2g}; do not use it."
        )
    log.info(
        "%s: takes %s, at most %.1g from the network on %d observations, whose values reach %.3g",
        path,
        ", ".join(_described(name, rows) for name, rows in inputs.items() if name != "action_mask"),
        error,
        len(values),
        largest,
    )


def _described(name: str, rows: Tensor) -> str:
    dtype = str(rows.dtype).removeprefix("torch.")
    return dtype if name == "observation" else f"{name} {dtype}"
