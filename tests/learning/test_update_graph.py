"""What is around a captured update, with a stand-in for the graph that computes again instead of replaying."""

import copy
from functools import partial

import pytest
import torch

from helpers import ADAM, SMALL, batches, fit_audit_env
from lit_dqn import DoubleQLearning, EpsilonGreedy, QLearning
from lit_dqn.learning import learner as learner_module
from lit_dqn.learning import update_graph
from lit_dqn.learning.learner import Learner, Update


class Again:
    """Replays by calling."""

    def __init__(self, call):
        self.replay = call


def capture(call, device, before, check):
    for _ in range(3):
        before()
        call()
    check()
    return Again(call)


class CapturingLearner(Learner):
    def __init__(self, *args, update, **kwargs):
        super().__init__(*args, update=Update.eager, **kwargs)
        self._captures = update is not Update.eager


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch):
    monkeypatch.setattr(update_graph, "capture", capture)


def learn(update, chunks, weighed=False, **settings):
    torch.manual_seed(0)
    online = SMALL((4,), 2)
    target = copy.deepcopy(online).requires_grad_(False)
    settings = {"target_update_period": 3, "max_grad_norm": 1.0} | settings
    learner = CapturingLearner(
        online, target, DoubleQLearning(), ADAM(online.parameters(), lr=2**-7), update=update, **settings
    )
    given = iter(batches(sum(chunks)))
    if weighed:
        given = (batch._replace(weight=batch.reward.abs()) for batch in given)
    return learner, [learner.update_many([next(given) for _ in range(count)]) for count in chunks]


@pytest.mark.parametrize(
    "settings", [{}, {"target_update_period": 1, "target_update_tau": 0.5}, {"weighed": True}], ids=str
)
@pytest.mark.parametrize("chunks", [(4, 4, 4), (1, 1, 1, 1), (3, 3, 5)])
def test_replays_make_the_updates_of_eager(chunks, settings):
    (captured, learned), (eager, expected) = (learn(way, chunks, **settings) for way in (Update.auto, Update.eager))
    assert captured.captured
    assert not eager.captured
    assert captured.updates == eager.updates == sum(chunks)
    for one, other in ((captured.online, eager.online), (captured.target, eager.target)):
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    for one, other in zip(learned, expected, strict=True):
        assert one.metrics.keys() == other.metrics.keys()
        assert all(torch.equal(one.metrics[name], other.metrics[name]) for name in one.metrics)
        assert (one.priority is None) == (other.priority is None) == ("weighed" not in settings)
        assert one.priority is None or torch.equal(one.priority, other.priority)


def test_a_capture_leaves_no_trace_when_it_is_given_up():
    learner, _ = learn(Update.auto, (2,))
    before = copy.deepcopy([learner.online.state_dict(), learner.target.state_dict(), learner.optimizer.state_dict()])
    learner.objective = lambda online, target, batch: QLearning()(online, target, batch)._replace(
        metrics={"noise": torch.rand(())}
    )
    state, (batch,) = torch.get_rng_state(), batches(1)
    with pytest.raises(update_graph.NotCapturedError, match="random numbers"):
        learner._replay([batch], None)
    assert torch.equal(torch.get_rng_state(), state)
    learner.release()
    after = [learner.online.state_dict(), learner.target.state_dict(), learner.optimizer.state_dict()]
    assert str(after[2]["param_groups"]) == str(before[2]["param_groups"])
    for one, other in zip(before[:2], after[:2], strict=True):
        assert all(torch.equal(value, other[name]) for name, value in one.items())
    for number, values in before[2]["state"].items():
        assert all(torch.equal(value, after[2]["state"][number][name]) for name, value in values.items())
    learner.update_many([batch])  # eagerly, from now on
    assert not learner.captured
    assert learner.updates == 3


@pytest.mark.parametrize("play_ahead", [False, True])
def test_a_run_whose_updates_gather_inside_the_graph_is_the_eager_run(monkeypatch, play_ahead):
    settings = {"gradient_steps": 5, "num_envs": 5, "play_ahead": play_ahead, "policy": EpsilonGreedy(0.5)}
    expected = fit_audit_env(monkeypatch, False, **settings)
    seen = []

    class Recorded(CapturingLearner):
        def update_many(self, batches):
            learned = super().update_many(batches)
            seen.append(self.captured)
            return learned

    monkeypatch.setattr(learner_module, "Learner", Recorded)
    monkeypatch.setattr("lit_dqn.training.agent.Learner", partial(Recorded))
    captured = fit_audit_env(monkeypatch, True, **settings)
    assert seen == [False, True, True, True]
    assert all(torch.equal(captured[name], weights) for name, weights in expected.items())
