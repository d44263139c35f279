import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from lit_dqn.agent import LitAgent
from lit_dqn.checkpoint import TRUSTED_PACKAGES, packages_of, read_checkpoint
from lit_dqn.errors import ConfigError


def load_agent(checkpoint: str | Path) -> LitAgent:
    """The agent of a checkpoint, of whichever class it is, on the CPU.

    Raises:
        ConfigError: if the file is missing, damaged, its class is not known here, a part of it cannot be made, or it
            names a package that nobody has imported yet.

    """
    contents = read_checkpoint(checkpoint)
    arguments = [contents.get(key) for key in ("hyper_parameters", "hparams", "module_arguments")]  # Lightning's keys
    for package, part in packages_of(arguments).items():
        if package not in TRUSTED_PACKAGES and package not in sys.modules:
            raise ConfigError(
                f"{checkpoint} names {part}, which would be imported; if {package} is yours, import it first."
            )
    name = contents.get("agent", "LitDQN")  # the first checkpoints did not say
    agents: dict[str, type[LitAgent]] = {}
    for agent in _subclasses(LitAgent):  # type: ignore[type-abstract]
        agents.setdefault(agent.__name__, agent)
    if name not in agents:
        raise ConfigError(
            f"{checkpoint} holds a {name}, which is none of {', '.join(sorted(agents))}; import its class first."
        )
    try:
        return agents[name].load_from_checkpoint(checkpoint, map_location="cpu")
    except argparse.ArgumentError as error:
        raise ConfigError(f"{checkpoint}: the agent cannot be built: {' '.join(str(error).split())}") from error


def _subclasses(cls: type[LitAgent]) -> Iterator[type[LitAgent]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
