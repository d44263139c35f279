"""Refuses everything in a checkpoint but tensors and plain values, and everything that expands on use."""

import re
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from lit_dqn.saving.checks import mapping, refuse, short

STEERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")

MAX_DEPTH = 32
MAX_VALUES = 5_000_000


def check_plain(contents: Any) -> None:
    """Refuse everything but tensors and plain values, and everything that expands on use: views that repeat a value,
    containers that contain themselves or each other many times.

    Raises:
        ValueError: names the defect and its place.

    """
    left, waiting = MAX_VALUES, [(contents, "it", 0)]
    while waiting:
        value, where, depth = waiting.pop()
        left -= 1
        if left < 0 or depth > MAX_DEPTH:
            raise ValueError("it holds more values, or deeper ones, than any checkpoint of lit_dqn")
        if isinstance(value, Tensor):
            _check_tensor(value, where)
        elif type(value) in (dict, OrderedDict):
            _check_attributes(value, where)
            for key, part in value.items():
                if type(key) not in (str, int):
                    refuse(where, f"has a key that is a {type(key).__name__}")
                _check_letters(key, where)
                waiting.append((part, f"{where}.{str(key)[:40]}", depth + 1))
        elif type(value) in (list, tuple, torch.Size):
            waiting += [(part, where, depth + 1) for part in value]
        elif type(value) not in (str, int, float, bool, type(None), torch.dtype, torch.device):
            refuse(where, f"is a {type(value).__name__}")
        else:
            _check_letters(value, where)


def _check_letters(value: Any, where: str) -> None:
    """Refuse terminal control characters, and lone surrogates, which cannot be written to a file."""
    if isinstance(value, str) and STEERS.search(value):
        refuse(where, f"has a text with letters that cannot be shown, {ascii(value)[:60]}")


def _check_attributes(value: dict[Any, Any], where: str) -> None:
    """Refuse attributes of dictionaries, which could hide their methods; only a `state_dict` has versions of its
    modules.
    """
    attributes = getattr(value, "__dict__", {})
    versions = attributes.get("_metadata", {})
    if attributes.keys() - {"_metadata"} or getattr(versions, "__dict__", {}):
        refuse(where, f"has the attributes {', '.join(map(short, attributes))}")
    mapping(versions, f"{where}._metadata")
    for module, noted in versions.items():
        if type(noted) is not dict or any(type(number) is not int for number in noted.values()):
            refuse(f"{where}._metadata", f"says of {short(module)} what is not a version")


def _check_tensor(value: Tensor, where: str) -> None:
    plain = type(value) in (Tensor, nn.Parameter) and value.layout is torch.strided and value.device.type == "cpu"
    if not plain or value.is_quantized or value.nbytes > value.untyped_storage().nbytes():
        refuse(where, "is a tensor of a kind that no checkpoint of lit_dqn has")
