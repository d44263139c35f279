import pytest

from helpers import make_agent, make_data
from lit_dqn import ConfigError


class Several:
    """Of a Trainer with several processes what says so."""

    world_size = 2


@pytest.mark.parametrize("part", ["agent", "data"])
def test_parts_in_several_processes_refuse_before_anything_is_built(part):
    one = make_agent() if part == "agent" else make_data()
    one._trainer = one.trainer = Several() if part == "data" else None
    if part == "agent":
        one._trainer = Several()
    with pytest.raises(ConfigError, match=r"trainer.devices: this Trainer runs in 2 processes, .* devices=1"):
        one.setup("fit")
    assert getattr(one, "collector", None) is None
