"""What plays elsewhere: an actor with some of the envs, which tells of whole chunks. It starts without Lightning."""

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
    """What players are made of, wherever that is; player p has the envs p n, p n + 1, ... of those described here."""

    make_envs: Callable[..., VectorEnv]  # of their number and, as `first_env`, the number of the first over the run
    envs_per_player: int  # n
    num_envs: int  # of all players
    all_envs: int  # of the whole run
    first_env: int  # the number of the first of them over the whole run
    frame_stack: int
    seed: int  # of the run
    num_actions: int
    action_mask: bool

    @property
    def players(self) -> int:
        """How many there are."""
        return self.num_envs // self.envs_per_player

    def envs_of(self, player: int) -> slice:
        """Where a player's envs are among those of all players."""
        return slice(player * self.envs_per_player, (player + 1) * self.envs_per_player)

    def make(self, player: int) -> Player:
        """One of them."""
        first_env = self.first_env + player * self.envs_per_player
        envs = self.make_envs(self.envs_per_player, first_env=first_env)
        return Player(envs, self.frame_stack, self.seed, first_env, self.action_mask, self.all_envs)


class Order(NamedTuple):
    """What a player shall play."""

    player: int
    steps: int  # T, of each env
    env_step: int  # of the run, before the first of them
    policy: str  # as the actor knows it
    weights: int  # their number, by which an actor with several players knows that it has taken them
    state: Mapping[str, Any] | None  # where its envs are; None: where it has left them


class Played(NamedTuple):
    """T steps of a player's n envs; each frame once."""

    frames: NDArray[Any]  # [T + 1, n, *shape], before each step and after the last, where an episode ended of the next
    action: NDArray[np.integer]  # [T, n]
    reward: NDArray[np.floating]  # [T, n], as the env gave it
    terminated: NDArray[np.bool_]  # [T, n]
    truncated: NDArray[np.bool_]  # [T, n], and not terminated
    life_lost: NDArray[np.bool_]  # [T, n], and not terminated
    final_frames: NDArray[Any]  # [E, *shape], the last of each episode that ended, by step, then by env
    action_masks: NDArray[np.bool_] | None  # [T + 1, n, num_actions], as frames; None: all actions are allowed
    final_masks: NDArray[np.bool_] | None  # [E, num_actions], as final_frames
    generators: list[Mapping[str, Any]]  # [n], of exploration, after the last step
    lost: list[str | None] | None  # [n], in what envs did not come back to where they were, before the first step

    def timesteps(self) -> Iterator[Timestep]:
        """The same as an env tells it; the arrays of each are good until the next."""
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
    """Several as one: of more envs by `np.concatenate`, of more steps by `np.stack`."""
    fields: list[Any] = [None if field[0] is None else how(field) for field in zip(*timesteps, strict=True)]
    return Timestep(*fields)


def copy_of(timestep: Timestep) -> Timestep:
    """With arrays of its own."""
    fields: list[Any] = [None if field is None else field.copy() for field in timestep]
    return Timestep(*fields)


class Tape:
    """Whom a player tells what happens, until it is sent."""

    def __init__(self, first_env: int) -> None:
        self._first_env = first_env
        self._timesteps: list[Timestep] = []
        self._terminated: list[NDArray[np.bool_]] = []
        self.lost: list[str | None] | None = None

    def record(self, timestep: Timestep, finished: Sequence[Finished]) -> None:
        """Keep a step."""
        self._timesteps.append(copy_of(timestep))
        terminated = np.zeros(len(timestep.last), bool)
        for episode in finished:
            terminated[episode.env - self._first_env] = episode.terminated
        self._terminated.append(terminated)

    def lose(self, differences: Sequence[str | None]) -> None:
        """Keep which envs did not come back."""
        self.lost = list(differences)

    def played(self, player: Player) -> Played:
        """All of it, of a player that has just played it."""
        steps = joined(self._timesteps, np.stack)
        frames, action, reward, discount, last, following, masks, final_masks = steps
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
    """The agent of policies that do not ask it."""

    def __init__(self, num_actions: int) -> None:
        self.num_actions = num_actions

    def preferences(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        raise ConfigError("policy: it asks the agent what it prefers, though its asks_agent is False")


class Actor:
    """Holds players; whoever records sends orders, one after the other.

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
        """Make the envs of a player.

        Raises:
            ConfigError: if they cannot be made here.

        """
        self._players[number] = self._spec.make(number)

    def know_agent(self, agent: DistantAgent, observations: NDArray[Any]) -> NDArray[np.float32]:
        """Act by an agent from here on; what it prefers now, of a player's observations [n, *shape], is the answer."""
        self._agent, self._weights = agent, -1
        return agent.preferences(observations)

    def know_policy(self, name: str, policy: Policy) -> None:
        """Orders may name this policy from here on."""
        self._policies[name] = policy

    def play(self, order: Order, weights: NDArray[np.uint8] | None) -> Played:
        """Play a chunk.

        Args:
            order: what.
            weights: by which the agent acts; None: the policy does not ask it.

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
