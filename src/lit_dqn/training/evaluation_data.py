from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import gymnasium
import lightning
from gymnasium.vector import VectorEnv

from lit_dqn.envs import AtariProtocol, Wrapper, is_atari, make_env_with_pictures, make_vec
from lit_dqn.playing.evaluation import PlayedDataset, SharedDataset, play_episodes
from lit_dqn.playing.policies import Policy
from lit_dqn.playing.seeds import EVALUATION_ENV, TEST_ENV, evaluation_seeds
from lit_dqn.playing.trajectories import Trajectory, play_trajectories
from lit_dqn.ranks import Ranks
from lit_dqn.saving.specification import specification
from lit_dqn.types import CopiedAgent, Episode


class EvaluationData(lightning.LightningDataModule):
    """Data for evaluating an agent: the episodes of `validate`, `test` and `predict`, and their protocol."""

    env_id: str
    env_kwargs: dict[str, Any]
    wrappers: Sequence[Wrapper]
    action_mask: bool
    env_processes: bool
    frame_stack: int
    eval_episodes: int
    eval_envs: int
    eval_max_steps: int
    eval_policy: Policy
    seed: int

    def __init__(self) -> None:
        super().__init__()
        self._evaluation_envs: list[gymnasium.Env | VectorEnv] = []
        self.watched_episodes: int | None = None  # of `Run.watch`; None: `eval_episodes`

    def val_dataloader(self) -> PlayedDataset[Episode] | SharedDataset[Episode]:
        """`eval_episodes` episodes with the same seeds each time, in separate envs."""
        return self._evaluation_episodes(EVALUATION_ENV)

    def test_dataloader(self) -> PlayedDataset[Episode] | SharedDataset[Episode]:
        """As `val_dataloader`, with other seeds."""
        return self._evaluation_episodes(TEST_ENV)

    def _evaluation_episodes(self, env: int) -> PlayedDataset[Episode] | SharedDataset[Episode]:
        ranks = Ranks.now()
        seeds = self._seeds(env)[ranks.rank :: ranks.count]
        played = None
        if seeds:
            # As many envs as in one process, even if some have nothing to play: bits depend on the number of rows of a
            # batch.
            envs = self._make_vec(min(self.eval_envs, self.eval_episodes))
            self._evaluation_envs.append(envs)
            played = PlayedDataset(envs, seeds, partial(play_episodes, **self._evaluation()))
        if played is not None and ranks.count == 1:
            return played
        return SharedDataset(played, self.eval_episodes, ranks)

    def predict_dataloader(self) -> PlayedDataset[Trajectory]:
        """The same episodes as `test_dataloader`, with pictures if the env can render them; `Run.watch` may ask for
        fewer, or for more, which follow them.
        """
        env = make_env_with_pictures(self.env_id, self.env_kwargs, self.wrappers, action_mask=self.action_mask)
        self._evaluation_envs.append(env)
        seeds = evaluation_seeds(self.seed, TEST_ENV, self.watched_episodes or self.eval_episodes)
        return PlayedDataset(env, seeds, partial(play_trajectories, **self._evaluation()))

    @property
    def evaluation_seeds(self) -> list[int]:
        """The seeds of the evaluation episodes during training."""
        return self._seeds(EVALUATION_ENV)

    @property
    def test_seeds(self) -> list[int]:
        """The seeds of the episodes of `test` and `predict`."""
        return self._seeds(TEST_ENV)

    def _seeds(self, env: int) -> list[int]:
        return evaluation_seeds(self.seed, env, self.eval_episodes)

    def evaluation_protocol(self) -> dict[str, Any]:
        """The protocol of the evaluation episodes, which must be known to compare their returns, as plain values."""
        protocol: dict[str, Any] = {
            "episodes": self.eval_episodes,
            "max_steps": self.eval_max_steps,
            "policy": type(self.eval_policy).__name__,
            **self.eval_policy.metrics(0),
            "frame_stack": self.frame_stack,
            "seed": self.seed,
        }
        kwargs = self.env_kwargs
        env = AtariProtocol.of(self.env_id, kwargs).describe() if is_atari(self.env_id) else kwargs
        if self.wrappers:
            protocol["wrappers"] = specification(self.wrappers)
        if self.action_mask:
            protocol["action_mask"] = True
        return {**protocol, **specification(env)}

    def _evaluation(self) -> dict[str, Any]:
        return {
            "agent": self._agent(),
            "policy": self.eval_policy,
            "max_steps": self.eval_max_steps,
            "frame_stack": self.frame_stack,
            "action_mask": self.action_mask,
        }

    def _make_vec(self, num_envs: int, first_env: int = 0) -> VectorEnv:
        return make_vec(
            self.env_id,
            num_envs,
            self.env_kwargs,
            self.wrappers,
            action_mask=self.action_mask,
            first_env=first_env,
            processes=self.env_processes,
        )

    def _agent(self) -> CopiedAgent:
        # The policy acts with the weights of the module, whose class this file must not import.
        return cast(CopiedAgent, self.trainer.lightning_module)  # type: ignore[union-attr]
