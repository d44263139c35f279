"""What an agent is told about the actions of an env, and which policies can choose among them."""

from typing import Any

import numpy as np
from gymnasium import Space, spaces

from lit_dqn.envs import MOST_COMBINATIONS, CombinedSpace
from lit_dqn.errors import ConfigError
from lit_dqn.training.acting import Acting
from lit_dqn.training.protocols import Data


def actions_of(
    space: Space[Any], env_id: str, *, action_mask: bool, combine_actions: bool | None
) -> tuple[int | tuple[int, ...], int]:
    """The number of actions, or of the choices of each part of an action; and the number of all combinations.

    Args:
        space: of the actions of `make_env`'s env.
        env_id: of the env.
        action_mask: whether it forbids actions.
        combine_actions: as for `ReplayDataModule`.

    Raises:
        ConfigError: if the combinations are too many to be actions of their own, although a setting needs that.

    """
    assert isinstance(space, spaces.Discrete)
    count = int(space.n)
    if not isinstance(space, CombinedSpace):
        if combine_actions is False:
            raise ConfigError(
                f"combine_actions: false, but {env_id} takes one action at a time ({space}); leave it out, or set "
                "--data.combine_actions null."
            )
        return count, count
    few = count <= MOST_COMBINATIONS
    if combine_actions and not few:
        raise ConfigError(
            f"combine_actions: true, but {env_id} has {count:,} combinations of its actions, and {MOST_COMBINATIONS:,} "
            "are the most that have values of their own; set --data.combine_actions false."
        )
    if few and combine_actions is not False:
        return count, count
    if action_mask:
        remedy = "combine_actions null" if few else "action_mask false"
        raise ConfigError(
            f"action_mask: true forbids combinations of actions, and those of {env_id} have no values of their own; "
            f"set --data.{remedy}."
        )
    return space.branches.choices, count


def check_policies_of_branches(agent: Acting, data: Data) -> None:
    """Refuse policies that need a value for each action, where each part of an action has values of its own.

    Args:
        agent: with branches.
        data: with the policies.

    Raises:
        ConfigError: names the key and the policy.

    """
    policies = {"policy": data.policy, "warm_up_policy": data.warm_up_policy, "eval_policy": data.eval_policy}
    for key, policy in policies.items():
        if policy.asks_agent:
            try:
                policy.act(agent, data.blank_observation, 0, [np.random.default_rng(0)])
            except ConfigError as error:
                raise ConfigError(
                    f"{key}: {type(policy).__name__} compares all actions, and the parts of an action have values of "
                    f"their own here; set --data.{key} {'Greedy' if key == 'eval_policy' else 'EpsilonGreedy'}."
                ) from error
