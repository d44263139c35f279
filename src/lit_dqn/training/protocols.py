"""The interface of data for agents. The interface of agents for data is `CopiedAgent` of `types.py`."""

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
    """Data that are played: by which policy, in which env, and how they feed the updates. `ReplayDataModule` is one."""

    env_id: str
    env_kwargs: dict[str, Any]
    observation_shape: tuple[int, ...] | dict[str, dict[str, Any]]
    num_actions: int | tuple[int, ...]
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
    strict: bool
    env_steps_per_update: int
    gradient_steps: int
    reward_clip: float | None
    action_mask: bool

    @property
    def horizon(self) -> Horizon:
        """The horizon (n and γ) of drawn transitions."""
        ...

    @property
    def blank_observation(self) -> NDArray[np.generic]:
        """An observation of zeros, [1, *observation_shape]."""
        ...

    @property
    def evaluation_seeds(self) -> list[int]:
        """The seeds of the evaluation episodes during training."""
        ...

    @property
    def test_seeds(self) -> list[int]:
        """The seeds of the episodes of `test`."""
        ...


def data_of(trainer: lightning.Trainer) -> Data | None:
    """The data of a run; None for custom data, of which an agent uses only the chunks."""
    data = getattr(trainer, "datamodule", None)
    return data if isinstance(data, Data) else None
