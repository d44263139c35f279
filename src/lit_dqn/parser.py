"""The parser of the command line, whose errors are sentences for people."""

import difflib
import inspect
import re
from functools import partial
from typing import Any, NoReturn

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from lit_dqn.actor_critic import LitActorCritic
from lit_dqn.callbacks import Checkpoints, EpisodeView, MazeView, StoppingRules, TrainingStatistics
from lit_dqn.data import ReplayDataModule
from lit_dqn.dqn import LitDQN
from lit_dqn.errors import ConfigError
from lit_dqn.help import HelpFormatter
from lit_dqn.specification import specification
from lit_dqn.td import LitTD
from lit_dqn.trainer_config import Trainer, name_run

REMEDIES = {
    "num_workers": "the envs are played in the training process, so there are no workers; "
    "for more envs side by side set --data.num_envs",
}
"""What to do instead of keys that people know from elsewhere."""

PROGRAM = "python -m lit_dqn"

UNKNOWN_KEY = re.compile(
    r"nrecognized arguments: --([\w.]+)|does not accept option '([\w.]+)'|Option '([\w.]+)' is not accepted"
)
"""How jsonargparse speaks of them."""

UNKNOWN_AGENT = re.compile(r"^Parser key \"model\": .*import path.* Given value: ([\w.]+)$")

AGENTS = (LitDQN, LitTD, LitActorCritic)
OWNERS_OF_KEYS = (
    *AGENTS,
    ReplayDataModule,
    StoppingRules,
    Checkpoints,
    TrainingStatistics,
    MazeView,
    EpisodeView,
    Trainer,
)
KNOWN_KEYS = [name for owner in OWNERS_OF_KEYS for name in inspect.signature(owner).parameters]


def _is_of_the_trainer(group: Any) -> bool:
    return any(action.dest.startswith("trainer.") for action in group._group_actions)


class Parser(LightningArgumentParser):
    """Says what is wrong in one sentence, without the usage text of some hundred keys."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # A misspelt key must not pass for the beginning of another one.
        super().__init__(*args, **{"prog": PROGRAM, **kwargs}, allow_abbrev=False, formatter_class=HelpFormatter)

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """As argparse's, with the keys of lit_dqn before the many of Lightning's Trainer."""
        groups = self._action_groups
        self._action_groups = sorted(groups, key=_is_of_the_trainer)
        try:
            return super().format_help(*args, **kwargs)
        finally:
            self._action_groups = groups

    def get_defaults(self, *args: Any, **kwargs: Any) -> Namespace:
        """All defaults; of the agent its class alone."""
        defaults = super().get_defaults(*args, **kwargs)
        # Otherwise another class would take over the default arguments of LitDQN where their names agree.
        if isinstance(defaults.get("model"), Namespace):
            defaults.model.pop("init_args", None)
        return defaults

    def add_class_arguments(self, *args: Any, **kwargs: Any) -> list[str]:
        """As jsonargparse's, with defaults that can be written into a file and read from there again."""
        keys = super().add_class_arguments(*args, **kwargs)
        for action in self._actions:
            if isinstance(action.default, partial):  # jsonargparse would write a sentence instead of it
                self.set_defaults({action.dest: specification(action.default)})
        return keys

    def dump(self, cfg: Namespace, *args: Any, **kwargs: Any) -> str:
        """As jsonargparse's; what is printed of a run has its name, as what the run keeps."""
        if "trainer" in cfg:
            cfg = cfg.clone()
            name_run(cfg)
        return super().dump(cfg, *args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say it.

        Raises:
            ConfigError: always.

        """
        sentence = " ".join(message.split())
        unknown = UNKNOWN_KEY.search(sentence)
        unknown_agent = UNKNOWN_AGENT.search(sentence)
        if unknown_agent:
            names = ", ".join(agent.__name__ for agent in AGENTS)
            sentence = f"model: there is no agent {unknown_agent[1]}; give one of {names}, or a class path of your own."
        elif unknown:
            key = next(filter(None, unknown.groups()))
            owner = 'Parser key "model"'  # of the class that was chosen, jsonargparse gives the bare key
            sentence = self._unknown_key(f"model.{key}" if sentence.startswith(owner) else key)
        raise ConfigError(sentence) from ex

    def _unknown_key(self, key: str) -> str:
        name = key.split(".")[-1]
        if name in REMEDIES:
            return f"{key}: {REMEDIES[name]}."
        near = difflib.get_close_matches(name, KNOWN_KEYS, n=1, cutoff=0.75)
        hint = f"did you mean {near[0]}?" if near else "`python -m lit_dqn fit --help` lists all keys."
        return f"{key}: there is no such key; {hint}"
