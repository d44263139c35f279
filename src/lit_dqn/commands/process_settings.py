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
"""Lightning's messages about seeds, devices and checkpoints, and its advertisements; a run reports what matters."""


def prepare_process() -> None:
    """Settings of torch and of warnings for every run."""
    for name in LIGHTNING_LOGS:
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning calls a function that torch has renamed; users cannot change that.
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
    close_the_parser()
    # Points are counted over epochs here, so an epoch shorter than the interval loses none.
    warnings.filterwarnings("ignore", message="The number of training batches")
    # All processes of a run know all episodes of an evaluation.
    warnings.filterwarnings("ignore", message=r"It is recommended to use `self.log\('eval/")
    # The file that a CSVLogger would delete on resume has been moved before.
    warnings.filterwarnings("ignore", message="Experiment logs directory .* exists and is not empty")
    # Lightning makes torch look for GPUs through NVML, and fused Adam then does so at every step. It is only needed for
    # forking, which lit_dqn never does.
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    # Half of Adam's averages of the maze's gradients become denormal numbers, with which CPUs are slow.
    torch.set_flush_denormal(True)


class StandardError(logging.Handler):
    """Writes to the present standard error, which belongs to the progress bar while there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        print(fold(line) if sys.stderr.isatty() else line, file=sys.stderr)
