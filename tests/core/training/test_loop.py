"""The training loop: its rate, and that a killed run ends in the same weights as one that was left alone."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from limner.core.training import loop
from torch import nn

PLAN = loop.Plan(steps=12, rate=0.05, warmup=3, decay=0.5, ema=0.9, save_every=4)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))


def loss(net: nn.Module, step: int) -> torch.Tensor:
    x = torch.randn(16, 3, generator=torch.Generator().manual_seed(step))
    return (net(x) - x.sum(1, keepdim=True)).square().mean()


def run(path: Path, until: int = 99) -> nn.Module:
    net = network()
    for event in loop.train(net, loss, PLAN, path):
        if isinstance(event, loop.Step) and event.step == until:
            break
    return net


def test_a_run_that_was_stopped_ends_in_the_same_weights_as_one_that_was_not(tmp_path):
    whole = run(tmp_path / "whole.pt")
    run(tmp_path / "parts.pt", until=6)  # two steps after the last checkpoint
    parts = run(tmp_path / "parts.pt")
    torch.testing.assert_close(parts.state_dict(), whole.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(
        loop.averaged(tmp_path / "parts.pt"), loop.averaged(tmp_path / "whole.pt"), rtol=0, atol=0
    )


def test_a_run_that_was_killed_ends_in_the_same_weights_as_one_that_was_not(tmp_path):
    child = tmp_path / "child.py"
    child.write_text(
        textwrap.dedent(f"""
        import importlib.util, os, signal
        from pathlib import Path
        spec = importlib.util.spec_from_file_location("here", {str(Path(__file__))!r})
        here = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(here)
        for event in here.loop.train(here.network(), here.loss, here.PLAN, Path({str(tmp_path / "run.pt")!r})):
            if isinstance(event, here.loop.Step) and event.step == 7:
                os.kill(os.getpid(), signal.SIGKILL)
        """)
    )
    assert subprocess.run([sys.executable, child], check=False).returncode == -9
    assert loop.averaged(tmp_path / "run.pt")[0] == 4
    resumed, whole = run(tmp_path / "run.pt"), run(tmp_path / "whole.pt")
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_a_checkpoint_that_was_being_written_when_the_power_went_harms_nothing(tmp_path):
    run(tmp_path / "run.pt", until=6)
    (tmp_path / "run.pt.partial").write_bytes(b"half of")
    assert loop.averaged(tmp_path / "run.pt")[0] == 4
    whole = run(tmp_path / "whole.pt")
    torch.testing.assert_close(run(tmp_path / "run.pt").state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_training_ends_with_a_checkpoint_and_does_nothing_once_it_is_done(tmp_path):
    events = list(loop.train(network(), loss, PLAN, tmp_path / "run.pt"))
    assert [event.step for event in events if isinstance(event, loop.Saved)] == [4, 8, 12]
    assert isinstance(events[-1], loop.Saved)
    assert list(loop.train(network(), loss, PLAN, tmp_path / "run.pt")) == []


def test_the_loss_falls(tmp_path):
    net = network()
    before = sum(loss(net, step).item() for step in range(100, 110))
    list(loop.train(net, loss, loop.Plan(steps=200, rate=0.01, warmup=5), tmp_path / "run.pt"))
    assert sum(loss(net, step).item() for step in range(100, 110)) < before / 2


def test_the_rate_rises_holds_and_falls_to_nothing():
    plan = loop.Plan(steps=1000, rate=0.1, warmup=100, decay=0.3)
    assert loop.rate(plan, 49) == pytest.approx(0.05)
    assert loop.rate(plan, 500) == 0.1
    assert loop.rate(plan, 850) == pytest.approx(0.05)
    assert loop.rate(plan, 999) < 1e-5
