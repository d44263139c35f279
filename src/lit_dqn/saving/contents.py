"""What a checkpoint must hold: which keys, of which types, in which ranges. All that is read passes through here.

A checkpoint may be damaged, made by another program, or by a stranger; whoever uses it afterwards may rely on this.
"""

import inspect
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lit_dqn.saving.checks import (
    Check,
    all_of,
    either,
    flag,
    list_of,
    mapping,
    number,
    optional,
    record,
    refuse,
    seconds,
    sequence_of,
    short,
    tensor,
    text,
    whole,
)

DATA_KEY = "ReplayDataModule"
"""Where Lightning keeps the state of the data module: the name of its class."""

REPLAY_SUFFIX = ".replay"
"""How the name of a replay's folder ends."""

REPLAY_NAME = re.compile(r"[^/\\\x00.][^/\\\x00]*\.replay")

MakeOptimizer = Callable[[Sequence[Tensor]], torch.optim.Optimizer]

STEERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")

LIGHTNING_VERSION = re.compile(r"[2-9]\d{0,3}(\.\d{1,8}){1,3}((a|b|rc|\.post|\.dev)\d{1,8})?", re.ASCII)

MAX_SESSIONS = 2**40
MAX_THREADS = 1024
MAX_DEPTH = 32
MAX_VALUES = 5_000_000


def replay_name(value: Any, where: str) -> None:
    """The name of a replay's folder, which lies beside its checkpoint and nowhere else."""
    if type(value) is not str or not REPLAY_NAME.fullmatch(value):
        refuse(where, f"is {short(value)}, not the name of a folder beside it that ends with {REPLAY_SUFFIX}")


def lightning_version(value: Any, where: str) -> None:
    """A version of Lightning, which would bring what an older one than 2 has saved into another form."""
    if type(value) is not str or not LIGHTNING_VERSION.fullmatch(value):
        refuse(where, f"is {short(value)}, not a version of Lightning from 2.0 on")


# --- what every checkpoint is ---

EPISODE = sequence_of(whole(), whole(), whole(), number, whole(), flag)

CALLBACKS: dict[str, Check] = {
    "StoppingRules": record({"returns": list_of(number)}),
    "TrainingStatistics": record(
        {
            "recent": list_of(EPISODE),
            "outputs": mapping,
            "logged_at": sequence_of(seconds, whole()),
            "seconds": seconds,
        }
    ),
    "Checkpoints": all_of(
        either("best_grade", "best_mean_reward", number),
        record({}, {"best_env_step": optional(whole()), "session": whole(high=MAX_SESSIONS)}),
    ),
    "MazeView": record({"evaluations": whole()}, {"shown_at": whole(-1)}),
    "EpisodeView": record({"evaluations": whole()}, {"shown_at": whole(-1)}),
}

AGENT = record(
    {
        "state_dict": mapping,
        "env_step": whole(),
        "hyper_parameters": record(
            {"observation_shape": list_of(whole(1, 2**31)), "num_actions": whole(1, 2**31)},
        ),
    },
    {
        "agent": text,
        "pytorch-lightning_version": lightning_version,
        "callbacks": record({}, CALLBACKS),
        "datamodule_hyper_parameters": mapping,
        DATA_KEY: record({}, {"replay": record({}, {"folder": replay_name})}),
    },
)


def check_agent(checkpoint: Any) -> None:
    """Refuse what holds no agent.

    Args:
        checkpoint: as `torch.load` gives it.

    Raises:
        ValueError: saying what is wrong, and where.

    """
    _check_plain(checkpoint)
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint or "env_step" not in checkpoint:
        raise ValueError("it is no checkpoint of lit_dqn")
    AGENT(checkpoint, "it")
    for name, weight in checkpoint["state_dict"].items():
        text(name, "a weight's name")
        if not isinstance(weight, Tensor):
            refuse(f"the weight {name}", f"is {short(weight)}, not a tensor")
        if weight.is_floating_point() and torch.isnan(weight).any():
            refuse(f"the weight {name}", "is NaN")
    outputs = checkpoint.get("callbacks", {}).get("TrainingStatistics", {}).get("outputs", {})
    lengths = {len(value) for name, value in outputs.items() if _is_row(name, value)}
    if len(lengths) > 1 or not all(_is_row(name, value) for name, value in outputs.items()):
        raise ValueError("its callbacks.TrainingStatistics.outputs are no rows of one length")


def _is_row(name: Any, value: Any) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor) and value.is_floating_point() and value.dim() == 1


def _check_plain(checkpoint: Any) -> None:
    """Refuse all but tensors and plain values, and what would grow when it is used: views that repeat one value,
    containers that hold themselves or each other many times over.
    """
    left, waiting = MAX_VALUES, [(checkpoint, "it", 0)]
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
    """Refuse what steers a terminal that shows it, and halves of letters, which no file takes."""
    if isinstance(value, str) and STEERS.search(value):
        refuse(where, f"has a text with letters that cannot be shown, {ascii(value)[:60]}")


