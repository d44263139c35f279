"""Tests that need a CUDA GPU: python -m pytest -m gpu tests/gpu"""

from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            item.add_marker(pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU"))


@pytest.fixture(autouse=True)
def _reproducible():
    """As a run sets it; and what a test has begun shows its errors in this test."""
    if not torch.cuda.is_available():
        yield
        return
    from lit_dqn.learning.libraries import prepare_libraries

    prepare_libraries()
    torch.manual_seed(0)
    yield
    torch.cuda.synchronize()
