from collections.abc import Callable

import lightning
from torch import nn

from lit_dqn.learning.learner import Learner
from lit_dqn.learning.resets import ShrinkAndPerturb, fresh_network
from lit_dqn.schedules import Schedule


class Scheduled(lightning.LightningModule):
    """A module whose updates depend on the env step, and on nothing else, so there is no state to save."""

    env_step: int
    learning_rate: Schedule | None
    weight_decay: Schedule | None
    resets: ShrinkAndPerturb | None
    _make_network: Callable[[], nn.Module]
    _learner: Learner | None

    def follow_schedules(self, learner: Learner) -> None:
        """Set the scheduled values at this env step: in tensors, because a captured update cannot read Python
        numbers.
        """
        if self.learning_rate is not None:
            learner.set_learning_rate(self.learning_rate(self.env_step))
        if self.weight_decay is not None:
            learner.set_weight_decay(self.weight_decay(self.env_step))

    def reset_if_due(self, learner: Learner, before: int) -> None:
        """Reset the networks, if a reset has become due since an env step.

        Args:
            learner: has the networks.
            before: the env step of the previous updates.

        """
        if self.resets is None or learner.updates == 0:
            return
        number = self.resets.count(self.env_step)
        if number > self.resets.count(before):
            learner.reset(self.resets, fresh_network(self._make_network, learner.seed, number).to(self.device))

    @property
    def current_learning_rate(self) -> float:
        """The optimiser's learning rate, during training."""
        assert self._learner is not None
        return self._learner.learning_rate