def _check_attributes(value: dict[Any, Any], where: str) -> None:
    """Refuse what hides a dictionary's methods; `state_dict` notes the versions of its modules like this, no more."""
    attributes = getattr(value, "__dict__", {})
    versions = attributes.get("_metadata", {})
    if attributes.keys() - {"_metadata"} or getattr(versions, "__dict__", {}):
        refuse(where, f"has the attributes {', '.join(map(short, attributes))}")
    mapping(versions, f"{where}._metadata")
    for module, noted in versions.items():
        if type(noted) is not dict or any(type(number) is not int for number in noted.values()):
            refuse(f"{where}._metadata", f"says of {short(module)} what is no version")


def _check_tensor(value: Tensor, where: str) -> None:
    plain = type(value) in (Tensor, nn.Parameter) and value.layout is torch.strided and value.device.type == "cpu"
    if not plain or value.is_quantized or value.nbytes > value.untyped_storage().nbytes():
        refuse(where, "is a tensor of a kind that no checkpoint of lit_dqn has")


# --- what a run needs besides, to be resumed ---


def _counts(*names: str) -> Check:
    count = record(dict.fromkeys(names, whole()))
    return record({"total": count, "current": count})


def _progress() -> Check:
    batches = _counts("ready", "started", "processed", "completed")
    last = record({"is_last_batch": flag})

    def check(value: Any, where: str) -> None:
        batches(value, where)
        last(value, where)

    return check


LOOPS = record(
    {
        "fit_loop": record(
            {
                "state_dict": mapping,
                "epoch_progress": _counts("ready", "started", "processed", "completed"),
                "epoch_loop.state_dict": record({"_batches_that_stepped": whole()}),
                "epoch_loop.batch_progress": _progress(),
                "epoch_loop.scheduler_progress": _counts("ready", "completed"),
                "epoch_loop.automatic_optimization.state_dict": mapping,
                "epoch_loop.automatic_optimization.optim_progress": record(
                    {
                        "optimizer": record(
                            {
                                "step": _counts("ready", "completed"),
                                "zero_grad": _counts("ready", "started", "completed"),
                            }
                        )
                    }
                ),
                "epoch_loop.manual_optimization.state_dict": mapping,
                "epoch_loop.manual_optimization.optim_step_progress": _counts("ready", "completed"),
                "epoch_loop.val_loop.state_dict": mapping,
                "epoch_loop.val_loop.batch_progress": _progress(),
            }
        )
    }
)
"""Lightning's."""

GENERATOR = record(
    {
        "bit_generator": text,
        "state": record({"state": whole(high=2**128 - 1), "inc": whole(high=2**128 - 1)}),
        "has_uint32": whole(high=1),
        "uinteger": whole(high=2**32 - 1),
    }
)
"""NumPy's PCG64."""

WORD = whole(high=2**32 - 1)

RANDOM = record(
    {
        "python": sequence_of(whole(3, 3), list_of(WORD, 625), optional(number)),
        "numpy": sequence_of(text, list_of(WORD, 624), whole(high=624), whole(high=1), number),
        "torch": tensor((torch.uint8,)),
        "cuda": list_of(tensor((torch.uint8,))),
    }
)

OPTIMIZER = record({"state": mapping, "param_groups": list_of(record({"params": list_of(whole())}))})

HEAD = tensor((torch.int64,))

REPLAY = record(
    {
        "arrays": record({"head": HEAD}),
        "windows": sequence_of(whole(1), whole(1)),
        "next_start": whole(),
        "oldest_start": whole(),
        "identity": text,
        "folder": replay_name,
        "manifest_crc32": WORD,
    }
)


def _training(num_envs: int, num_actions: int) -> Check:
    running = record(
        {
            "seed": whole(),
            "actions": tensor((torch.uint8, torch.int32)),
            "total_reward": number,
            "frame_hash": text,
        }
    )
    collector = record(
        {
            "env_step": whole(),
            "episodes": whole(),
            "episode_of_env": list_of(whole(), num_envs),
            "generators": list_of(GENERATOR, num_envs),
            "finished": list_of(EPISODE),
            "running": list_of(running),
        }
    )
    return record(
        {
            "epoch": whole(),
            "global_step": whole(),
            "pytorch-lightning_version": lightning_version,
            "loops": LOOPS,
            "callbacks": record({"Checkpoints": mapping}),
            "optimizer_states": list_of(OPTIMIZER, 1),
            "lr_schedulers": list_of(mapping, 0),
            "threads": whole(1, MAX_THREADS),
            "random": RANDOM,
            DATA_KEY: record(
                {"collector": collector, "sampling": GENERATOR, "seed": whole()},
            ),
        }
    )


