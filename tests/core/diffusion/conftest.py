"""What the tests of sampling share: denoisers with a closed form, and a way to walk with them."""

import math

import pytest
import torch
from limner.core.values import Answer, LatentFormat, Model, Recipe, Sampling


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def walked():
    """Answer a walk's asks with a denoiser, to its end."""

    def walked(walk, denoiser):
        try:
            ask = next(walk)
            while True:
                ask = walk.send(Answer(denoiser(ask.x, ask.sigma)))
        except StopIteration as end:
            return end.value

    return walked


class Gaussian:
    """Data N(mean, std^2): its denoiser and the exact solution of its probability flow."""

    mean, std = 0.7, 0.5

    def __init__(self, *, flow=False):
        self.alpha = (lambda sigma: 1 - sigma) if flow else lambda _: 1.0

    def variance(self, sigma):
        return (self.alpha(sigma) * self.std) ** 2 + sigma**2

    def __call__(self, x, sigma):
        gain = self.alpha(sigma) * self.std**2 / self.variance(sigma)
        return self.mean + gain * (x - self.alpha(sigma) * self.mean)

    def flow(self, x, s, t):
        """Where the ODE takes x from sigma s to t: as many deviations from the mean as before."""
        deviations = (x - self.alpha(s) * self.mean) / math.sqrt(self.variance(s))
        return self.alpha(t) * self.mean + deviations * math.sqrt(self.variance(t))


@pytest.fixture(params=["exploding", "flow"])
def gaussian(request):
    return Gaussian(flow=request.param == "flow")


@pytest.fixture
def exploding():
    return Gaussian()


@pytest.fixture
def mixture():
    """The denoiser of three Gaussians, each cell by itself: curved paths, as real data have."""
    means = torch.tensor([-1.5, 0.2, 1.3], dtype=torch.float64).view(3, 1, 1, 1, 1)
    weights = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64).view(3, 1, 1, 1, 1)
    variances = torch.tensor([0.09, 0.04, 0.16], dtype=torch.float64).view(3, 1, 1, 1, 1)

    def denoise(x, sigma):
        total = variances + sigma**2
        share = (weights.log() - (x - means) ** 2 / (2 * total) - total.log() / 2).softmax(0)
        return (share * (means + variances / total * (x - means))).sum(0).to(x.dtype)

    return denoise


@pytest.fixture
def model():
    """A model that no file holds."""

    def model(prediction="eps", channels=4, scale=1.0, shift=0.0, **sampling):
        recipe = Recipe("mock", "", "", "{}")
        return Model(recipe, Sampling(prediction, **sampling), LatentFormat(channels, 8, scale, shift))

    return model
