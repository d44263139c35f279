"""Milliseconds of an update by the way it is run, its precision and its batch."""

import copy
import itertools
from collections.abc import Callable

import torch
from torch import nn

import lit_dqn
from gpu_sections.cases import Case, Figure
from gpu_sections.measuring import Bench, arithmetic
from lit_dqn.learning.learner import Learner
from lit_dqn.learning.networks import NatureCNN
from lit_dqn.learning.objectives import DoubleQLearning
from lit_dqn.types import Batch

SHAPE, ACTIONS = (4, 84, 84), 6
UPDATES = 8
"""Of a chunk."""
MAX_GRAD_NORM = 10.0
PRECISIONS = {"float32": "float32", "bf16-mixed": "float32", "TF32": "TF32"}
"""What float32 means in each (TF32 of measuring.py)."""
WAYS = ("graph", "eager", "plain torch", "graph, not deterministic")
"""`Learner`'s ways with deterministic kernels, as in runs; a loop of torch's own calls, as release 0.1.0 made its
updates; and one that tells what deterministic kernels cost.
"""


def cases(bench: Bench) -> list[Case]:
    """Small batches first."""
    batch_sizes = (2,) if bench.smoke else (32, 256, 512)
    networks = {"Nature CNN": NatureCNN}
    if hasattr(lit_dqn, "ImpalaCNN"):
        networks["Impala"] = lit_dqn.ImpalaCNN
    return [
        _case(bench, name, network, batch_size, precision, way)
        for (name, network), batch_size, precision, way in itertools.product(
            networks.items(), batch_sizes, PRECISIONS, WAYS
        )
        if way in WAYS[:3] or batch_size == batch_sizes[0]
    ]


def _case(
    bench: Bench, name: str, network: Callable[..., nn.Module], batch_size: int, precision: str, way: str
) -> Case:
    def measure(seconds: float) -> Figure:
        torch.manual_seed(0)
        batches = [_batch(bench, batch_size) for _ in range(1 if bench.smoke else UPDATES)]
        with arithmetic(PRECISIONS[precision], deterministic=way in ("graph", "eager")):
            make = _plain_torch if way == "plain torch" else _learner
            chunk = make(bench, network(SHAPE, ACTIONS), batches, precision, way)
            return bench.milliseconds(chunk, seconds, per=len(batches))

    return Case(f"{name}, batch {batch_size}, {precision}, {way}", measure)


def _batch(bench: Bench, size: int) -> Batch:
    def pixels() -> torch.Tensor:
        return torch.randint(0, 256, (size, *SHAPE), dtype=torch.uint8, device=bench.device)

    action = torch.randint(0, ACTIONS, (size,), device=bench.device)
    reward = torch.randn(size, device=bench.device)
    return Batch(pixels(), action, reward, torch.full_like(reward, 0.97), pixels())


def _plain_torch(
    bench: Bench, network: nn.Module, batches: list[Batch], precision: str, way: str
) -> Callable[[], None]:
    online = network.to(bench.device)
    target = copy.deepcopy(online).requires_grad_(False)
    objective = DoubleQLearning(huber_delta=1.0)
    optimizer = torch.optim.Adam(online.parameters(), lr=1e-4, eps=1.5e-4, fused=True)

    def chunk() -> None:
        for batch in batches:
            with torch.autocast(bench.device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
                loss = objective(online, target, batch).loss.mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(online.parameters(), MAX_GRAD_NORM)
            optimizer.step()

    return chunk


def _learner(bench: Bench, network: nn.Module, batches: list[Batch], precision: str, way: str) -> Callable[[], None]:
    from lit_dqn.learning.learner import Update
    from lit_dqn.types import StaticBatches

    class Standing(StaticBatches):
        """Batches at fixed addresses, like those that the device gathers."""

        def __init__(self) -> None:
            self.fields = tuple(map(torch.stack, zip(*(batch.tensors for batch in batches), strict=True)))

        def make(self, fields: tuple[torch.Tensor, ...]) -> Batch:
            return Batch(*fields)

    online = network.to(bench.device)
    target = copy.deepcopy(online).requires_grad_(False)
    optimizer = torch.optim.Adam(online.parameters(), lr=1e-4, eps=1.5e-4, fused=True)
    learner = Learner(
        online,
        target,
        DoubleQLearning(huber_delta=1.0),
        optimizer,
        target_update_period=10**9,
        max_grad_norm=MAX_GRAD_NORM,
        update=Update(way.partition(",")[0]),
    )
    standing = Standing()

    def chunk() -> None:
        with torch.autocast(bench.device.type, torch.bfloat16, enabled=precision == "bf16-mixed", cache_enabled=False):
            learner.update_many(standing)

    return chunk
