"""Upper limits for comparison with the other figures."""

import torch

from gpu_sections.cases import Case, Figure
from gpu_sections.measuring import Bench

SIZE = 8_192
"""Rows and columns of the matrices that are multiplied."""


def cases(bench: Bench) -> list[Case]:
    """Memory, launches, arithmetic."""
    size = 1_000_000 if bench.smoke else 1 << 30

    def copy(seconds: float) -> Figure:
        source = torch.randint(0, 256, (size,), dtype=torch.uint8, device=bench.device)
        target = torch.empty_like(source)
        speeds = [2 * size / repeat / 1e9 for repeat in bench.time_of(lambda: target.copy_(source), seconds)]
        return Figure.of(speeds, "GB/s", counted="bytes read and written")

    def upload(seconds: float) -> Figure:
        source = torch.zeros(size // 8, dtype=torch.uint8, pin_memory=bench.cuda)
        target = torch.empty(size // 8, dtype=torch.uint8, device=bench.device)
        repeats = bench.time_of(lambda: target.copy_(source, non_blocking=True), seconds)
        return Figure.of([size / 8 / repeat / 1e9 for repeat in repeats], "GB/s")

    def launch(seconds: float) -> Figure:
        tensor = torch.zeros(1, device=bench.device)
        return Figure.of([1e6 * repeat for repeat in bench.time_of(lambda: tensor.add_(1), seconds)], "µs")

    def replay(seconds: float) -> Figure:
        if not bench.cuda:
            return Figure("no GPU")
        tensor, graph = torch.zeros(1, device=bench.device), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(100):
                tensor.add_(1)
        return Figure.of([1e6 * repeat / 100 for repeat in bench.time_of(graph.replay, seconds)], "µs")

    def product(seconds: float) -> Figure:
        rows = 128 if bench.smoke else SIZE
        matrix = torch.randn(rows, rows, device=bench.device, dtype=torch.bfloat16)
        repeats = bench.time_of(lambda: matrix @ matrix, seconds)
        return Figure.of([2 * rows**3 / repeat / 1e12 for repeat in repeats], "TFLOP/s")

    return [
        Case("copy on the device", copy),
        Case("upload of pinned memory", upload),
        Case("a kernel that Python launches", launch),
        Case("a kernel of a graph", replay),
        Case("matrix product in bf16", product),
    ]
