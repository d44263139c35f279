"""Equations as functions of tensors, batch first. Tensors of other shapes raise; nothing is broadcast."""

import math

import torch
from torch import Tensor

from lit_dqn.types import Batch


def _check_shapes(name: str, *tensors: Tensor) -> None:
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if any(len(shape) != 1 for shape in shapes) or len(set(shapes)) != 1:
        raise ValueError(f"{name} takes tensors of one shape [B], not {', '.join(map(str, shapes))}.")


def select(values: Tensor, index: Tensor) -> Tensor:
    """Select the entry of one action per row.

    Args:
        values: [B, A], or [B, A, N] with N numbers for each action.
        index: [B], int64, actions.

    Returns:
        [B] or [B, N], `values[b, index[b]]`.

    Raises:
        ValueError: if the shapes differ from these.

    """
    if values.ndim not in (2, 3) or index.shape != values.shape[:1]:
        raise ValueError(
            f"select takes values [B, A] or [B, A, N] and index [B], not {tuple(values.shape)} and "
            f"{tuple(index.shape)}."
        )
    return values.take_along_dim(index.view(-1, *[1] * (values.ndim - 1)), dim=1).squeeze(1)


def masked(values: Tensor, mask: Tensor | None) -> Tensor:
    """The values by which actions are chosen, with the lowest finite number for forbidden actions.

    So no maximum selects them, and every softmax gives them probability 0; -inf times this 0 would be NaN.

    Args:
        values: [B, A].
        mask: [B, A] bool, which actions are allowed; None: all are.

    Raises:
        ValueError: if the shapes differ.

    """
    if mask is None:
        return values
    if mask.shape != values.shape:
        raise ValueError(f"masked takes two tensors of one shape, not {tuple(values.shape)} and {tuple(mask.shape)}.")
    return values.masked_fill(~mask, torch.finfo(values.dtype).min)


def bootstrap(q_t_value: Tensor, q_t_selector: Tensor) -> Tensor:
    """The value at s' of the action that the selector prefers: max_a Q(s', a) if both are the same network.

    Args:
        q_t_value: [B, A], from the network that evaluates the action.
        q_t_selector: [B, A], from the network that selects it (van Hasselt et al. 2016, eq. 4: the online network).

    Returns:
        [B].

    Raises:
        ValueError: if the shapes differ from these.

    """
    if q_t_value.shape != q_t_selector.shape:
        raise ValueError(
            "bootstrap takes two tensors of one shape [B, A], "
            f"not {tuple(q_t_value.shape)} and {tuple(q_t_selector.shape)}."
        )
    return select(q_t_value, q_t_selector.argmax(dim=1))


def td_target(reward: Tensor, discount: Tensor, bootstrap_value: Tensor) -> Tensor:
    """R + discount * bootstrap (Sutton & Barto 2020, eq. 7.1, and the target in 6.2). All tensors are [B].

    Raises:
        ValueError: if the shapes differ.

    """
    _check_shapes("td_target", reward, discount, bootstrap_value)
    return reward + discount * bootstrap_value


def lambda_returns(reward: Tensor, discount: Tensor, last: Tensor, next_value: Tensor, trace_decay: float) -> Tensor:
    """G_t = R_{t+1} + discount ((1 - λ) V(s_{t+1}) + λ G_{t+1}) over T steps of each of N envs (eq. 12.18).

    Sutton & Barto (2020), section 12.8; with V(s) = max_a Q(s, a) it is Peng's Q(λ) (Peng & Williams 1994). Where an
    episode ended, the next step is not its own, so V(s_{t+1}) replaces G_{t+1}, as it does after the last step (section
    12.3). The discount tells whether the end was a termination.

    Args:
        reward: [N, T].
        discount: [N, T], γ, or 0 where the step has no future.
        last: [N, T] bool, where an episode ended, terminated or truncated.
        next_value: [N, T], V(s_{t+1}); where `last`, of the last observation of the episode.
        trace_decay: λ in [0, 1]; 0 bootstraps after each step, 1 only after the last reward.

    Returns:
        [N, T].

    Raises:
        ValueError: if the shapes differ from these.

    """
    shapes = [tuple(tensor.shape) for tensor in (reward, discount, last, next_value)]
    if reward.ndim != 2 or len(set(shapes)) != 1:
        raise ValueError(f"lambda_returns takes tensors of one shape [N, T], not {', '.join(map(str, shapes))}.")
    returns = torch.empty_like(reward)
    following = next_value[:, -1]
    for step in reversed(range(reward.shape[1])):
        value = next_value[:, step]
        mixed = torch.lerp(value, following, trace_decay)
        following = reward[:, step] + discount[:, step] * torch.where(last[:, step], value, mixed)
        returns[:, step] = following
    return returns


