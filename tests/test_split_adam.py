import copy

import pytest
import torch
from torch import nn

from lit_dqn.split_adam import PIECE, SplitAdam

SIZES = [(3, 7), (41, 1000), (PIECE,), (PIECE + 1,), (100, 1640)]


def parameters():
    generator = torch.Generator().manual_seed(0)
    made = [nn.Parameter(torch.randn(size, generator=generator)) for size in SIZES]
    channels_last = torch.randn(16, 8, 20, 20, generator=generator).to(memory_format=torch.channels_last)
    return [*made, nn.Parameter(channels_last)]


def set_gradients(params, number):
    generator = torch.Generator().manual_seed(number)
    for parameter in params:
        gradient = torch.randn(parameter.shape, generator=generator)
        parameter.grad = gradient.to(memory_format=torch.channels_last) if gradient.ndim == 4 else gradient


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("settings", [{}, {"amsgrad": True, "weight_decay": 0.1}])
def test_steps_in_pieces_are_the_steps_of_the_whole(make, settings):
    params = parameters()
    optimizer = make(params, lr=2**-7, fused=True, **settings)
    set_gradients(params, 0)
    optimizer.step()
    others = copy.deepcopy(params)
    other = make(others, lr=2**-7, fused=True, **settings)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert SplitAdam.pays(optimizer)
    split = SplitAdam(optimizer)
    for number in range(1, 6):
        for tensors in (params, others):
            set_gradients(tensors, number)
        split.step()
        other.step()
    for one, same in zip(params, others, strict=True):
        torch.testing.assert_close(one, same, rtol=1e-6, atol=1e-7)
        for name, value in other.state[same].items():
            torch.testing.assert_close(optimizer.state[one][name], value, rtol=1e-6, atol=1e-7)
    assert {float(copy) for copy in split.copies} == {6.0}


def test_it_stands_for_a_fused_adam_of_large_parameters_alone():
    large, small = [nn.Parameter(torch.zeros(100_000))], [nn.Parameter(torch.zeros(100))]
    assert SplitAdam.pays(torch.optim.Adam(large, fused=True))
    assert not SplitAdam.pays(torch.optim.Adam(small, fused=True))
    assert not SplitAdam.pays(torch.optim.Adam(large))
    assert not SplitAdam.pays(torch.optim.RMSprop(large))
