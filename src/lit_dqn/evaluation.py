"""Playing without learning: to grade an agent, or to watch it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv
from gymnasium.wrappers import RenderCollection
from numpy.typing import NDArray
from torch.utils.data import IterableDataset

from lit_dqn.collector import play_episode, play_episodes
from lit_dqn.policies import Policy
from lit_dqn.replay import stack_frames
from lit_dqn.types import ActionPreferences, Episode


class EvaluationDataset(IterableDataset[Episode]):
    """Evaluation episodes, played with the agent as it is when they are asked for.

    Args:
        envs: as `make_vec` makes them; they play side by side.
        agent: what it prefers.
        policy: how it acts.
        seeds: one episode each.
        max_steps: cap on the agent steps of an episode.
        frame_stack: frames in an observation.

    """

    def __init__(
        self,
        envs: VectorEnv,
        agent: ActionPreferences,
        policy: Policy,
        *,
        seeds: Sequence[int],
        max_steps: int,
        frame_stack: int,
    ) -> None:
        self.envs = envs
        self.agent = agent
        self.policy = policy
        self.seeds = seeds
        self.max_steps = max_steps
        self.frame_stack = frame_stack

    def __len__(self) -> int:
        return len(self.seeds)

    def __iter__(self) -> Iterator[Episode]:
        return play_episodes(
            self.envs,
            self.agent,
            self.policy,
            seeds=self.seeds,
            max_steps=self.max_steps,
            frame_stack=self.frame_stack,
        )


@dataclass
class Trajectory:
    """An episode that was played to be watched; T is its length."""

    seed: int
    observation: NDArray  # [T + 1, *shape], single frames, the last one included
    action: NDArray[np.int64]  # [T]
    reward: NDArray[np.float64]  # [T]
    terminated: bool
    pictures: list[NDArray[np.uint8]]  # T + 1 of [H, W, 3], or none if the env has no pictures
    fps: float
    frame_stack: int  # frames in what the agent saw

    def seen(self, step: int) -> NDArray:
        """What the agent saw at a step from 0 to T, [*observation_shape]; the first frame also stands before itself."""
        steps = np.maximum(np.arange(step - self.frame_stack + 1, step + 1), 0)
        frames = self.observation[steps]
        return frames[0] if self.frame_stack == 1 else stack_frames(frames[None])[0]

    @property
    def has_images(self) -> bool:
        """Whether the agent saw images, uint8 [channels, height, width]."""
        seen = self.seen(0)
        return seen.ndim == 3 and seen.dtype == np.uint8


class TrajectoryDataset(IterableDataset[Trajectory]):
    """Evaluation episodes with all that was seen, one after the other.

    Args:
        env: as `make_env_with_pictures` makes it.
        agent: what it prefers.
        policy: how it acts.
        seeds: one episode each.
        max_steps: cap on the agent steps of an episode.
        frame_stack: frames in an observation.

    """

    def __init__(
        self,
        env: gymnasium.Env,
        agent: ActionPreferences,
        policy: Policy,
        *,
        seeds: Sequence[int],
        max_steps: int,
        frame_stack: int,
    ) -> None:
        self.env = env
        self.agent = agent
        self.policy = policy
        self.seeds = seeds
        self.max_steps = max_steps
        self.frame_stack = frame_stack

    def __len__(self) -> int:
        return len(self.seeds)

    def __iter__(self) -> Iterator[Trajectory]:
        for seed in self.seeds:
            steps = list(
                play_episode(
                    self.env,
                    self.agent,
                    self.policy,
                    seed=seed,
                    max_steps=self.max_steps,
                    frame_stack=self.frame_stack,
                )
            )
            yield Trajectory(
                seed=seed,
                observation=np.stack([step.observation for step in steps] + [steps[-1].next_observation]),
                action=np.array([step.action for step in steps]),
                reward=np.array([step.reward for step in steps]),
                terminated=steps[-1].terminated,
                pictures=cast(list, self.env.render()) if isinstance(self.env, RenderCollection) else [],
                fps=self.env.metadata.get("render_fps", 30),
                frame_stack=self.frame_stack,
            )
