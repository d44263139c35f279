"""An env is not saved but played again: the seed of its episode and its actions so far lead to where it was."""

from collections.abc import Sequence
from enum import Enum

import numpy as np

from lit_dqn.playing.episodes import RunningEpisode
from lit_dqn.playing.stage import Stage


class ResumeEnv(Enum):
    """What becomes of the episodes that were running when a run was saved."""

    exact = "exact"
    """They resume: each is played again from its seed by its actions. The env must be a function of the two."""

    new_episode = "new_episode"
    """They are cut as by a truncation, and new ones begin: for envs that are not deterministic, or slow."""


def resimulate(stage: Stage, episodes: Sequence[RunningEpisode]) -> list[str | None]:
    """Bring each env of a stage to where its episode was.

    The envs step together, for some cannot step alone: each one's episode begins when as many steps are left as it is
    long. Until then the env is idle and plays its first allowed action.

    Args:
        stage: of N envs.
        episodes: N.

    Returns:
        For each env None if it is where it was, or what is different.

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
