"""What agents know of the data that they learn from. What data know of agents is `CopiedAgent` of `types.py`."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import lightning
import numpy as np
from numpy.typing import NDArray

from lit_dqn.envs import Wrapper
from lit_dqn.playing.places import Place
from lit_dqn.playing.policies import Policy
from lit_dqn.replay import Horizon, Sampler


@runtime_checkable
class Data(Protocol):
    """Data that are played: by whom, of what env, and how much of it is learned from. `ReplayDataModule` is one."""

    env_id: str
    env_kwargs: dict[str, Any]
    wrappers: Sequence[Wrapper]
    frame_stack: int
    policy: Policy
    warm_up_policy: Policy
    eval_policy: Policy
    eval_max_steps: int
    play_ahead: bool
    place: Place | None
    sampler: Sampler
    batch_size: int
    shards: int
    env_steps_per_update: int
    reward_clip: float | None
    action_mask: bool

    @property
    def horizon(self) -> Horizon:
        """How far what is drawn looks ahead."""
        ...

    @property
    def blank_observation(self) -> NDArray[np.generic]:
        """An observation of zeros, [1, *observation_shape]."""
        ...

    @property
    def evaluation_seeds(self) -> list[int]:
        """Of the evaluation episodes during training."""
        ...

    @property
    def test_seeds(self) -> list[int]:
        """Of the episodes of `test`."""
        ...


def data_of(trainer: lightning.Trainer) -> Data | None:
    """The data of a run; None where they are somebody's own, of which an agent knows nothing but the chunks."""
    data = getattr(trainer, "datamodule", None)
    return data if isinstance(data, Data) else None
