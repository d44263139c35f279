"""The horizon of transitions: how many steps they span, and how they discount."""

from dataclasses import dataclass

from lit_dqn.schedules import Schedule, bounds


@dataclass(frozen=True)
class Horizon:
    """n and γ of drawn transitions, as functions of the env steps played so far.

    Attributes:
        n_step: number of steps in a window, a number or a schedule, whose values are rounded.
        gamma: γ per step, a number or a schedule.

    """

    n_step: Schedule | int
    gamma: Schedule | float

    @property
    def longest(self) -> int:
        """Number of steps in the longest window that is ever drawn, for which a replay must keep room."""
        return round(bounds(self.n_step)[1])

    def steps(self, env_step: int) -> int:
        """Number of steps in a window that is drawn now."""
        return round(_at(self.n_step, env_step))

    def discount(self, env_step: int) -> float:
        """γ now."""
        return _at(self.gamma, env_step)

    def metrics(self, env_step: int) -> dict[str, float]:
        """The values to log: n and γ, if they change."""
        now = {"n_step": float(self.steps(env_step)), "gamma": self.discount(env_step)}
        return {name: value for name, value in now.items() if not isinstance(getattr(self, name), int | float)}


def _at(value: Schedule | float, env_step: int) -> float:
    return value(env_step) if isinstance(value, Schedule) else value
