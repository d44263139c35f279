"""Settings of the whole process."""

import logging
import os
import warnings

import torch

from lit_dqn.saving.settings import close_the_parser

LIGHTNING_LOGS = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed")
"""What Lightning tells of seeds, devices and checkpoints, and its advertisements; a run says itself what matters."""


def prepare_process() -> None:
    """Settings of torch and of warnings that every run wants, whoever starts it."""
    for name in LIGHTNING_LOGS:
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning's own call of a function that torch has since renamed; nothing that a user could mend.
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
    close_the_parser()
    # Points are counted over epochs here, so an epoch shorter than the interval loses none.
    warnings.filterwarnings("ignore", message="The number of training batches")
    # What a CSVLogger would delete when a run is resumed has been set aside before.
    warnings.filterwarnings("ignore", message="Experiment logs directory .* exists and is not empty")
    # Lightning makes torch look for GPUs through NVML, and fused Adam then looks at every step; we never fork, which
    # is what this is for.
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    # Half of Adam's averages of the maze's gradients sink below the smallest normal number, where CPUs are slow.
    torch.set_flush_denormal(True)
