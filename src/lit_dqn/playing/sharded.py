"""Playing in shards: each has some of the envs, and its own store."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from lit_dqn.playing.collector import OF_ENVS, Collector
from lit_dqn.playing.player import Players
from lit_dqn.playing.policies import Policy, UniformRandom
from lit_dqn.playing.resimulation import ResumeEnv
from lit_dqn.ranks import Ranks
from lit_dqn.types import ActionPreferences, Episode


class ShardedCollector:
    """The collectors of several shards as one: they play the same env steps, and their episodes are counted together.

    Args:
        collectors: of this process's shards in their order, each with the same number of envs.
        ranks: the processes of the run, which have the other shards.

    Attributes:
        episodes: finished, over all envs.
        finished: episodes; callbacks take them out.

    """

    def __init__(self, collectors: Sequence[Collector], ranks: Ranks) -> None:
        self.collectors = collectors
        self.ranks = ranks
        self.all_envs = collectors[0].all_envs
        self.episodes = 0
        self.finished: deque[Episode] = deque(maxlen=collectors[0].finished.maxlen)

    @property
    def env_step(self) -> int:
        """Number of env steps played, over all envs."""
        return self.collectors[0].env_step

    @property
    def policy(self) -> Policy:
        """How actions follow from action values."""
        return self.collectors[0].policy

    @property
    def players(self) -> Players:
        """The generators of the first shard."""
        return self.collectors[0].players

    @property
    def closed(self) -> bool:
        """Whether its envs are closed."""
        return self.collectors[0].closed

    def close(self) -> None:
        """Close all envs."""
        for collector in self.collectors:
            collector.close()

    def collect(self, agent: ActionPreferences, env_steps: int, policy: Policy | None = None) -> None:
        """Play `env_steps` env steps, over all envs of the run, shard after shard."""
        for collector in self.collectors:
            collector.collect(agent, env_steps, policy)

    def share(self) -> None:
        """Number the episodes that have finished since the last call: by env step, then by env."""
        own = [episode for collector in self.collectors for episode in collector.finished]
        for collector in self.collectors:
            collector.finished.clear()
        # Most steps end no episode in any process.
        if self.ranks.highest(len(own)) == 0:
            return
        found = [episode for episodes in self.ranks.gather(own) for episode in episodes]
        for episode in sorted(found, key=lambda episode: (episode.env_step, episode.env)):
            self.episodes += 1
            self.finished.append(episode._replace(number=self.episodes))

    def warm_up(
        self,
        agent: ActionPreferences,
        env_steps: int,
        transitions: int,
        policy: Policy = UniformRandom(),  # noqa: B008 - policies have no state
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Play before the run's first update, as for one collector.

        Args:
            agent: as for `collect`.
            env_steps: number of env steps in total.
            transitions: number of transitions that the store of each shard must also hold.
            policy: how actions are chosen meanwhile.
            stopped: called before each step; True ends the warm-up at once.

        """
        while (self.env_step < env_steps or self._lacks(transitions)) and not stopped():
            self.collect(agent, self.all_envs, policy)
            self.share()

    def _lacks(self, transitions: int) -> bool:
        """Whether the store of any shard holds fewer transitions."""
        return self.ranks.highest(int(any(len(own.store) < transitions for own in self.collectors))) > 0

    def let_pass(self, steps: int) -> None:
        """Advance the count of env steps, as for one collector."""
        for collector in self.collectors:
            collector.let_pass(steps)

    def refill(self, agent: ActionPreferences, env_steps: int, stopped: Callable[[], bool]) -> None:
        """Play some env steps with the collector's policy, because the stores were not saved."""
        until = self.env_step + env_steps
        while self.env_step < until and not stopped():
            self.collect(agent, self.all_envs)
            self.share()

    def state_dict(self) -> dict[str, Any]:
        """The state of one collector with the envs of all shards."""
        own = [collector.state_dict() for collector in self.collectors]
        states = [state for states in self.ranks.gather(own) for state in states]
        of_envs = {key: [value for state in states for value in state[key]] for key in OF_ENVS}
        finished = [tuple(episode) for episode in self.finished]
        return {"env_step": self.env_step, "episodes": self.episodes, "finished": finished, **of_envs}

    def load_state_dict(self, state: dict[str, Any], resume_env: ResumeEnv = ResumeEnv.exact) -> None:
        """Resume from a saved state; the stores must have been restored before.

        Args:
            state: from `state_dict`, also of a single collector.
            resume_env: how to treat the episodes that were running.

        """
        self.episodes = state["episodes"]
        self.finished.clear()
        self.finished.extend(Episode(*episode) for episode in state["finished"])
        for collector in self.collectors:
            players = collector.players
            of_envs = {key: state[key][players.first_env :][: players.num_envs] for key in OF_ENVS}
            collector.load_state_dict({**state, "finished": [], **of_envs}, resume_env)
