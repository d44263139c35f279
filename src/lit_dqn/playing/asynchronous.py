"""Asynchronous play: players keep playing, and the learner takes what has arrived (Horgan et al. 2018, Ape-X).

The result depends on how fast each player is, but only through the order of arrivals. A journal records that order, so
that the run can be repeated.
"""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lit_dqn.errors import TrainingError
from lit_dqn.playing.actor import Order, Played
from lit_dqn.playing.collector import Collector
from lit_dqn.playing.distant import Calls, DistantPlayers, Sent
from lit_dqn.playing.journal import Arrival, check_journal
from lit_dqn.playing.places import ActorLost, Place
from lit_dqn.types import ActionPreferences

KEYS = ("arrivals", "training_steps", "lead", "envs_per_player")
"""The keys in a checkpoint."""


class _Underway(NamedTuple):
    order: Order
    training_step: int  # when it was ordered
    weights: Any  # as of `Sent`
    calls: Calls


class Asynchronous:
    """Takes what has arrived before each training step, and orders more.

    Two bounds hold. Playing and learning are at most `slack` training steps apart, each worth `env_steps_per_chunk` env
    steps: the faster side waits, as with the rate limiter of Reverb (Cassirer et al. 2021). And each chunk was played
    with weights that are at most `max_staleness` training steps old: otherwise the learner waits for it.

    Args:
        collector: records the chunks; its players are `DistantPlayers`.
        place: the bounds.
        env_steps_per_chunk: env steps per training step, over all envs.
        journal: the arrivals of a run to repeat; None: a run of its own.

    Attributes:
        new: arrivals that are not in the journal's file yet; `JournalWriter` removes them.
        arrivals: their number since the start of the run, over all sessions.

    Raises:
        ConfigError: if the journal belongs to other players.

    """

    def __init__(
        self, collector: Collector, place: Place, env_steps_per_chunk: int, journal: Sequence[Arrival] | None = None
    ) -> None:
        assert isinstance(collector.players, DistantPlayers)
        self.new: deque[Arrival] = deque()
        self.arrivals = 0
        self._collector, self._players = collector, collector.players
        self._envs_per_player = place.envs_per_player
        self._steps = env_steps_per_chunk // collector.all_envs  # of each env in a chunk
        self._chunk = self._steps * place.envs_per_player  # env steps
        self._most = place.slack * env_steps_per_chunk
        self._max_staleness = place.max_staleness
        self._training_steps = 0
        self._lead = 0  # env steps by which playing is ahead of learning; negative: behind
        self._underway: list[deque[_Underway]] = [deque() for _ in range(self._players.players)]
        self._sent: Sent | None = None  # for this training step
        self._deaths: Counter[int] = Counter()  # of each player's actor since its last chunk
        self._again: deque[Arrival] | None = None
        if journal is not None:
            check_journal(journal, self._players.num_envs, self._players.first_env, place.envs_per_player, self._steps)
            self._again = deque(journal)
            self._by_weights: dict[int, list[Arrival]] = {}
            for arrival in journal:
                self._by_weights.setdefault(arrival.weights, []).append(arrival)

    def collect(self, agent: ActionPreferences, env_steps: int) -> None:
        """Before a training step: take what has arrived, and order more with the present weights.

        Args:
            agent: the agent that acts.
            env_steps: what this training step is worth.

        Raises:
            TrainingError: if actors die again and again, or the journal is too short.

        """
        self._training_steps += 1
        self._lead -= env_steps
        self._sent = None
        if not self._players.begun:  # every env needs a first step
            self._collector.collect(agent, env_steps)
            self._lead += env_steps
        if self._again is not None:
            self._follow(agent, self._again)
            return
        self._let_play(agent)
        while True:
            waits = self._must_wait
            ready = self._ready(waits)
            if not ready:
                return
            for player in ready:
                self._take(player)
            self._let_play(agent)

    @property
    def _must_wait(self) -> bool:
        oldest = min((own[0].training_step for own in self._underway if own), default=self._training_steps)
        return self._lead < -self._most or oldest <= self._training_steps - self._max_staleness

    def _ready(self, wait: bool) -> list[int]:
        """Players whose next chunk has arrived; with `wait` at least one."""
        players = [player for player, own in enumerate(self._underway) if own]
        return [players[n] for n in self._players.arrived([self._underway[p][0].calls for p in players], wait)]

    def _let_play(self, agent: ActionPreferences) -> None:
        """Order as many chunks as the slack allows, each from the player with the fewest orders."""
        while self._ahead + self._chunk <= self._most:
            player = min(range(len(self._underway)), key=lambda number: len(self._underway[number]))
            self._ask(agent, player, self._steps, self._collector.env_step)

    @property
    def _ahead(self) -> int:
        """Env steps by which playing is ahead once everything that is ordered has arrived."""
        return self._lead + sum(map(len, self._underway)) * self._chunk

    def _ask(self, agent: ActionPreferences, player: int, steps: int, env_step: int) -> None:
        if self._sent is None:
            self._sent = self._players.send(agent, self._collector.policy)
        sent = self._sent
        order = Order(player, steps, env_step, sent.policy, sent.number, None)
        calls = self._players.order(order, sent.weights, is_first=not self._underway[player])
        self._underway[player].append(_Underway(order, self._training_steps, sent.weights, calls))

    def _take(self, player: int) -> None:
        """Record the next chunk of a player."""
        played = self._answer(player)
        taken = self._underway[player].popleft()
        order = taken.order
        self._players.record(player, played, self._collector)
        env = self._players.first_env + self._players.envs_of(player).start
        size = self._envs_per_player
        self.new.append(
            Arrival(self.arrivals, self._training_steps, env, size, order.steps, taken.training_step, order.env_step)
        )
        self.arrivals += 1
        self._lead += order.steps * size

    def _answer(self, player: int) -> Played:
        while True:
            first = self._underway[player][0]
            try:
                played = self._players.answer(first.calls, player)
            except ActorLost as error:
                for other in self._players.beside(player):
                    self._deaths[other] += 1
                self._players.replace(player, self._deaths[player], first.order.env_step, error)
                for other in self._players.beside(player):
                    self._ask_again(other)
            else:
                self._deaths[player] = 0
                return played

    def _ask_again(self, player: int) -> None:
        """Order the chunks that were lost with an actor again, with the same weights."""
        lost, self._underway[player] = self._underway[player], deque()
        for underway in lost:
            calls = self._players.order(underway.order, underway.weights, is_first=not self._underway[player])
            self._underway[player].append(underway._replace(calls=calls))

    # --- repeating a run ---

    def _follow(self, agent: ActionPreferences, arrivals: deque[Arrival]) -> None:
        for arrival in self._by_weights.pop(self._training_steps, ()):
            ahead = self._ahead + self._chunk
            if ahead > self._most:  # a foreign journal could order any number of chunks at once
                raise TrainingError(
                    f"replay_journal: at training step {self._training_steps:,} its players are {ahead:,} env steps "
                    f"ahead, and slack allows {self._most:,}; give the run's own config.yaml."
                )
            self._ask(agent, self._player_of(arrival), arrival.steps, arrival.env_step)
        while arrivals and arrivals[0].training_step == self._training_steps:
            self._take(self._player_of(arrivals.popleft()))
        if self._lead < -self._most:
            raise TrainingError(
                f"replay_journal: it ends at arrival {self.arrivals:,}, and training step {self._training_steps:,} "
                "needs more; that run was ended before it had saved, or by other settings."
            )

    def _player_of(self, arrival: Arrival) -> int:
        return (arrival.env - self._players.first_env) // self._envs_per_player

    # --- checkpoints ---

    def state_dict(self) -> dict[str, int]:
        """Plain numbers. Chunks that have not arrived are not part of it: on resume others are ordered."""
        values = (self.arrivals, self._training_steps, self._lead, self._envs_per_player)
        return dict(zip(KEYS, values, strict=True))

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue from a saved state."""
        self.arrivals, self._training_steps, self._lead = (state[key] for key in KEYS[:3])
