"""How a process of several refuses to start: with one sentence, which the others end with, too."""

import os

import torch.distributed as dist
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from lit_dqn.commands.inputs import say_error
from lit_dqn.errors import one_line
from lit_dqn.training.heartbeat import refuse
from lit_dqn.training.strategy import STARTED_BY


def end_together(error: Exception) -> None:
    """Print an error, and tell it to the processes that a launcher started with this one, which would wait for it.

    Nobody is told once they are connected, or where Lightning started them, for then they notice the end of this one.
    """
    say_error(error)
    environment: ClusterEnvironment
    if SLURMEnvironment.detect():
        try:
            environment, count = SLURMEnvironment(), "SLURM_NTASKS"
        except RuntimeError:  # Lightning refuses the job's settings, in each of its processes
            return
        is_first = os.environ.get("SLURM_PROCID", "0") == "0"
    elif TorchElasticEnvironment.detect():
        environment, count, is_first = TorchElasticEnvironment(), "WORLD_SIZE", os.environ["RANK"] == "0"
    elif {"LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys() and STARTED_BY not in os.environ:
        environment, count = LightningEnvironment(), "WORLD_SIZE"
        is_first = (environment.node_rank(), environment.local_rank()) == (0, 0)
    else:
        return
    started = int(os.environ.get(count, "1"))
    if started == 1 or dist.is_initialized():
        return
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = environment.main_address, str(environment.main_port)
    refuse(one_line(error), started, is_first)
