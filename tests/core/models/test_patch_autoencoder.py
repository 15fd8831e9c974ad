"""The patch autoencoder: its linear part is what linear algebra says, and the rest learns what that part lost."""

import pytest
import torch
from limner.core.models.patch_autoencoder import PatchAutoencoder, PatchAutoencoderConfig
from limner.core.training.autoencoder import Fit, fit, principal, psnr

SMALL = PatchAutoencoderConfig(latent_channels=6, patch=4, widths=(8, 8), blocks=(1, 1))


def pixels(count: int = 12, rank: int = 48, seed: int = 0) -> torch.Tensor:
    """Pictures of 4x4 patches that all lie in a space of that many dimensions."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(rank, 48, generator=torch.Generator().manual_seed(99)) / 20
    weights = torch.randn(count, 16, rank, generator=generator)
    patches = (weights - weights.mean((0, 1))) @ basis + 0.3
    return torch.nn.functional.fold(patches.transpose(1, 2), 16, 4, stride=4)


def test_shapes_are_those_of_the_latent_format():
    model = PatchAutoencoder(PatchAutoencoderConfig())
    z = model.encode(torch.zeros(2, 3, 64, 48))
    assert z.shape == (2, 16, 8, 6)
    assert model.decode(z).shape == (2, 3, 64, 48)
    assert 0.7e6 < sum(p.numel() for p in model.parameters()) < 1.6e6


def test_as_many_components_as_dimensions_lose_nothing():
    x = pixels(rank=6)
    torch.testing.assert_close(principal(x, SMALL, whiten=0.5)(x), x, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("whiten", [0.0, 0.5, 1.0])
def test_what_is_lost_is_the_variance_of_the_components_left_out(whiten):
    x = pixels()
    patches = torch.nn.functional.unfold(x, 4, stride=4).transpose(1, 2).flatten(0, 1).double()
    values = torch.linalg.eigvalsh(torch.cov(patches.T, correction=0))
    error = (principal(x, SMALL, whiten)(x) - x).square().mean().item()
    assert error == pytest.approx(values[:-6].sum().item() / 48, rel=1e-3)


@pytest.mark.parametrize("whiten", [0.0, 0.5, 1.0])
def test_latents_have_unit_variance_together_and_each_where_they_are_whitened(whiten):
    z = principal(pixels(), SMALL, whiten).encode(pixels())
    spread = z.square().mean((0, 2, 3))
    assert spread.mean().item() == pytest.approx(1.0, rel=1e-3)
    assert z.mean((0, 2, 3)).abs().max().item() < 1e-3
    if whiten == 1.0:
        torch.testing.assert_close(spread, torch.ones(6), rtol=1e-3, atol=0)
    else:
        assert (spread.diff() < 0).all()


def test_training_gains_on_the_linear_inverse():
    torch.manual_seed(0)
    x = torch.nn.functional.interpolate(torch.randn(24, 3, 4, 4).sign() * 0.8, size=16, mode="bilinear")
    model = principal(x, SMALL, 0.5)
    before = psnr(model, x).mean()
    for _ in fit(model, lambda _: x, Fit(steps=60, rate=3e-3)):
        pass
    assert psnr(model, x).mean() > before + 1


def test_a_configuration_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="one length"):
        PatchAutoencoderConfig(widths=(8, 8), blocks=(1,))
    with pytest.raises(ValueError, match="cannot be halved"):
        PatchAutoencoderConfig(patch=2, widths=(8, 8, 8), blocks=(1, 1, 1))
