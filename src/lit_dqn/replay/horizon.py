"""How far ahead a transition looks, and how much of that counts."""

from dataclasses import dataclass

from lit_dqn.schedules import Schedule, bounds


@dataclass(frozen=True)
class Horizon:
    """n and γ of the transitions that are drawn, by the env steps played until then.

    Attributes:
        n_step: steps in a window, a number or a schedule, whose values are rounded.
        gamma: γ per step, a number or a schedule.

    """

    n_step: Schedule | int
    gamma: Schedule | float

    @property
    def longest(self) -> int:
        """Steps of the longest window that is ever drawn, which a replay must keep room for."""
        return round(bounds(self.n_step)[1])

    def steps(self, env_step: int) -> int:
        """In a window that is drawn now."""
        return round(_at(self.n_step, env_step))

    def discount(self, env_step: int) -> float:
        """γ now."""
        return _at(self.gamma, env_step)

    def metrics(self, env_step: int) -> dict[str, float]:
        """What the log should know: of n and γ those that change."""
        now = {"n_step": float(self.steps(env_step)), "gamma": self.discount(env_step)}
        return {name: value for name, value in now.items() if not isinstance(getattr(self, name), int | float)}


def _at(value: Schedule | float, env_step: int) -> float:
    return value(env_step) if isinstance(value, Schedule) else value
