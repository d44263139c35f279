"""An actor plays some of the envs in another process, and returns whole chunks. It starts without Lightning."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from lit_dqn.errors import ConfigError
from lit_dqn.playing.distant_agent import DistantAgent
from lit_dqn.playing.episodes import Finished
from lit_dqn.playing.player import Player
from lit_dqn.playing.policies import Policy
from lit_dqn.types import ActionPreferences, Timestep


class PlayerSpec(NamedTuple):
    """A description from which players are built, in any process; player p has the envs p n, p n + 1, ... of all
    players.
    """

    make_envs: Callable[..., VectorEnv]  # (number of envs, `first_env`: the number of the first one over the run)
    envs_per_player: int  # n
    num_envs: int  # envs of all players
    all_envs: int  # envs of the whole run
    first_env: int  # number of the first of these envs over the whole run
    frame_stack: int
    seed: int  # of the run
    num_actions: int
    action_mask: bool

    @property
    def players(self) -> int:
        """The number of players."""
        return self.num_envs // self.envs_per_player

    def envs_of(self, player: int) -> slice:
        """The range of a player's envs among those of all players."""
        return slice(player * self.envs_per_player, (player + 1) * self.envs_per_player)

    def make(self, player: int) -> Player:
        """Build one player."""
        first_env = self.first_env + player * self.envs_per_player
        envs = self.make_envs(self.envs_per_player, first_env=first_env)
        return Player(envs, self.frame_stack, self.seed, first_env, self.action_mask, self.all_envs)


class Order(NamedTuple):
    """A request to a player for steps."""

    player: int
    steps: int  # T, of each env
    env_step: int  # of the run, before the first of them
    policy: str  # its key at the actor
    weights: int  # their number, by which an actor with several players knows whether it has loaded them
    state: Mapping[str, Any] | None  # the state of its envs; None: as after its last steps


class Played(NamedTuple):
    """T steps of a player's n envs; each frame once."""

    frames: NDArray[Any]  # [T + 1, n, *shape], before each step and after the last; past an end, of the next episode
    action: NDArray[np.integer]  # [T, n]
    reward: NDArray[np.floating]  # [T, n], as the env returned it
    terminated: NDArray[np.bool_]  # [T, n]
    truncated: NDArray[np.bool_]  # [T, n], and not terminated
    life_lost: NDArray[np.bool_]  # [T, n], and not terminated
    final_frames: NDArray[Any]  # [E, *shape], the last frame of each finished episode, by step, then by env
    action_masks: NDArray[np.bool_] | None  # [T + 1, n, num_actions], like `frames`; None: all actions are allowed
    final_masks: NDArray[np.bool_] | None  # [E, num_actions], like `final_frames`
    generators: list[Mapping[str, Any]]  # [n], of exploration, after the last step
    lost: list[str | None] | None  # [n], how restored envs differ from before, at the first step; None: they do not

    def timesteps(self) -> Iterator[Timestep]:
        """The steps one by one, as an env returns them; the arrays are valid until the next step."""
        last = self.terminated | self.truncated
        discount = ~(self.terminated | self.life_lost)
        done = 0
        for step, ends in enumerate(last):
            following = self.frames[step + 1]
            mask = None if self.action_masks is None else self.action_masks[step]
            next_mask = None if self.action_masks is None else self.action_masks[step + 1]
            if count := int(ends.sum()):
                final = slice(done, done + count)
                following = _with(following, ends, self.final_frames[final])
                if next_mask is not None and self.final_masks is not None:
                    next_mask = _with(next_mask, ends, self.final_masks[final])
                done += count
            yield Timestep(
                self.frames[step],
                self.action[step],
                self.reward[step],
                discount[step],
                ends,
                following,
                mask,
                next_mask,
            )


def _with(rows: NDArray[Any], where: NDArray[np.bool_], others: NDArray[Any]) -> NDArray[Any]:
    rows = rows.copy()
    rows[where] = others
    return rows


