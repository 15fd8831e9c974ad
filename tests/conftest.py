"""What all tests share: one thread, so that they take the same time beside other work, and a Ctrl-C that is heard."""

import signal

import pytest


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def ctrl_c():
    """A shell has what it starts in the background ignore Ctrl-C, and what that starts in its turn."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory):
    """A base directory with the model `tiny`: to look at, not to write to."""
    import tiny

    base = tmp_path_factory.mktemp("tiny")
    tiny.checkpoint(base)
    return base


@pytest.fixture
def base(tiny_base, tmp_path, monkeypatch):
    """A base directory of one's own, with the model `tiny`; also where Limner looks if it is told nothing."""
    import shutil

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return shutil.copytree(tiny_base, tmp_path / "data" / "limner")