def check_training(checkpoint: Mapping[str, Any], replay: bool = True) -> None:
    """Refuse what a run cannot be resumed from.

    Args:
        checkpoint: that `check_agent` lets through.
        replay: whether with its replay, if it was saved with one.

    Raises:
        ValueError: saying what is wrong, and where.

    """
    record({"datamodule_hyper_parameters": record({"num_envs": whole(1)})})(checkpoint, "it")
    num_envs = checkpoint["datamodule_hyper_parameters"]["num_envs"]
    num_actions = checkpoint["hyper_parameters"]["num_actions"]
    _training(num_envs, num_actions)(checkpoint, "it")
    data = checkpoint[DATA_KEY]
    for generator in (data["sampling"], *data["collector"]["generators"]):
        if generator["bit_generator"] != "PCG64":
            raise ValueError("its generators are of another kind")
    running = data["collector"]["running"]
    if len(running) not in (0, num_envs):
        raise ValueError(f"it has {len(running)} running episodes of {num_envs} envs")
    for episode in running:
        actions = episode["actions"]
        if len(actions) and not 0 <= int(actions.min()) <= int(actions.max()) < num_actions:
            raise ValueError("its running episodes hold actions that the env does not have")
    if checkpoint["random"]["numpy"][0] != "MT19937" or checkpoint["random"]["python"][1][624] > 624:
        raise ValueError("its random generators are of another kind")
    _check_optimizer(checkpoint)
    if replay and "replay" in data:
        REPLAY(data["replay"], "its replay")
        _check_replay(checkpoint, num_envs)


def check_optimizer(state: Mapping[str, Any], weights: Sequence[Tensor], make_optimizer: MakeOptimizer) -> None:
    """Refuse an optimiser's state that does not fit the weights; torch would take it, and compute what memory holds.

    Args:
        state: of the optimiser.
        weights: that it is for.
        make_optimizer: one of that kind; a step of it on copies of the weights shows what a state has to be like.

    Raises:
        ValueError: naming what does not fit.

    """
    places = [index for group in state["param_groups"] for index in group["params"]]
    if sorted(places) != list(range(len(weights))):
        raise ValueError(f"its optimiser is of {len(places)} weights, and there are {len(weights)}")
    copies = [weight.detach().clone().requires_grad_() for weight in weights]
    try:
        optimizer = make_optimizer(copies)
        for copy in copies:
            copy.grad = torch.zeros_like(copy)
        optimizer.step()
    except (TypeError, ValueError, RuntimeError, KeyError):
        return  # one that cannot be tried like this
    for place, index in enumerate(places):
        saved, like = state["state"].get(index, {}), optimizer.state[copies[place]]
        for name, value in like.items() if saved else ():
            found = saved.get(name, ...)
            where = f"its optimiser's {str(name)[:40]}"
            if found is ...:
                refuse(where, "is missing")
            if isinstance(value, Tensor) and not (found is None or _are_alike(found, value)):
                refuse(where, f"is {short(found)}, not {short(value)}")


def _are_alike(found: Any, value: Tensor) -> bool:
    if not isinstance(found, Tensor):
        return False
    return (found.shape, found.stride(), found.dtype) == (value.shape, value.stride(), value.dtype)


def _check_optimizer(checkpoint: Mapping[str, Any]) -> None:
    state = checkpoint["optimizer_states"][0]
    places = {index for group in state["param_groups"] for index in group["params"]}
    for index, values in state["state"].items():
        if index not in places or not isinstance(values, Mapping):
            raise ValueError(f"its optimiser has a state of {str(index)[:40]}, which is no weight of it")
        for name, value in values.items():
            if isinstance(value, Tensor) and not (value.is_floating_point() and torch.isfinite(value).all()):
                raise ValueError(f"its optimiser's {str(name)[:40]} is no number")
    # Which of its tensors are weights, and which are statistics such as batch norm's, the network alone knows.
    weights = [weight for name, weight in checkpoint["state_dict"].items() if name.startswith("online.")]
    described = checkpoint["hyper_parameters"].get("optimizer")
    name = str(described.get("class_path")).rpartition(".")[2] if isinstance(described, Mapping) else ""
    kind = getattr(torch.optim, name, None)
    if len(weights) == len(places) and isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer):
        known = inspect.signature(kind).parameters.keys() - {"params"}
        settings = {key: value for key, value in state["param_groups"][0].items() if key in known}
        check_optimizer(state, weights, partial(kind, **settings))


def _check_replay(checkpoint: Mapping[str, Any], num_envs: int) -> None:
    replay, settings = checkpoint[DATA_KEY]["replay"], checkpoint["datamodule_hyper_parameters"]
    head = replay["arrays"]["head"]
    if len(head) != num_envs or int(head.min()) < 0 or int(head.max()) > 2**62:
        raise ValueError("its replay's head does not fit its envs")
    if checkpoint["env_step"] > 0 and not head.any():
        raise ValueError("its replay is empty")
    if not replay["oldest_start"] <= replay["next_start"]:
        raise ValueError("its replay's oldest start is after its next one")
    record({"capacity": whole(1)})(settings, "its datamodule_hyper_parameters")
    if replay["next_start"] - replay["oldest_start"] > settings["capacity"]:
        raise ValueError("its replay has more starts than places for them")
