"""The schema of checkpoints: which keys, of which types, in which ranges. Everything that is read passes through here.

A checkpoint may be damaged, or made by another program or a stranger; later code relies on these checks. Checkpoints of
older releases pass, too.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lit_dqn.errors import one_line
from lit_dqn.saving import contents as key
from lit_dqn.saving.checks import (
    LARGEST,
    Check,
    all_of,
    either,
    flag,
    list_of,
    mapping,
    number,
    of_each_shard,
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
from lit_dqn.saving.layout import REPLAY_SUFFIX
from lit_dqn.saving.loop_counters import LOOPS
from lit_dqn.saving.optimizer_state import check_saved_optimizer
from lit_dqn.saving.plain import check_plain
from lit_dqn.saving.shapes import combinations_of, num_actions, observation_shape

REPLAY_NAME = re.compile(rf"[^/\\\x00.][^/\\\x00]*{re.escape(REPLAY_SUFFIX)}")

LIGHTNING_VERSION = re.compile(r"[2-9]\d{0,3}(\.\d{1,8}){1,3}((a|b|rc|\.post|\.dev)\d{1,8})?", re.ASCII)
MAX_THREADS = 1024


def replay_name(value: Any, where: str) -> None:
    """The name of a replay's folder, which is always beside its checkpoint."""
    if type(value) is not str or not REPLAY_NAME.fullmatch(value):
        refuse(where, f"is {short(value)}, not the name of a folder beside it that ends with {REPLAY_SUFFIX}")


def lightning_version(value: Any, where: str) -> None:
    """A version of Lightning; it would convert the checkpoints of a version before 2."""
    if type(value) is not str or not LIGHTNING_VERSION.fullmatch(value):
        refuse(where, f"is {short(value)}, not a version of Lightning from 2.0 on")


# --- every checkpoint ---

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
        record({}, {"best_env_step": optional(whole()), "session": whole(high=key.MAX_SESSIONS)}),
    ),
    "MazeView": record({"evaluations": whole()}, {"shown_at": whole(-1)}),
    "EpisodeView": record({"evaluations": whole()}, {"shown_at": whole(-1)}),
}

AGENT = record(
    {
        key.WEIGHTS: mapping,
        key.ENV_STEP: whole(),
        key.AGENT_SETTINGS: record({"observation_shape": observation_shape, "num_actions": num_actions}),
    },
    {
        key.AGENT_NAME: text,
        "pytorch-lightning_version": lightning_version,
        key.CALLBACKS_STATE: record({}, CALLBACKS),
        key.DATA_SETTINGS: mapping,
        key.DATA_STATE: record({}, {key.REPLAY_STATE: of_each_shard(record({}, {key.REPLAY_FOLDER: replay_name}))}),
    },
)


def check_agent(checkpoint: Any) -> None:
    """Refuse a checkpoint without a valid agent.

    Args:
        checkpoint: from `torch.load`.

    Raises:
        ValueError: names the defect and its place.

    """
    check_plain(checkpoint)
    if not isinstance(checkpoint, dict) or key.WEIGHTS not in checkpoint or key.ENV_STEP not in checkpoint:
        raise ValueError("it is not a checkpoint of lit_dqn")
    AGENT(checkpoint, "it")
    for name, weight in checkpoint[key.WEIGHTS].items():
        text(name, "a weight's name")
        if not isinstance(weight, Tensor):
            refuse(f"the weight {name}", f"is {short(weight)}, not a tensor")
        if weight.is_floating_point() and torch.isnan(weight).any():
            refuse(f"the weight {name}", "is NaN")
    outputs = checkpoint.get(key.CALLBACKS_STATE, {}).get("TrainingStatistics", {}).get("outputs", {})
    lengths = {len(value) for name, value in outputs.items() if _is_row(name, value)}
    if len(lengths) > 1 or not all(_is_row(name, value) for name, value in outputs.items()):
        raise ValueError("its callbacks.TrainingStatistics.outputs are not rows of one length")


def _is_row(name: Any, value: Any) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor) and value.is_floating_point() and value.dim() == 1


# --- additional contents for resuming a run ---


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

REPLAY = record(
    {
        "arrays": record({"head": tensor((torch.int64,))}),
        "windows": sequence_of(whole(1), whole(1)),
        "next_start": whole(),
        "oldest_start": whole(),
        "identity": text,
        key.REPLAY_FOLDER: replay_name,
        key.MANIFEST_CRC32: WORD,
    }
)

