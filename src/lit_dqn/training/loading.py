from collections.abc import Iterator, Sequence
from pathlib import Path

from lit_dqn.errors import ConfigError
from lit_dqn.saving.checkpoint import Checkpoint
from lit_dqn.training.actor_critic import LitActorCritic
from lit_dqn.training.agent import LitAgent
from lit_dqn.training.dqn import LitDQN
from lit_dqn.training.td import LitTD


def load_agent(checkpoint: str | Path, trust: Sequence[type] = ()) -> LitAgent:
    """The agent of a checkpoint, of any class, on the CPU.

    A checkpoint may come from a stranger, so it may name only parts of lit_dqn, torch and Gymnasium, and yours.

    Args:
        checkpoint: a `.ckpt` file.
        trust: your own classes that the checkpoint may name, such as its network: `trust=[MyNetwork]`.

    Raises:
        ConfigError: if the file is missing or damaged, its weights are not finite, the class of its agent is unknown,
            or the class of a part is not trusted or cannot be created.

    """
    found = Checkpoint.read(checkpoint)
    agents: dict[str, type[LitAgent]] = {agent.__name__: agent for agent in (LitDQN, LitTD, LitActorCritic)}
    for agent in _subclasses(LitAgent):  # type: ignore[type-abstract]
        agents.setdefault(agent.__name__, agent)
    if found.agent not in agents:
        raise ConfigError(
            f"{checkpoint} holds a {found.agent}, which is none of {', '.join(sorted(agents))}; import its class first."
        )
    return agents[found.agent].of_checkpoint(found, trust=trust)


def _subclasses(cls: type[LitAgent]) -> Iterator[type[LitAgent]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
