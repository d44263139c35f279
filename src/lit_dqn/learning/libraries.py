"""What the libraries below torch are told before a run trains."""

import os

import torch

from lit_dqn.learning.freed_memory import keep_freed_memory


def prepare_libraries() -> None:
    """Let the same updates give the same bits each time, and cost no more than they must."""
    make_deterministic()
    keep_freed_memory()


def make_deterministic() -> None:
    """Let cuDNN and cuBLAS choose algorithms that give the same bits each time."""
    torch.backends.cudnn.deterministic = True
    # cuBLAS reads it when it is first used; it is torch's own size on recent cards.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
