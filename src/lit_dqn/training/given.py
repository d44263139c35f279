"""What a script passes where the command line's parser would have refused it: a class in place of an object fails far
from where it was given.
"""

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from lit_dqn.envs.make import check_env_id
from lit_dqn.errors import ConfigError, as_given
from lit_dqn.schedules import Schedule


def check_given(settings: Mapping[str, Any], whole_numbers: Sequence[str]) -> None:
    """Refuse settings of a type that cannot work.

    Args:
        settings: the arguments of `ReplayDataModule` by name; demonstrations may also be descriptions of a config.
        whole_numbers: those that must be one.

    Raises:
        ConfigError: names the key, what was given, and what to give.

    """
    check_env_id(settings["env_id"])
    check_object("sampler", settings["sampler"], "sampler", "is_rollout", "Uniform()")
    if settings["place"] is not None:
        check_object("place", settings["place"], "place", "envs_per_player", "RayActors(actors=1)")
    prefill = settings["prefill"]
    if hasattr(prefill, "timesteps"):
        raise ConfigError(f"prefill: {as_given(prefill)} is no list; give one, such as [Play(1000)].")
    for demonstrations in prefill if isinstance(prefill, Sequence) else ():
        if isinstance(demonstrations, type):
            raise ConfigError(f"prefill: {as_given(demonstrations)} is no object; give one, such as Play(1000).")
    for key, number in (("gamma", "0.99"), ("n_step", "1")):
        if not isinstance(settings[key], Real | Schedule):
            raise ConfigError(
                f"{key}: {as_given(settings[key])} is no number and no schedule; give one, such as {number}."
            )
    for key in whole_numbers:
        if not isinstance(settings[key], Integral):
            raise ConfigError(f"{key}: {as_given(settings[key])} must be a whole number, of type int.")


def check_object(key: str, given: object, kind: str, attribute: str, example: str) -> None:
    """Refuse a class, a number or a text where an object is needed; its class may be any that has the attribute.

    Args:
        key: of the setting.
        given: what was passed.
        kind: what it should be, in a word.
        attribute: what each such object has.
        example: one of them.

    Raises:
        ConfigError: names the key, what was given, and the example.

    """
    if isinstance(given, type) or not hasattr(given, attribute):
        raise ConfigError(f"{key}: {as_given(given)} is no {kind}; give an object, such as {example}.")
