"""What cannot be captured. Last of all, for a failed capture may leave the device in disorder."""

import copy
import logging
from functools import partial

import pytest
import torch
from test_gpu_updates import FUSED, GPU, NUMBERS, SMALL, assert_same, chunks, learn

from helpers import WithBatchNorm, WithDropout
from lit_dqn import ConfigError, QLearning
from lit_dqn.learning.learner import Learner, Update


class Waits(QLearning):
    """An objective that waits for the device."""

    def __call__(self, online, target, batch):
        assert batch.reward.sum().item() == batch.reward.sum().item()
        return super().__call__(online, target, batch)


CASES = {
    "batch norm": (QLearning(), WithBatchNorm, FUSED, "changes its buffers, as batch norm"),
    "dropout": (QLearning(), WithDropout, FUSED, "draws random numbers, as dropout"),
    "an optimiser": (QLearning(), SMALL, partial(torch.optim.SGD, lr=0.1, momentum=0.5), "the steps of SGD"),
    "a wait": (Waits(), SMALL, FUSED, "its operations cannot be captured"),
}


@pytest.mark.parametrize("case", CASES)
def test_auto_continues_eagerly_and_logs_it_once(case, caplog):
    objective, network, optimizer, reason = CASES[case]
    torch.manual_seed(0)
    online = network(NUMBERS, 3).to(GPU)
    learners = []
    for way in (Update.eager, Update.auto):
        own = copy.deepcopy(online)
        with caplog.at_level(logging.INFO, logger="lit_dqn"):
            learner = Learner(own, copy.deepcopy(own), objective, optimizer(own.parameters()), update=way)
            torch.manual_seed(1)
            metrics = [learner.update_many(batches).metrics for batches in chunks(NUMBERS)]
        learners.append((learner, metrics))
    assert len([record for record in caplog.records if reason in record.getMessage()]) == 1
    assert_same(*reversed(learners))


@pytest.mark.parametrize("case", ["batch norm", "dropout", "a wait"])
def test_graph_is_refused(case):
    objective, network, optimizer, reason = CASES[case]
    with pytest.raises(ConfigError, match=f"update: graph cannot capture this update: .*{reason}"):
        learn(Update.graph, objective, network, NUMBERS, optimizer=optimizer)


def test_after_all_that_the_device_still_captures():
    assert_same(learn(Update.graph, QLearning(), SMALL, NUMBERS), learn(Update.eager, QLearning(), SMALL, NUMBERS))