def squared(td_error: Tensor) -> Tensor:
    """½ δ², elementwise: its gradient is the TD error itself (Sutton & Barto 2020, eq. 9.4)."""
    return 0.5 * td_error.square()


def huber(td_error: Tensor, delta: float = 1.0) -> Tensor:
    """½ δ² up to |δ| = `delta`, linear beyond, elementwise.

    With `delta` 1 its gradient is the TD error clipped to [-1, 1] (Mnih et al. 2015, Methods).
    """
    clipped = td_error.clamp(-delta, delta)
    return clipped * (td_error - 0.5 * clipped)


def q_learning_td_error(q_tm1: Tensor, batch: Batch, q_t_value: Tensor, q_t_selector: Tensor) -> Tensor:
    """The TD error δ of Q-learning, [B] (Sutton & Barto 2020, eq. 6.8; Double: van Hasselt et al. 2016, eq. 4).

    Args:
        q_tm1: [B, A], Q(s, ·) of the online network; the only argument with a gradient.
        batch: actions, rewards, discounts, and which actions are allowed at s'.
        q_t_value: [B, A], Q(s', ·) that evaluates the action at s'.
        q_t_selector: [B, A], Q(s', ·) that selects it, among the actions that the batch's mask allows.

    """
    picked = bootstrap(q_t_value, masked(q_t_selector, batch.next_action_mask))
    target = td_target(batch.reward, batch.discount, picked)
    return target.detach() - select(q_tm1, batch.action)


def conservative_penalty(q_values: Tensor, action: Tensor, mask: Tensor | None = None) -> Tensor:
    """CQL(H): ln Σ_a exp Q(s, a) - Q(s, a_data), [B], the regulariser of Kumar et al. (2020), eq. 4.

    It lowers the values of all actions and raises that in the data, so untried actions are not overestimated.

    Args:
        q_values: [B, A], of the online network.
        action: [B], of the data.
        mask: [B, A] bool, which actions are allowed; the sum covers these and the one in the data; None: all.

    Raises:
        ValueError: if the shapes differ from these.

    """
    allowed = None if mask is None else mask.scatter(1, action.unsqueeze(1), True)  # else it rises without bound
    return masked(q_values, allowed).logsumexp(dim=1) - select(q_values, action)


def soft_value(q_values: Tensor, temperature: float) -> Tensor:
    """V(s) of π = softmax(Q / τ) with its entropy, Σ_a π(a|s) (Q(s, a) - τ ln π(a|s)) = τ ln Σ_a exp(Q(s, a) / τ).

    Args:
        q_values: [B, A].
        temperature: τ; as it goes to 0 this becomes max_a Q(s, a).

    Returns:
        [B].

    """
    return temperature * (q_values / temperature).logsumexp(dim=1)


