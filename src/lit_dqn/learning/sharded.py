"""The gradient of an update whose batch comes from several shards of the replay."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lit_dqn.learning.draws import NOISE_STREAM, dropout_seed, uniforms
from lit_dqn.learning.losses import weighed_mean
from lit_dqn.learning.networks import Noise
from lit_dqn.types import Batch, Learned, LossOutput


@dataclass(frozen=True)
class Shards:
    """The shards of this process."""

    count: int  # of the whole run, a power of two
    here: range  # the numbers of this process's shards
    add_up: Callable[[list[Tensor]], Tensor]
    """The sum over all shards of the run, with the same bits in all processes, of one tensor per shard of this one."""


class ShardedGradient:
    """One backward pass per shard's part of a batch; their sum is the gradient of the mean over all parts.

    Each part has its own noise, random numbers and dropout: functions of the run's seed, the number of updates and the
    shard's number. So the sum has the same bits wherever the shards are, if `shards.add_up` has a fixed order.

    Args:
        shards: of this process and of the run.
        online: the network that learns.
        target: the network that evaluates s'.
        objective: the loss of a batch.
        backward: computes the gradient of a loss.
        noise: of the networks, the online one's first.
        draws: how many numbers the objective draws per transition.
        seed: of the run.

    """

    def __init__(
        self,
        shards: Shards,
        online: nn.Module,
        target: nn.Module,
        objective: Callable[[nn.Module, nn.Module, Batch], LossOutput],
        backward: Callable[[Tensor], None],
        noise: Sequence[Noise],
        draws: int,
        seed: int,
    ) -> None:
        self._shards = shards
        self._online = online
        self._target = target
        self._objective = objective
        self._backward = backward
        self._noise = noise
        self._draws = draws
        self._seed = seed
        self._parameters = list(online.parameters())

    def parts(self, batches: Sequence[Batch]) -> list[Sequence[Batch]]:
        """The batches of K updates as K groups of parts, one part per shard of this process."""
        each = len(self._shards.here)
        return [batches[first : first + each] for first in range(0, len(batches), each)]

    def __call__(self, parts: Sequence[Batch], updates: int) -> Learned:
        """Store the gradient of the mean loss over all shards in the parameters.

        Args:
            parts: one per shard of this process.
            updates: number of earlier updates.

        Returns:
            The metrics as means over all shards; the priorities [B] of the parts of this process, concatenated.

        """
        with torch.random.fork_rng([parts[0].reward.device.index] if parts[0].reward.is_cuda else []):
            return self._add_up(parts, updates)

    def _add_up(self, parts: Sequence[Batch], updates: int) -> Learned:
        gradients, priorities = [], []
        for shard, part in zip(self._shards.here, parts, strict=True):
            self._draw(updates, shard, part.reward.device)
            if self._draws:
                numbers = uniforms(self._seed, updates, 1, len(part.reward), self._draws, shard)[0]
                part = part._replace(uniform=numbers.to(part.reward.device))
            output = self._objective(self._online, self._target, part)
            loss = weighed_mean(output.loss, part.weight)
            self._online.zero_grad()
            self._backward(loss)
            metrics = {"loss": loss.detach(), **output.metrics}
            learned = [parameter for parameter in self._parameters if parameter.grad is not None]
            row = torch.stack([value.float() for value in metrics.values()])
            flat = torch.cat([*(parameter.grad.flatten() for parameter in learned), row])  # type: ignore[union-attr]
            gradients.append(flat / self._shards.count)  # exact, because it is a power of two
            if part.weight is not None and output.priority is not None:
                priorities.append(output.priority)
        *sums, row = self._shards.add_up(gradients).split([*(one.numel() for one in learned), len(metrics)])
        for parameter, gradient in zip(learned, sums, strict=True):
            parameter.grad = gradient.view_as(parameter)
        return Learned(
            dict(zip(metrics, row.unbind(), strict=True)), torch.cat(priorities) if len(priorities) > 0 else None
        )

    def _draw(self, updates: int, shard: int, device: torch.device) -> None:
        for number, noise in enumerate(self._noise):
            noise.draw(self._seed, updates, 2 * shard + number, NOISE_STREAM)
        # Not `torch.manual_seed`, which stores a call for each GPU, even if none is ever used.
        generator = torch.default_generator if device.type == "cpu" else torch.cuda.default_generators[device.index]
        generator.manual_seed(dropout_seed(self._seed, updates, shard))


def stacked(updates: Sequence[Learned]) -> Learned:
    """Combine the results of K updates."""
    metrics = {name: _stack([update.metrics[name] for update in updates]) for name in updates[0].metrics}
    priorities = [update.priority for update in updates if update.priority is not None]
    return Learned(metrics, _stack(priorities) if priorities else None)


def _stack(values: Sequence[Tensor]) -> Tensor:
    return values[0].unsqueeze(0) if len(values) == 1 else torch.stack(list(values))
