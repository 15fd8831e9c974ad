"""What all tests share: one thread, so that they take the same time beside other work."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    import torch

    torch.set_num_threads(1)