ASYNCHRONOUS = record(
    {"arrivals": whole(), "training_steps": whole(), "lead": whole(-LARGEST), "envs_per_player": whole(1)}
)


def _training(num_envs: int, shards: int) -> Check:
    running = record(
        {
            "seed": whole(),
            "actions": tensor((torch.uint8, torch.int32, torch.int64)),
            "total_reward": number,
            "frame_hash": text,
        },
        {"memory": tensor((torch.float32,))},
    )
    sampling = of_each_shard(GENERATOR, shards)
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
    state = {"collector": collector, "sampling": sampling, "seed": whole()}
    return record(
        {
            "epoch": whole(),
            "global_step": whole(),
            "pytorch-lightning_version": lightning_version,
            key.LOOPS_STATE: LOOPS,
            key.CALLBACKS_STATE: record({"Checkpoints": mapping}),
            key.OPTIMIZERS: list_of(OPTIMIZER, 1),
            "lr_schedulers": list_of(mapping, 0),
            key.THREADS: whole(1, MAX_THREADS),
            key.RANDOM_STATE: RANDOM,
            key.DATA_STATE: record(state, {"prefilled": whole(), key.ASYNCHRONOUS: ASYNCHRONOUS}),
        },
        {key.DEVICE: text},
    )


def check_training(checkpoint: Mapping[str, Any], replay: bool = True) -> None:
    """Refuse a checkpoint from which a run cannot be resumed.

    Args:
        checkpoint: one that passes `check_agent`.
        replay: whether to check its replay, if it was saved with one.

    Raises:
        ValueError: names the defect and its place.

    """
    record({key.DATA_SETTINGS: record({"num_envs": whole(1)}, {"shards": whole(1)})})(checkpoint, "it")
    settings = checkpoint[key.DATA_SETTINGS]
    num_envs, shards = settings["num_envs"], settings.get("shards", 1)
    if num_envs % shards:
        raise ValueError(f"its {num_envs} envs are not shared equally by its {shards} shards")
    _training(num_envs, shards)(checkpoint, "it")
    data = checkpoint[key.DATA_STATE]
    for generator in (*key.replays_of(data["sampling"]), *data["collector"]["generators"]):
        if generator["bit_generator"] != "PCG64":
            raise ValueError("its generators are of another kind")
    running, count = data["collector"]["running"], combinations_of(checkpoint[key.AGENT_SETTINGS]["num_actions"])
    if len(running) not in (0, num_envs):
        raise ValueError(f"it has {len(running)} running episodes of {num_envs} envs")
    for episode in running:
        actions = episode["actions"]
        if len(actions) and not 0 <= int(actions.min()) <= int(actions.max()) < count:
            raise ValueError("its running episodes hold actions that the env does not have")
    random = checkpoint[key.RANDOM_STATE]
    if random["numpy"][0] != "MT19937" or random["python"][1][624] > 624:
        raise ValueError("its random generators are of another kind")
    try:
        torch.Generator().set_state(random["torch"])
    except RuntimeError as error:
        raise ValueError(f"the state of torch's generator is invalid: {one_line(error)}") from error
    weights = [weight for name, weight in checkpoint[key.WEIGHTS].items() if name.startswith(key.ONLINE)]
    optimizer = checkpoint[key.AGENT_SETTINGS].get("optimizer")
    class_path = str(optimizer.get("class_path")) if isinstance(optimizer, Mapping) else ""
    check_saved_optimizer(checkpoint[key.OPTIMIZERS][0], weights, class_path)
    if replay and key.REPLAY_STATE in data:
        of_each_shard(REPLAY, shards)(data[key.REPLAY_STATE], "its replay")
        for state in key.replays_of(data[key.REPLAY_STATE]):
            _check_replay(checkpoint, state, num_envs // shards, shards)


def _check_replay(checkpoint: Mapping[str, Any], replay: Mapping[str, Any], num_envs: int, shards: int) -> None:
    settings, head = checkpoint[key.DATA_SETTINGS], replay["arrays"]["head"]
    if len(head) != num_envs or int(head.min()) < 0 or int(head.max()) > 2**62:
        raise ValueError("its replay's head does not fit its envs")
    if checkpoint[key.ENV_STEP] > 0 and not head.any():
        raise ValueError("its replay is empty")
    if not replay["oldest_start"] <= replay["next_start"]:
        raise ValueError("its replay's oldest start is after its next one")
    record({"capacity": whole(1)})(settings, "its datamodule_hyper_parameters")
    if replay["next_start"] - replay["oldest_start"] > settings["capacity"] // shards:
        raise ValueError("its replay has more starts than places for them")
