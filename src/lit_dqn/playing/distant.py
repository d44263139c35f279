"""Players in actors: this process knows everything that is needed to restore their envs."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_dqn.errors import ConfigError, TrainingError, one_line
from lit_dqn.playing.actor import Order, Played, PlayerSpec, joined
from lit_dqn.playing.distant_agent import bytes_of, distant_agent, observations_of_nothing
from lit_dqn.playing.episodes import EpisodeLog, RunningEpisode
from lit_dqn.playing.places import ActorLost, Place
from lit_dqn.playing.player import Recorder
from lit_dqn.playing.policies import Policy
from lit_dqn.playing.seeds import exploration_generator, next_seeds
from lit_dqn.types import ActionPreferences

log = logging.getLogger("lit_dqn")

GIVEN_UP = "its actor died, and data.resume_env says that it cannot be played again"

DEATHS = 5
"""The number of actors that may die during the same steps before the run ends."""


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

    def __init__(
        self,
        spec: PlayerSpec,
        place: Place,
        resimulates: bool,
        observation: NDArray[Any],
    ) -> None:
        self.num_envs, self.all_envs, self.first_env = spec.num_envs, spec.all_envs, spec.first_env
        self.closed = False
        self.deaths = 0
        self._spec = spec
        self._resimulates = resimulates
        self._probe = observations_of_nothing((spec.num_envs, *observation.shape), observation.dtype)
        self._count = place.actors
        self._log = EpisodeLog(spec.num_envs, spec.first_env)
        self._episodes = np.zeros(spec.num_envs, np.int64)
        generators = [exploration_generator(spec.seed, spec.first_env + env) for env in range(spec.num_envs)]
        self._generators = [generator.bit_generator.state for generator in generators]
        self._frames: NDArray[Any] | None = None  # the envs' present frames, after their first steps
        self._running: list[dict[str, Any]] = []  # before that, the state from which they resume
        self._away = set(range(spec.players))  # players whose envs must be restored first
        self._policies: list[Policy] = []
        self._agent: Any = None
        self._said: NDArray[np.float32] | None = None
        self._warned = False
        self._weights = 0
        self._known: list[set[str]] = [set() for _ in range(self._count)]
        self._actors = place.begin(spec)
        try:
            for call in [self._actors.ask(n % self._count, "make", n) for n in range(spec.players)]:
                self._actors.answer(call)
        except BaseException as error:
            self.close()
            if isinstance(error, ConfigError) or not isinstance(error, Exception):
                raise
            raise ConfigError(
                f"place: an actor cannot make its envs: {one_line(error)}; its machine needs the packages of this one, "
                "an env that a script registers is written module:id, or set --data.place null."
            ) from error

    def play(self, agent: ActionPreferences, policy: Policy, steps: int, env_step: int, recorder: Recorder) -> None:
        """Play some steps of each env, as for `Players`."""
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
        order = Order(0, steps, env_step, self._name(policy), self._weights, None)
        self._record(self._ordered(order, weights), steps, recorder)

    def _name(self, policy: Policy) -> str:
        return str(next(number for number, known in enumerate(self._policies) if known is policy))

    def _ordered(self, order: Order, weights: Any) -> list[Played]:
        """The steps of all players, even if actors died meanwhile."""
        states = self.state_dict() if self._away else {}
        calls = {player: self._ask(order, player, weights, states) for player in range(self._spec.players)}
        played: dict[int, Played] = {}
        deaths: Counter[int] = Counter()
        while len(played) < len(calls):
            player = len(played)
            try:
                played[player] = self._answer(calls[player], player)
            except ActorLost as error:
                actor = player % self._count
                deaths[actor] += 1
                self.deaths += 1
                if deaths[actor] > DEATHS:
                    raise TrainingError(
                        f"place: {deaths[actor]} actors have died over the same steps of env "
                        f"{self.first_env + self._spec.envs_of(player).start} and those beside it, after env step "
                        f"{order.env_step:,}, the last of them so: {one_line(error) or 'without a word'}; play with "
                        "--data.place null to see what the envs do."
                    ) from error
                log.warning(
                    "actor %d died and is replaced: its envs %s",
                    actor,
                    "are played again to where they were" if self._resimulates else "begin new episodes",
                )
                self._actors.begin_again(actor)
                self._known[actor].clear()
                states = states or self.state_dict()
                self._away |= set(range(actor, self._spec.players, self._count))
                for other in range(actor, self._spec.players, self._count):
                    if other not in played:
                        calls[other] = self._ask(order, other, weights, states)
        return [played[player] for player in range(self._spec.players)]

    def _ask(self, order: Order, player: int, weights: Any, states: Mapping[str, Any]) -> list[tuple[str, Any]]:
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
        if player in self._away:
            envs = self._spec.envs_of(player)
            state = {key: value[envs] for key, value in states.items()}
            if self._frames is not None and not self._resimulates:
                state["running"] = []
        calls.append(("play", ask(actor, "play", order._replace(player=player, state=state), weights)))
        return calls

    def _answer(self, calls: Sequence[tuple[str, Any]], player: int) -> Played:
        for method, call in calls:
            answer = self._actors.answer(call)
            if method == "know_agent":
                self._compare(answer)
        played: Played = answer  # of the last call
        if player in self._away:
            self._away.discard(player)
            if self._frames is not None and not self._resimulates:
                played = played._replace(lost=[GIVEN_UP] * self._spec.envs_per_player)
        return played

    def _record(self, played: Sequence[Played], steps: int, recorder: Recorder) -> None:
        if self._frames is None and not self._running:
            self._begin(np.ones(self.num_envs, bool))
        lost = [difference for part in played for difference in part.lost or [None] * self._spec.envs_per_player]
        if any(difference is not None for difference in lost):
            recorder.lose(lost)
            self._begin(np.array([difference is not None for difference in lost]))
        terminated = np.concatenate([part.terminated for part in played], axis=1)
        streams = zip(*(part.timesteps() for part in played), strict=True)
        for timesteps, ended in zip(streams, terminated, strict=True):
            timestep = timesteps[0] if len(timesteps) == 1 else joined(timesteps, np.concatenate)
            self._log.step(timestep.action, timestep.reward)
            last = timestep.last
            recorder.record(timestep, self._log.finished(last, ended) if last.any() else [])
            if last.any():
                self._begin(last)
        self._frames = np.concatenate([part.frames[-1] for part in played])
        self._running = []
        self._generators = [state for part in played for state in part.generators]

    def _begin(self, mask: NDArray[np.bool_]) -> None:
        self._log.begin(next_seeds(self._spec.seed, self.first_env, self._episodes, mask))
        self._episodes[mask] += 1

    def _send(self, agent: Any) -> None:
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
                "an actor computes other bits than this process, for its machine has another processor or another "
                "version of PyTorch: which actor plays what then decides how the run goes on"
            )

    def state_dict(self) -> dict[str, Any]:
        """What is needed to restore each env, as plain values and tensors."""
        running = self._running
        if self._frames is not None:
            running = [episode.state_dict() for episode in self._log.running(self._frames)]
        return {"episode_of_env": self._episodes.tolist(), "generators": list(self._generators), "running": running}

    def load_state_dict(self, state: Mapping[str, Any], recorder: Recorder) -> None:
        """Each player restores this state before its next steps."""
        self._episodes[:] = state["episode_of_env"]
        self._generators = list(state["generators"])
        self._frames, self._running = None, list(state["running"])
        self._log.take_over([RunningEpisode.from_state_dict(episode) for episode in self._running])
        self._away = set(range(self._spec.players))

    def close(self) -> None:
        """End the actors."""
        if not self.closed:
            self.closed = True
            self._actors.close()
