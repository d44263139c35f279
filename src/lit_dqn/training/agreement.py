"""Whether an agent and its data go together."""

from lit_dqn.errors import ConfigError
from lit_dqn.learning.learner import Update
from lit_dqn.replay import Sequences
from lit_dqn.training.acting import Acting
from lit_dqn.training.protocols import Data


def check_agreement(agent: Acting, data: Data) -> None:
    """Refuse an agent for other observations or actions, or a memory, which its data do not have.

    Args:
        agent: that acts and learns.
        data: from which it learns.

    Raises:
        ConfigError: if they do not go together.

    """
    sees = agent.observation_shape if agent.parts is None else agent.parts.described()
    chooses = agent.num_actions if agent.branches is None else agent.branches.choices
    for key, of_agent, of_data in (
        ("observation_shape", sees, data.observation_shape),
        ("num_actions", chooses, data.num_actions),
    ):
        in_order = [list(of) if isinstance(of, dict) else of for of in (of_agent, of_data)]  # places in a row
        if of_agent != of_data or in_order[0] != in_order[1]:
            raise ConfigError(
                f"{key}: the agent was made for {of_agent}, and {data.env_id} has {of_data}; make the agent with "
                f"data.{key}."
            )
    _check_memory(agent, data)


def _check_memory(agent: Acting, data: Data) -> None:
    """Refuse a network with a memory where it cannot learn, and sequences for a network without one."""
    network, sampler, way = type(agent.online).__name__, data.sampler, agent.update_way
    of_sequences = isinstance(sampler, Sequences)
    if agent.memory_size == 0:
        _check_nothing_is_forgotten(agent)
        if of_sequences:
            other = ", or --model.network lit_dqn.RecurrentNetwork" if agent.learns_sequences else ""
            raise ConfigError(
                f"sampler: Sequences needs a network with a memory, and {network} has none; set --data.sampler "
                f"Uniform{other}."
            )
        return
    if not agent.learns_sequences:
        raise ConfigError(
            f"network: {network} has a memory, and {type(agent).__name__} learns from single transitions; set "
            "--model.network lit_dqn.MLP."
        )
    if not of_sequences:
        raise ConfigError(
            f"network: {network} has a memory, which cannot be trained with single transitions from "
            f"{type(sampler).__name__}; set --data.sampler Sequences."
        )
    if data.place is not None:
        raise ConfigError(
            f"place: {type(data.place).__name__} cannot play with a network that has a memory; set --data.place null."
        )
    if way in (Update.graph, Update.compiled):
        raise ConfigError(f"update: {way.value} cannot compute updates from sequences; set --model.update eager.")


def _check_nothing_is_forgotten(agent: Acting) -> None:
    """Refuse a network without a memory that contains one with a memory, which would start empty at every step."""
    for name, part in agent.online.named_modules():
        if getattr(part, "memory_size", 0):
            remedy = "lit_dqn.RecurrentNetwork --data.sampler Sequences" if agent.learns_sequences else "lit_dqn.MLP"
            raise ConfigError(
                f"network: {type(agent.online).__name__} does not keep the memory of its {name}, a "
                f"{type(part).__name__}, from step to step; set --model.network {remedy}."
            )
