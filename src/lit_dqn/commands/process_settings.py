"""Settings of the whole process."""

import logging
import os
import sys
import warnings

import torch

from lit_dqn.commands.report import fold
from lit_dqn.saving.settings import close_the_parser

LIGHTNING_LOGS = (
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric.utilities.seed",
    "lightning.fabric.utilities.distributed",
)
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
    # All processes of a run know all episodes of an evaluation.
    warnings.filterwarnings("ignore", message=r"It is recommended to use `self.log\('eval/")
    # What a CSVLogger would delete when a run is resumed has been set aside before.
    warnings.filterwarnings("ignore", message="Experiment logs directory .* exists and is not empty")
    # Lightning makes torch look for GPUs through NVML, and fused Adam then looks at every step; we never fork, which
    # is what this is for.
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    # Half of Adam's averages of the maze's gradients sink below the smallest normal number, where CPUs are slow.
    torch.set_flush_denormal(True)


class StandardError(logging.Handler):
    """Writes to the standard error of the moment, which is the progress bar's while there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        print(fold(line) if sys.stderr.isatty() else line, file=sys.stderr)
