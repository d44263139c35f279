"""Settings of the whole process."""

import logging
import os
import warnings

import torch

from lit_dqn.checkpoint import close_the_parser


class _NoAdvertisement(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return "Tip:" not in record.getMessage()


_NO_ADVERTISEMENT = _NoAdvertisement()  # one, so that adding it again changes nothing


def prepare_process() -> None:
    """Settings of torch and of warnings that every run wants, whoever starts it."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_NO_ADVERTISEMENT)
    # Lightning's own call of a function that torch has since renamed; nothing that a user could mend.
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
    close_the_parser()
    # Lightning makes torch look for GPUs through NVML, and fused Adam then looks at every step; we never fork, which
    # is what this is for.
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    # Half of Adam's averages of the maze's gradients sink below the smallest normal number, where CPUs are slow.
    torch.set_flush_denormal(True)