def quantile_huber(quantiles: Tensor, target: Tensor, delta: float = 1.0, levels: Tensor | None = None) -> Tensor:
    """The loss of quantile regression, [B] (Dabney et al. 2018, "Distributional RL with quantile regression", eq. 10).

    Without `levels` the i-th of N quantiles has the level (i + ½) / N, with i from 0; the expectation over the target's
    samples is their mean.

    Args:
        quantiles: [B, N], θ(s, a) of the action taken; the only argument with a gradient.
        target: [B, M], equally likely samples of the return.
        delta: κ, where Huber's loss turns from square to linear; it is divided by κ, as in "Implicit quantile networks"
            (Dabney et al. 2018), so that it becomes the exact quantile loss as κ goes to 0.
        levels: [B, N], τ of each quantile.

    Raises:
        ValueError: if the shapes differ from these.

    """
    if quantiles.ndim != 2 or target.ndim != 2 or len(quantiles) != len(target):
        raise ValueError(
            "quantile_huber takes quantiles [B, N] and target [B, M], "
            f"not {tuple(quantiles.shape)} and {tuple(target.shape)}."
        )
    if levels is None:
        count = quantiles.shape[1]
        levels = ((torch.arange(count, device=quantiles.device, dtype=torch.float32) + 0.5) / count).unsqueeze(0)
    error = target.detach().unsqueeze(1) - quantiles.unsqueeze(2)  # [B, N, M]
    weight = (levels.unsqueeze(2) - (error.detach() < 0).to(error.dtype)).abs()
    return (weight * huber(error, delta)).mean(dim=2).sum(dim=1) / delta


def munchausen_bonus(q_values: Tensor, action: Tensor, temperature: float, lowest: float) -> Tensor:
    """max(τ ln π(a|s), lowest) with π = softmax(Q / τ), [B] (Vieillard, Pietquin & Geist 2020).

    Args:
        q_values: [B, A], of the target network.
        action: [B], the action taken.
        temperature: τ.
        lowest: lower bound of the bonus, below 0.

    """
    return (select(q_values, action) - soft_value(q_values, temperature)).clamp(lowest, 0)


def project(probabilities: Tensor, returns: Tensor, support: Tensor) -> Tensor:
    """Project a distribution onto a support: each mass is split between its two neighbours (C51, algorithm 1).

    Args:
        probabilities: [B, M].
        returns: [B, M], the positions of the masses, clipped to the support.
        support: [N], equally spaced.

    Returns:
        [B, N].

    """
    distance = (returns.clamp(support[0], support[-1]).unsqueeze(1) - support.unsqueeze(1)).abs()  # [B, N, M]
    return ((1 - distance / (support[1] - support[0])).clamp(min=0) * probabilities.unsqueeze(1)).sum(dim=2)


def gaussian_histogram(value: Tensor, support: Tensor, sigma: float) -> Tensor:
    """A truncated normal distribution around a value, as a histogram with the atoms in the middle of the bins.

    HL-Gauss of Farebrother et al. (2024, "Stop regressing", eq. 5 and 6).

    Args:
        value: [B], clipped to the support.
        support: [N], equally spaced.
        sigma: standard deviation, in bins.

    Returns:
        [B, N].

    """
    width = support[1] - support[0]
    edges = torch.cat([support - width / 2, support[-1:] + width / 2])
    below = torch.erf((edges - value.clamp(support[0], support[-1]).unsqueeze(1)) / (math.sqrt(2) * sigma * width))
    return below.diff(dim=1) / (below[:, -1:] - below[:, :1])


def policy_gradient(log_probability: Tensor, advantage: Tensor) -> Tensor:
    """-δ ln π(a|s), with the gradient of Sutton & Barto (2020), section 13.5; no gradient flows through δ. All are [B].

    Raises:
        ValueError: if the shapes differ.

    """
    _check_shapes("policy_gradient", log_probability, advantage)
    return -log_probability * advantage.detach()


def entropy(logits: Tensor) -> Tensor:
    """The entropy of softmax(logits) in nats, [B], of logits [B, A]."""
    log_probabilities = logits.log_softmax(dim=1)
    return -(log_probabilities.exp() * log_probabilities).sum(dim=1)


def weighed_mean(loss: Tensor, weight: Tensor | None) -> Tensor:
    """The loss of a batch.

    Args:
        loss: [B], of each transition.
        weight: [B], importance weights (Schaul et al. 2016, section 3.4); None: equal weights.

    Returns:
        A scalar, the mean of weight * loss.

    Raises:
        ValueError: if the shapes differ from these.

    """
    if weight is None:
        return loss.mean()
    _check_shapes("weighed_mean", loss, weight)
    return (weight * loss).mean()
