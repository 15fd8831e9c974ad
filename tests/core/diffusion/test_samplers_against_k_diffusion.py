"""Samplers, held to k-diffusion in float64: one file of it, fetched from PyPI and read alone, its imports mocked."""

import math
import subprocess
import sys
import types
import zipfile

import pytest
import torch
from limner.core.diffusion import schedules
from limner.core.diffusion.noise import fresh
from limner.core.diffusion.samplers import SAMPLERS

pytestmark = pytest.mark.long

START = 14.6 * torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture(scope="module")
def sampling(request):
    """The module k_diffusion.sampling, without what it imports and these samplers do not use."""
    folder = request.config.cache.mkdir("k-diffusion")
    if not list(folder.glob("*.whl")):
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        done = subprocess.run([*download, "--dest", str(folder), "k-diffusion==0.1.1.post1"], check=False)
        if done.returncode:
            pytest.skip("k-diffusion cannot be fetched from here")
    (wheel,) = folder.glob("*.whl")
    with pytest.MonkeyPatch.context() as patch:
        for name, attributes in {
            "torchdiffeq": {"odeint": None},
            "torchsde": {},
            "tqdm": {},
            "tqdm.auto": {"trange": lambda n, **_: range(n), "tqdm": None},
            "kd": {"__path__": []},
            "kd.utils": {"append_dims": lambda x, n: x.reshape(x.shape + (1,) * (n - x.ndim))},
        }.items():
            module = types.ModuleType(name)
            vars(module).update(attributes)
            patch.setitem(sys.modules, name, module)
        sys.modules["kd"].utils = sys.modules["kd.utils"]
        module = types.ModuleType("kd.sampling")
        module.__package__ = "kd"
        source = zipfile.ZipFile(wheel).read("k_diffusion/sampling.py")
        exec(compile(source, "k_diffusion/sampling.py", "exec"), vars(module))
        return module


@pytest.mark.parametrize("steps", [12, 25])
@pytest.mark.parametrize(
    "name", [name for name in SAMPLERS if name not in {"ddpm", "ddim", "lcm", "uni_pc", "uni_pc_bh2"}]
)
def test_a_sampler_is_that_of_k_diffusion(name, steps, sampling, mixture, walked):
    sigmas = schedules.karras(steps, 0.03, 14.6)
    options = {"noise_sampler": fresh(2, START), "eta": 0.8} if SAMPLERS[name].stochastic else {}
    theirs = getattr(sampling, f"sample_{name}")(
        lambda x, sigma: mixture(x, sigma.double().view(-1, 1, 1, 1)), START, sigmas, disable=True, **options
    )
    ours = walked(SAMPLERS[name](START, sigmas, fresh(2, START), eta=0.8), mixture)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_schedules_are_those_of_k_diffusion(sampling):
    for name, rest in {"karras": (5.0,), "exponential": (), "polyexponential": (1.7,)}.items():
        theirs = getattr(sampling, f"get_sigmas_{name}")(17, 0.03, 14.6, *rest)
        ours = getattr(schedules, name)(17, 0.03, 14.6, *rest)
        torch.testing.assert_close(ours, theirs.double(), rtol=3e-6, atol=0)
    assert math.isclose(ours[0], 14.6)
