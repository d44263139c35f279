"""Parallel episodes without learning, to evaluate an agent."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv
from torch.utils.data import IterableDataset

from lit_dqn.playing.memory import memory_size_of
from lit_dqn.playing.policies import Policy
from lit_dqn.playing.seeds import exploration_generator_of_episode
from lit_dqn.playing.stage import Stage
from lit_dqn.ranks import Ranks
from lit_dqn.types import ActionPreferences, Episode

Played = TypeVar("Played")


def play_episodes(
    envs: VectorEnv,
    agent: ActionPreferences,
    policy: Policy,
    *,
    seeds: Sequence[int],
    max_steps: int,
    frame_stack: int = 1,
    action_mask: bool = False,
) -> Iterator[Episode]:
    """Play episodes in parallel without learning; each free env plays the next one of `seeds`.

    An episode has its own seed and its own generator of exploration, so it does not depend on the env that plays it
    (except where float sums depend on the size of a batch).

    Args:
        envs: from `make_vec`.
        agent: the agent that acts.
        policy: how actions follow from its preferences; schedules are evaluated at env step 0.
        seeds: one episode each, of the env and of the policy.
        max_steps: cap on the agent steps of an episode; a greedy policy can loop endlessly.
        frame_stack: frames in an observation.
        action_mask: whether the infos of the envs contain action masks.

    Yields:
        The episodes in the order of their seeds, numbered from 1.

    """
    stage = Stage(
        envs,
        frame_stack,
        seed=None,
        max_steps=max_steps,
        action_mask=action_mask,
        memory_size=memory_size_of(agent),
    )
    waiting = deque(enumerate(seeds))
    playing = [0] * envs.num_envs  # index of the episode
    generators = [exploration_generator_of_episode(0)] * envs.num_envs
    done: dict[int, Episode] = {}
    given = 0
    ended = np.ones(envs.num_envs, bool)  # none has begun
    while given < len(seeds):
        if ended.any():
            next_seeds: list[int | None] = [None] * envs.num_envs
            for env in map(int, np.flatnonzero(ended)[: len(waiting)]):
                playing[env], seed = waiting.popleft()
                next_seeds[env] = seed
                generators[env] = exploration_generator_of_episode(seed)
            stage.begin(ended, next_seeds)
        action = stage.act(policy, agent, 0, generators)
        timestep, finished = stage.step(action)
        ended = timestep.last
        for episode in finished:
            index = playing[episode.env]
            done[index] = Episode(number=index + 1, env_step=0, **episode._asdict())
        while given in done:
            yield done.pop(given)
            given += 1


class PlayedDataset(IterableDataset[Played]):
    """Episodes that are played on iteration, with the agent of that moment.

    Args:
        envs: an env or a vector env.
        seeds: one episode each.
        play: plays them: (envs, seeds=seeds) -> the episodes.

    """

    def __init__(
        self, envs: gymnasium.Env | VectorEnv, seeds: Sequence[int], play: Callable[..., Iterator[Played]]
    ) -> None:
        self.envs = envs
        self.seeds = seeds
        self.play = play

    def __len__(self) -> int:
        return len(self.seeds)

    def __iter__(self) -> Iterator[Played]:
        return self.play(self.envs, seeds=self.seeds)


class SharedDataset(IterableDataset[Played]):
    """Episodes that n processes share: each plays every n-th, and all receive all, which are the same for any n.

    Args:
        played: the episodes of this process; None if it has none.
        count: number of all episodes.
        ranks: the processes.

    """

    def __init__(self, played: PlayedDataset[Played] | None, count: int, ranks: Ranks) -> None:
        self.played = played
        self.count = count
        self.ranks = ranks

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Played]:
        own: Iterator[Played] = iter(()) if self.played is None else iter(self.played)
        for _ in range(0, self.count, self.ranks.count):
            yield from (episode for episode in self.ranks.gather(next(own, None)) if episode is not None)
