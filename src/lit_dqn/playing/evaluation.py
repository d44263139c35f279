"""Episodes played side by side without learning, to grade an agent."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv
from torch.utils.data import IterableDataset

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
    """Play episodes side by side without learning, each env the next one of `seeds` when it is free.

    An episode has its own seed and its own generator of exploration, so that it is the same in whichever env it is
    played (as far as float sums do not depend on the size of a batch).

    Args:
        envs: as `make_vec` makes them.
        agent: what it prefers.
        policy: how actions follow from them; schedules are asked for env step 0.
        seeds: one episode each, of the env and of the policy.
        max_steps: cap on the agent steps of an episode; a greedy policy can loop for ever.
        frame_stack: frames in an observation.
        action_mask: whether the infos of the envs say which actions are allowed.

    Yields:
        The episodes in the order of their seeds, numbered from 1.

    """
    stage = Stage(envs, frame_stack, seed=None, max_steps=max_steps, action_mask=action_mask)
    waiting = deque(enumerate(seeds))
    playing = [0] * envs.num_envs  # which of the episodes
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
    """Episodes that are played when they are asked for, with the agent as it is then.

    Args:
        envs: an env or a vector env.
        seeds: one episode each.
        play: plays them: (envs, seeds=seeds) -> what an episode is to be.

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
    """Episodes that n processes play, each every n-th, and tell each other: they are the same for any n.

    Args:
        played: those of this process; None if it has none.
        count: of all episodes.
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
