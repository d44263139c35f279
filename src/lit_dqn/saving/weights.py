from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from lit_dqn.errors import ConfigError
from lit_dqn.saving.checkpoint import Checkpoint


def check_weights(network: nn.Module, weights: dict[str, Tensor], key: str, source: object) -> None:
    """Refuse weights that do not fit, or are not finite.

    Args:
        network: the module that would take the weights.
        weights: by the names of its `state_dict`.
        key: the config key for the message.
        source: of the weights, for the message.

    Raises:
        ConfigError: names the first weight that is missing, unknown, of another shape, or NaN or infinite.

    """
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            raise ConfigError(
                f"{key}: {source} was made for another network: {name} is {found.get(name, 'missing')} there and "
                f"{expected.get(name, 'missing')} here; use the network and the environment that it was trained with."
            )
    for name, parameter in network.named_parameters():
        if parameter.is_floating_point() and not torch.isfinite(weights[name]).all():
            raise ConfigError(f"{key}: {source} holds weights that are NaN or infinite ({name}); take an earlier one.")


def load_network_weights(network: nn.Module, path: str | Path) -> None:
    """Load the online weights of a checkpoint, or the weights of a `.safetensors` file, into a network.

    Raises:
        ConfigError: if the file is missing or damaged, or its weights do not fit.

    """
    if Path(path).suffix == ".safetensors":
        try:
            weights = safetensors.torch.load_file(path)
        except (OSError, safetensors.SafetensorError) as error:
            raise ConfigError(f"init_from: {path} cannot be read ({error}); give another file.") from error
    else:
        try:
            weights = Checkpoint.read(path).online_weights()
        except ConfigError as error:
            raise ConfigError(
                f"init_from: {path} holds no weights of lit_dqn; give one of its .ckpt files, or a .safetensors file "
                f"({str(error).removeprefix('ckpt_path: ')})."
            ) from error
    check_weights(network, weights, "init_from", path)
    network.load_state_dict(weights)