def joined(timesteps: Sequence[Timestep], how: Callable[..., NDArray[Any]]) -> Timestep:
    """Join several: more envs with `np.concatenate`, more steps with `np.stack`."""
    fields: list[Any] = [None if field[0] is None else how(field) for field in zip(*timesteps, strict=True)]
    return Timestep(*fields)


def copy_of(timestep: Timestep) -> Timestep:
    """A copy with its own arrays."""
    fields: list[Any] = [None if field is None else field.copy() for field in timestep]
    return Timestep(*fields)


class Tape:
    """Records a player's steps until they are sent."""

    def __init__(self, first_env: int) -> None:
        self._first_env = first_env
        self._timesteps: list[Timestep] = []
        self._terminated: list[NDArray[np.bool_]] = []
        self.lost: list[str | None] | None = None

    def record(self, timestep: Timestep, finished: Sequence[Finished]) -> None:
        """Record a step."""
        self._timesteps.append(copy_of(timestep))
        terminated = np.zeros(len(timestep.last), bool)
        for episode in finished:
            terminated[episode.env - self._first_env] = episode.terminated
        self._terminated.append(terminated)

    def lose(self, differences: Sequence[str | None]) -> None:
        """Record which envs could not be restored."""
        self.lost = list(differences)

    def played(self, player: Player) -> Played:
        """All recorded steps of a player that has just played."""
        steps = joined(self._timesteps, np.stack)
        frames, action, reward, discount, last, following, masks, final_masks, _ = steps
        terminated = np.stack(self._terminated)
        if masks is not None and final_masks is not None:
            masks = np.concatenate([masks, [player.stage.action_mask]])
            final_masks = final_masks[last]
        return Played(
            frames=np.concatenate([frames, player.stage.frames[None]]),
            action=action,
            reward=reward,
            terminated=terminated,
            truncated=last & ~terminated,
            life_lost=~discount & ~terminated,
            final_frames=following[last],
            action_masks=masks,
            final_masks=final_masks,
            generators=[generator.bit_generator.state for generator in player.generators],
            lost=self.lost,
        )


class _Nobody:
    """A stand-in for policies that do not need an agent."""

    def __init__(self, num_actions: int) -> None:
        self.num_actions = num_actions

    def preferences(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        raise ConfigError("policy: it uses the agent's preferences, although its asks_agent is False")


class Actor:
    """Holds players; the recorder sends orders, one after the other.

    Args:
        spec: of the players.

    """

    def __init__(self, spec: PlayerSpec) -> None:
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
        self._spec = spec
        self._players: dict[int, Player] = {}
        self._agent: DistantAgent | None = None
        self._weights = -1
        self._policies: dict[str, Policy] = {}

    def make(self, number: int) -> None:
        """Create the envs of a player.

        Raises:
            ConfigError: if they cannot be created here.

        """
        self._players[number] = self._spec.make(number)

    def know_agent(self, agent: DistantAgent, observations: NDArray[Any]) -> NDArray[np.float32]:
        """Use this agent from now on; returns its preferences for a player's observations [n, *shape]."""
        self._agent, self._weights = agent, -1
        return agent.preferences(observations)

    def know_policy(self, name: str, policy: Policy) -> None:
        """Store a policy, so that orders can refer to it."""
        self._policies[name] = policy

    def play(self, order: Order, weights: NDArray[np.uint8] | None) -> Played:
        """Play a chunk.

        Args:
            order: the request.
            weights: of the agent; None: the policy does not need the agent.

        """
        if order.player not in self._players:
            self.make(order.player)
        player = self._players[order.player]
        tape = Tape(player.first_env)
        if order.state is not None:
            player.load_state_dict(order.state, tape)
        agent: ActionPreferences = _Nobody(self._spec.num_actions)
        if weights is not None:
            assert self._agent is not None
            if order.weights != self._weights:
                self._agent.take(weights)
                self._weights = order.weights
            self._agent.first_row = self._spec.envs_of(order.player).start
            agent = self._agent
        player.play(agent, self._policies[order.policy], order.steps, order.env_step, tape)
        return tape.played(player)

    def close(self) -> None:
        """Close the envs."""
        for player in self._players.values():
            player.close()
