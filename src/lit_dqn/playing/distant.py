"""Players in actors: this process knows everything that is needed to restore their envs."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lit_dqn.errors import ConfigError, TrainingError, one_line
from lit_dqn.playing.actor import Order, Played, PlayerSpec
from lit_dqn.playing.collector import Collector
from lit_dqn.playing.distant_agent import bytes_of, distant_agent, observations_of_nothing, rows_of_nothing
from lit_dqn.playing.places import ActorLost, Place
from lit_dqn.playing.player import Recorder
from lit_dqn.playing.policies import Policy
from lit_dqn.playing.whereabouts import Whereabouts
from lit_dqn.types import ActionPreferences

log = logging.getLogger("lit_dqn")

GIVEN_UP = "its actor died, and data.resume_env says that it cannot be played again"

DEATHS = 5
"""The number of actors that may die during the same steps, or while they make their envs, before the run ends."""


Calls = Sequence[tuple[str, Any]]
"""What an actor was asked, by the names of its methods, and what `Actors.ask` has returned."""


class Sent(NamedTuple):
    """What actors act by."""

    policy: str  # as they know it
    number: int  # of the weights
    weights: Any  # as `Actors.put` has returned them; None: the policy does not ask the agent


class DistantPlayers:
    """Players in actors, combined.

    An actor is a cache: this process also knows seeds, actions and generators. So an actor that dies is replaced, and
    the new one restores its envs by playing the episodes again.

    Args:
        spec: of the players.
        place: where the actors run.
        resimulates: whether envs are restored by playing again; otherwise they begin new episodes.
        observation: any observation, frames stacked; the agent is tried with similar ones.

    Raises:
        ConfigError: if an actor cannot be started, or cannot create its envs.

    """

    patience = 32

    def __init__(self, spec: PlayerSpec, place: Place, resimulates: bool, observation: NDArray[Any]) -> None:
        self.num_envs, self.all_envs, self.first_env = spec.num_envs, spec.all_envs, spec.first_env
        self.closed = False
        self.deaths = 0
        self._spec = spec
        self._resimulates = resimulates
        self._probe = observations_of_nothing((spec.num_envs, *observation.shape), observation.dtype)
        self._count = place.actors
        self._envs = Whereabouts(spec)
        self._away = set(range(spec.players))  # players whose envs must be restored first
        self._policies: list[Policy] = []
        self._agent: Any = None
        self._said: NDArray[np.float32] | None = None
        self._warned = False
        self._weights = 0
        self._known: list[set[str]] = [set() for _ in range(self._count)]
        self._actors = place.begin(spec)
        try:
            self._make()
        except BaseException as error:
            self.close()
            if isinstance(error, ConfigError) or not isinstance(error, Exception):
                raise
            raise ConfigError(
                f"place: an actor cannot make its envs: {one_line(error)}; its machine needs the packages of this one, "
                "an env that a script registers is written module:id, or set --data.place null."
            ) from error

    def _make(self) -> None:
        """Let the actors create their envs; an actor that dies meanwhile is replaced."""
        players = range(self._spec.players)
        calls = {player: self._actors.ask(player % self._count, "make", player) for player in players}
        deaths: Counter[int] = Counter()
        while calls:
            player = min(calls)
            try:
                self._actors.answer(calls[player])
                del calls[player]
            except ActorLost:
                actor = player % self._count
                deaths[actor] += 1
                if deaths[actor] > DEATHS:
                    raise
                self.deaths += 1
                log.warning("actor %d died while it made its envs, and is replaced", actor)
                self._actors.begin_again(actor)
                calls |= {other: self._actors.ask(actor, "make", other) for other in self.beside(player)}

    def play(self, agent: ActionPreferences, policy: Policy, steps: int, env_step: int, recorder: Recorder) -> None:
        """Play some steps of each env, as for `Players`."""
        sent = self.send(agent, policy)
        order = Order(0, steps, env_step, sent.policy, sent.number, None)
        self._envs.record(self._ordered(order, sent.weights), recorder)

    def send(self, agent: ActionPreferences, policy: Policy) -> Sent:
        """Send the actors the agent's present weights."""
        weights = None
        if policy.asks_agent:
            network: Any = agent.online  # type: ignore[attr-defined]
            flat = bytes_of(network)
            if self._agent is None:
                self._send(agent)
            self._weights += 1
            weights = self._actors.put(flat)
        if not any(known is policy for known in self._policies):
            self._policies.append(policy)
        name = str(next(number for number, known in enumerate(self._policies) if known is policy))
        return Sent(name, self._weights, weights)

    @property
    def begun(self) -> bool:
        """Whether the first episodes have begun."""
        return self._envs.begun

    @property
    def players(self) -> int:
        """How many there are."""
        return self._spec.players

    def envs_of(self, player: int) -> slice:
        """Where a player's envs are among those of all players."""
        return self._spec.envs_of(player)

    def beside(self, player: int) -> range:
        """The players of a player's actor, itself among them."""
        return range(player % self._count, self._spec.players, self._count)

    def order(self, order: Order, weights: Any, is_first: bool) -> Calls:
        """Ask a player for a chunk, after those that it was asked for before.

        Args:
            order: which.
            weights: as of `send`.
            is_first: whether nothing else is on its way from this player, so that it may need to know where its envs
                are.

        """
        states = self.state_dict() if is_first and order.player in self._away else {}
        return self._ask(order, order.player, weights, states)

    def arrived(self, calls: Sequence[Calls], wait: bool) -> list[int]:
        """Which of some chunks can be had now, by their places; with `wait` at least one, once it is there."""
        return self._actors.arrived([of[-1][1] for of in calls], wait)

    def _ordered(self, order: Order, weights: Any) -> list[Played]:
        """The steps of all players, even if actors died meanwhile."""
        states = self.state_dict() if self._away else {}
        calls = {player: self._ask(order, player, weights, states) for player in range(self._spec.players)}
        played: dict[int, Played] = {}
        deaths: Counter[int] = Counter()
        while len(played) < len(calls):
            player = len(played)
            try:
                played[player] = self.answer(calls[player], player)
            except ActorLost as error:
                actor = player % self._count
                deaths[actor] += 1
                self.replace(player, deaths[actor], order.env_step, error)
                states = states or self.state_dict()
                for other in self.beside(player):
                    if other not in played:
                        calls[other] = self._ask(order, other, weights, states)
        return [played[player] for player in range(self._spec.players)]

    def replace(self, player: int, deaths: int, env_step: int, error: ActorLost) -> None:
        """Start another actor in place of a player's actor, which has died.

        Args:
            player: one of its players.
            deaths: how often this actor has died during the same steps.
            env_step: when these steps were ordered.
            error: the last death.

        Raises:
            TrainingError: if it dies too often.

        """
        actor = player % self._count
        self.deaths += 1
        if deaths > DEATHS:
            raise TrainingError(
                f"place: {deaths} actors died while they played the same steps of env "
                f"{self.first_env + self._spec.envs_of(player).start} and those beside it, after env step "
                f"{env_step:,}; the last reason: {one_line(error) or 'none is known'}; play with --data.place null to "
                "see what the envs do."
            ) from error
        log.warning(
            "actor %d died and is replaced: its envs %s",
            actor,
            "are played again to where they were" if self._resimulates else "begin new episodes",
        )
        self._actors.begin_again(actor)
        self._known[actor].clear()
        self._away |= set(self.beside(player))

    def _ask(self, order: Order, player: int, weights: Any, states: Mapping[str, Any]) -> Calls:
        """The calls for a player's chunk, preceded by what its actor does not have yet."""
        actor, known = player % self._count, self._known[player % self._count]
        ask = self._actors.ask
        calls = []
        if weights is not None and "agent" not in known:
            known.add("agent")
            rows = self._probe[: self._spec.envs_per_player]
            calls.append(("know_agent", ask(actor, "know_agent", self._agent, rows)))
        if order.policy not in known:
            known.add(order.policy)
            policy = self._policies[int(order.policy)]
            calls.append(("know_policy", ask(actor, "know_policy", order.policy, policy)))
        state = None
        if player in self._away and states:
            envs = self._spec.envs_of(player)
            state = {key: value[envs] for key, value in states.items()}
            if self._gives_up(player):
                state["running"] = []
        calls.append(("play", ask(actor, "play", order._replace(player=player, state=state), weights)))
        return calls

    def _gives_up(self, player: int) -> bool:
        return not self._resimulates and self._envs.was_played(player)

    def answer(self, calls: Calls, player: int) -> Played:
        """Wait for a chunk of a player.

        Raises:
            ActorLost: if it will never come.

        """
        for method, call in calls:
            answer = self._actors.answer(call)
            if method == "know_agent":
                self._compare(answer)
        played: Played = answer  # of the last call
        if player in self._away:
            self._away.discard(player)
            if self._gives_up(player):
                played = played._replace(lost=[GIVEN_UP] * self._spec.envs_per_player)
        return played

    def record(self, player: int, played: Played, recorder: Collector) -> None:
        """Tell what one player has played."""
        self._envs.record_one(player, played, recorder)

    def _send(self, agent: Any) -> None:
        parts = getattr(agent, "parts", None)
        if parts is not None:
            self._probe = rows_of_nothing(self.num_envs, parts)
        distant = distant_agent(agent, self._probe, self._spec.envs_per_player)
        self._said = distant.preferences(self._probe[: self._spec.envs_per_player])
        try:
            self._agent = self._actors.put(distant)
        except Exception as error:
            raise ConfigError(
                f"place: the network {type(distant.network).__name__} cannot be sent to actors: {one_line(error)}; set "
                "--data.place null."
            ) from error

    def _compare(self, said: NDArray[np.float32]) -> None:
        """Warn once that an actor's machine computes other bits."""
        if not np.array_equal(said, self._said) and not self._warned:  # type: ignore[arg-type]
            self._warned = True
            log.warning(
                "an actor computes other bits than this process, because its machine has another processor or another "
                "version of PyTorch: which actor plays what then decides how the run continues"
            )

    def state_dict(self) -> dict[str, Any]:
        """What is needed to restore each env, as plain values and tensors."""
        return self._envs.state_dict()

    def load_state_dict(self, state: Mapping[str, Any], recorder: Recorder) -> None:
        """Each player restores this state before its next steps."""
        self._envs.load_state_dict(state)
        self._away = set(range(self._spec.players))

    def close(self) -> None:
        """End the actors."""
        if not self.closed:
            self.closed = True
            self._actors.close()
