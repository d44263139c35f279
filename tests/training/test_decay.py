"""Weight decay of matrices alone, and what it changes for those that do not ask for it."""

from functools import partial

import pytest
import torch

from helpers import make_data, make_trainer, read_checkpoint, same
from lit_dqn import MLP, ConfigError, Linear, LitDQN, ReplayCheckpointIO
from lit_dqn.learning.decay import decay_matrices
from lit_dqn.saving.optimizer_state import check_optimizer, check_saved_optimizer

ADAMW = partial(torch.optim.AdamW, lr=0.1, weight_decay=0.5)
NETWORK = partial(MLP, hidden_sizes=(8,), layer_norm=True, noise=0.5)


def make_agent(**changes) -> LitDQN:
    torch.manual_seed(0)
    return LitDQN((4,), 2, network=NETWORK, optimizer=ADAMW, **changes)


def after_a_step_without_gradient(**changes) -> dict[str, torch.Tensor]:
    """By what each parameter is multiplied; those that begin at 0 are 1."""
    agent = make_agent(**changes)
    for parameter in agent.online.parameters():
        parameter.data += 1
        parameter.grad = torch.zeros_like(parameter)
    before = {name: parameter.detach().clone() for name, parameter in agent.online.named_parameters()}
    agent.configure_optimizers().step()
    return {name: (parameter.detach() / before[name]) for name, parameter in agent.online.named_parameters()}


def test_matrices_decay_and_biases_and_normalisation_do_not():
    shrunk = after_a_step_without_gradient(decay_biases=False)
    assert {factor.ndim for factor in shrunk.values()} == {1, 2}
    for name, factor in shrunk.items():
        expected = torch.full_like(factor, 0.95 if factor.ndim == 2 else 1.0)
        torch.testing.assert_close(factor, expected, msg=name)


def test_by_default_all_decay_as_torch_has_it():
    for factor in after_a_step_without_gradient().values():
        torch.testing.assert_close(factor, torch.full_like(factor, 0.95))


def test_the_optimiser_of_those_that_do_not_ask_for_it_is_laid_out_as_before():
    agent = make_agent()
    assert agent.configure_optimizers().state_dict() == ADAMW(agent.online.parameters()).state_dict()


def test_a_network_of_matrices_alone_has_one_group():
    matrices = torch.nn.Linear(3, 2, bias=False)
    (group,) = decay_matrices(ADAMW, matrices.parameters()).param_groups
    assert group["weight_decay"] == 0.5


def test_the_schedule_is_that_of_what_decays(monkeypatch):
    decays = []
    step = torch.optim.AdamW.step

    def watch(optimizer, *args, **kwargs):
        decays.append([group["weight_decay"] for group in optimizer.param_groups])
        return step(optimizer, *args, **kwargs)

    agent = make_agent(weight_decay=Linear(0.5, 0.1, 58), decay_biases=False)
    monkeypatch.setattr(torch.optim.AdamW, "step", watch)
    make_trainer().fit(agent, datamodule=make_data())
    assert [pair[1] for pair in decays] == [0.0] * 10
    assert [pair[0] for pair in decays] == pytest.approx([0.5 - 0.4 * min((50 + n) / 58, 1) for n in range(1, 11)])


def train(path, epochs, ckpt_path=None, **changes):
    agent, data = make_agent(**changes), make_data()
    trainer = make_trainer(max_epochs=epochs, limit_val_batches=0, plugins=[ReplayCheckpointIO()])
    trainer.fit(agent, datamodule=data, ckpt_path=ckpt_path)
    trainer.save_checkpoint(path, weights_only=False)
    return agent.state_dict()


def test_a_checkpoint_with_two_groups_is_whole_and_resumes_as_if_nothing_had_been(tmp_path):
    whole = train(tmp_path / "whole.ckpt", 2, decay_biases=False)
    train(tmp_path / "half.ckpt", 1, decay_biases=False)
    again = train(tmp_path / "again.ckpt", 2, tmp_path / "half.ckpt", decay_biases=False)
    assert same(whole, again)
    assert not same(whole, train(tmp_path / "all.ckpt", 2))
    state = read_checkpoint(tmp_path / "again.ckpt")["optimizer_states"][0]
    assert [group["weight_decay"] for group in state["param_groups"]] == [0.5, 0.0]
    assert LitDQN.load_from_checkpoint(tmp_path / "again.ckpt").hparams["decay_biases"] is False


@pytest.mark.parametrize("then", [True, False])
def test_a_run_goes_on_with_the_groups_that_it_began_with(then, tmp_path):
    train(tmp_path / "begun.ckpt", 1, decay_biases=then)
    sentence = f"decay_biases: the checkpoint's optimiser .*; set --model.decay_biases {str(then).lower()}"
    with pytest.raises(ConfigError, match=sentence):
        train(tmp_path / "other.ckpt", 2, tmp_path / "begun.ckpt", decay_biases=not then)


@pytest.mark.parametrize("decay_biases", [True, False])
def test_a_state_of_the_wrong_parameter_is_found(decay_biases):
    agent = make_agent(decay_biases=decay_biases)
    weights = list(agent.online.parameters())
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer = agent.configure_optimizers()
    optimizer.step()
    saved = optimizer.state_dict()
    check_optimizer(saved, weights, agent.make_optimizer)
    check_saved_optimizer(saved, weights, "torch.optim.AdamW")
    state = saved["state"]
    state[0], state[len(weights) - 1] = state[len(weights) - 1], state[0]
    with pytest.raises(ValueError, match="its optimiser's exp_avg is"):
        check_optimizer(saved, weights, agent.make_optimizer)
    with pytest.raises(ValueError, match="its optimiser's exp_avg is"):
        check_saved_optimizer(saved, weights, "torch.optim.AdamW")


def test_updates_are_not_compiled_over_two_groups():
    with pytest.raises(ConfigError, match="its parameters are in several groups"):
        make_agent(decay_biases=False, update="compiled").check_device(torch.device("cpu"))


def test_an_optimiser_that_lets_nothing_decay_is_refused():
    with pytest.raises(ConfigError, match="decay_biases: false, but Rprop lets no weights decay"):
        LitDQN((4,), 2, network=NETWORK, optimizer=torch.optim.Rprop, decay_biases=False)
