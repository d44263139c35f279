"""Settings of the libraries below torch, made before a run trains."""

import os

import torch

from lit_dqn.learning.freed_memory import keep_freed_memory


def prepare_libraries() -> None:
    """Make updates reproducible bit for bit, and avoid unnecessary cost."""
    make_deterministic()
    keep_freed_memory()


def make_deterministic() -> None:
    """Let cuDNN and cuBLAS choose deterministic algorithms."""
    torch.backends.cudnn.deterministic = True
    # cuBLAS reads this when it is first used; the size is torch's default on recent cards.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
