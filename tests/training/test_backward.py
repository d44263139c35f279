import lightning
import pytest
import torch
from torch import Tensor

from helpers import fit, make_agent
from lit_dqn import LitDQN
from lit_dqn.callbacks import StoppingRules
from lit_dqn.training.backward import backward_of


class Listener(lightning.Callback):
    def __init__(self) -> None:
        self.losses, self.norms = [], []

    def on_before_backward(self, trainer, agent, loss):
        self.losses.append(loss.item())

    def on_after_backward(self, trainer, agent):
        self.norms.append(float(next(agent.online.parameters()).grad.norm()))


class Way(lightning.Callback):
    """Notes how losses are differentiated."""

    def on_train_start(self, trainer, agent):
        self.backward = backward_of(agent)


def train(tmp_path, *callbacks, agent=None, **settings) -> tuple[object, dict[str, Tensor]]:
    torch.manual_seed(0)
    way, agent = Way(), agent or make_agent()
    fit(tmp_path, StoppingRules(), way, *callbacks, agent=agent, max_epochs=1, **settings)
    return way.backward, agent.online.state_dict()


def test_hooks_of_a_callback_are_called_for_each_update_and_change_nothing(tmp_path):
    listener = Listener()
    way, weights = train(tmp_path / "one", listener)
    assert way != Tensor.backward
    assert len(listener.losses) == len(listener.norms) == 10  # updates
    assert min(listener.norms) > 0
    way, alone = train(tmp_path / "other")
    assert way == Tensor.backward
    assert all(torch.equal(alone[name], weights[name]) for name in weights)


class WithHook(LitDQN):
    def on_after_backward(self) -> None:
        self.calls = getattr(self, "calls", 0) + 1


def test_the_hook_of_an_agent_is_called(tmp_path):
    plain = make_agent()
    agent = WithHook(
        plain.observation_shape, plain.num_actions, network=plain._make_network.args[0], objective=plain.objective
    )
    assert train(tmp_path, agent=agent)[0] != Tensor.backward
    assert agent.calls == 10  # updates


@pytest.mark.parametrize("settings", [{"profiler": "simple"}, {"precision": "16-mixed"}], ids=str)
def test_what_a_profiler_or_a_precision_does_is_done(tmp_path, settings):
    assert train(tmp_path, **settings)[0] != Tensor.backward
