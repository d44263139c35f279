"""An env is not saved but restored by playing again: the seed of its episode and its actions so far determine its
state.
"""

from collections.abc import Sequence
from enum import Enum

import numpy as np

from lit_dqn.errors import ConfigError
from lit_dqn.playing.episodes import RunningEpisode
from lit_dqn.playing.stage import Stage


class ResumeEnv(Enum):
    """How to treat the episodes that were running when a run was saved."""

    exact = "exact"
    """They resume: each is played again with its seed and actions. The env must be a function of the two."""

    new_episode = "new_episode"
    """They are truncated, and new ones begin: for envs that are not deterministic, or slow."""

    @classmethod
    def _missing_(cls, value: object) -> None:
        raise ConfigError(f"resume_env: {value!r} is unknown; give one of {', '.join(way.value for way in cls)}.")


def resimulate(stage: Stage, episodes: Sequence[RunningEpisode]) -> list[str | None]:
    """Restore the state of each env of a stage.

    The envs step together, because some cannot step alone: each episode begins when the number of steps left equals its
    length. Until then its env is idle and plays its first allowed action.

    Args:
        stage: of N envs.
        episodes: N.

    Returns:
        For each env None if it was restored, or how it differs.

    """
    length = np.array([len(episode.actions) for episode in episodes])
    steps = int(length.max())
    begin = steps - length
    actions = np.zeros((len(episodes), steps), np.int64)
    for env, episode in enumerate(episodes):
        actions[env, begin[env] :] = episode.actions
    ended_early, forbidden = np.zeros((2, len(episodes)), bool)
    ended = np.ones(len(episodes), bool)  # none has begun
    for step in range(steps + 1):
        begins = ended | (begin == step)
        if begins.any():
            seeds = [episode.seed if first <= step else None for episode, first in zip(episodes, begin, strict=True)]
            stage.begin(begins, seeds)
        if step < steps:
            chosen = actions[:, step]
            if stage.action_mask is not None:
                allowed = stage.allows(chosen)
                forbidden |= ~allowed & (begin <= step)
                chosen = np.where(allowed, chosen, stage.action_mask.argmax(axis=1))
            timestep, finished = stage.step(chosen)
            ended = timestep.last
            ended_early[[episode.env - stage.first_env for episode in finished]] = True
    return [
        "its episode ended before"
        if ended_early[env]
        else "an action that it played is forbidden"
        if forbidden[env]
        else "it paid other rewards"
        if now.total_reward != episode.total_reward
        else "it shows another frame"
        if now.frame_hash != episode.frame_hash
        else None
        for env, (now, episode) in enumerate(zip(stage.running(), episodes, strict=True))
    ]
