"""Playing in shards: each has some of the envs, and a store of its own."""

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
        collectors: of the shards here in their order, each with as many envs and told how many the run has.
        ranks: the processes of the run, which have the others.

    Attributes:
        episodes: finished, over all envs.
        finished: whoever watches takes them out.

    """

    def __init__(self, collectors: Sequence[Collector], ranks: Ranks) -> None:
        self.collectors = collectors
        self.ranks = ranks
        self.all_envs = collectors[0].all_envs
        self.episodes = 0
        self.finished: deque[Episode] = deque(maxlen=collectors[0].finished.maxlen)

    @property
    def env_step(self) -> int:
        """Env steps that were played, over all envs."""
        return self.collectors[0].env_step

    @property
    def policy(self) -> Policy:
        """How actions follow from action values."""
        return self.collectors[0].policy

    @property
    def players(self) -> Players:
        """Those of the first shard."""
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
        """Play `env_steps` env steps, over all envs of the run, in each shard after the other."""
        for collector in self.collectors:
            collector.collect(agent, env_steps, policy)

    def share(self) -> None:
        """Number what has finished since this was last called: by env step, then by env."""
        own = [episode for collector in self.collectors for episode in collector.finished]
        for collector in self.collectors:
            collector.finished.clear()
        # Most steps end no episode anywhere.
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
        """Play before the run's first update, as of one collector.

        Args:
            agent: as for `collect`.
            env_steps: played in all.
            transitions: that the store of each shard must hold besides.
            policy: how actions are chosen meanwhile.
            stopped: asked before each step; True ends the warm-up where it is.

        """
        while (self.env_step < env_steps or self._lacks(transitions)) and not stopped():
            self.collect(agent, self.all_envs, policy)
            self.share()

    def _lacks(self, transitions: int) -> bool:
        """Whether the store of any shard holds fewer."""
        return self.ranks.highest(int(any(len(own.store) < transitions for own in self.collectors))) > 0

    def let_pass(self, steps: int) -> None:
        """Let the clock go on, as of one collector."""
        for collector in self.collectors:
            collector.let_pass(steps)

    def refill(self, agent: ActionPreferences, env_steps: int, stopped: Callable[[], bool]) -> None:
        """Play so many env steps by the collector's own policy, for stores that were not saved."""
        until = self.env_step + env_steps
        while self.env_step < until and not stopped():
            self.collect(agent, self.all_envs)
            self.share()

    def state_dict(self) -> dict[str, Any]:
        """That of one collector with the envs of all shards."""
        own = [collector.state_dict() for collector in self.collectors]
        states = [state for states in self.ranks.gather(own) for state in states]
        of_envs = {key: [value for state in states for value in state[key]] for key in OF_ENVS}
        finished = [tuple(episode) for episode in self.finished]
        return {"env_step": self.env_step, "episodes": self.episodes, "finished": finished, **of_envs}

    def load_state_dict(self, state: dict[str, Any], resume_env: ResumeEnv = ResumeEnv.exact) -> None:
        """Resume from a saved state; the stores must have been restored before.

        Args:
            state: of `state_dict`, also of one collector.
            resume_env: what becomes of the episodes that were running.

        """
        self.episodes = state["episodes"]
        self.finished.clear()
        self.finished.extend(Episode(*episode) for episode in state["finished"])
        for collector in self.collectors:
            players = collector.players
            of_envs = {key: state[key][players.first_env :][: players.num_envs] for key in OF_ENVS}
            collector.load_state_dict({**state, "finished": [], **of_envs}, resume_env)
