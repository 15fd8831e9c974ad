"""The autoencoder is diffusers' AutoencoderKL: the same names, and the same numbers on tiny random weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL as Theirs
from limner.core.models.vae import FORMER_NAMES, AutoencoderKL, VaeConfig, present_name

CONFIGS = {
    "sd": VaeConfig(channels=(16, 32, 32), norm_groups=8),
    "one level": VaeConfig(channels=(16,), norm_groups=8, layers=1),
    "flux": VaeConfig(channels=(8, 16), norm_groups=4, latent_channels=16, quant_conv=False, post_quant_conv=False),
    "no attention": VaeConfig(channels=(8, 16, 16, 16), norm_groups=4, layers=1, mid_attention=False),
}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def theirs(config: VaeConfig) -> Any:
    return Theirs(
        down_block_types=("DownEncoderBlock2D",) * len(config.channels),
        up_block_types=("UpDecoderBlock2D",) * len(config.channels),
        block_out_channels=config.channels,
        layers_per_block=config.layers,
        latent_channels=config.latent_channels,
        norm_num_groups=config.norm_groups,
        use_quant_conv=config.quant_conv,
        use_post_quant_conv=config.post_quant_conv,
        mid_block_add_attention=config.mid_attention,
    ).eval()


def pair(config: VaeConfig) -> tuple[AutoencoderKL, Any]:
    torch.manual_seed(7)
    other = theirs(config)
    with torch.no_grad():
        for parameter in other.parameters():  # norms and biases begin as 1 and 0, which would hide a mistake
            parameter.add_(torch.randn_like(parameter) * 0.05)
    ours = AutoencoderKL(config).eval()
    ours.load_state_dict(other.state_dict(), strict=True)
    return ours, other


@pytest.mark.parametrize("size", [(32, 16), (13, 27)])
@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_it_encodes_as_diffusers_does(name, size):
    ours, other = pair(CONFIGS[name])
    pixels = torch.rand(2, 3, *size) * 2 - 1
    want = other.encode(pixels).latent_dist
    mean, logvar = ours.moments(pixels)
    torch.testing.assert_close(ours.encode(pixels), want.mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(mean, want.mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(logvar, want.logvar, atol=1e-5, rtol=0)
    f = CONFIGS[name].downscale
    assert mean.shape == (2, CONFIGS[name].latent_channels, size[0] // f, size[1] // f)


@pytest.mark.parametrize("size", [(8, 4), (3, 7)])
@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_it_decodes_as_diffusers_does(name, size):
    ours, other = pair(CONFIGS[name])
    latents = torch.randn(2, CONFIGS[name].latent_channels, *size)
    want = other.decode(latents).sample
    got = ours.decode(latents)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)
    assert want.std() > 0.05
    f = CONFIGS[name].downscale
    assert got.shape == (2, 3, size[0] * f, size[1] * f)


@pytest.mark.parametrize("name", CONFIGS)
def test_its_parameters_have_the_names_and_shapes_that_diffusers_gives_them(name):
    with torch.device("meta"):
        ours, other = AutoencoderKL(CONFIGS[name]), theirs(CONFIGS[name])
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in other.state_dict().items()}


def test_names_from_before_0_18_become_those_of_today_and_others_stay():
    today = set(pair(CONFIGS["sd"])[0].state_dict())
    before = set()
    for key in today:
        old = key
        for was, name in FORMER_NAMES.items():
            old = old.replace(f".attentions.0.{name}.", f".attentions.0.{was}.")
        before.add(old)
    assert len(before - today) == 16  # weight and bias of four maps, in the encoder and in the decoder
    assert {present_name(key) for key in before} == today
    assert {present_name(key) for key in today} == today


def test_the_logarithm_of_the_variance_is_bounded():
    ours, _ = pair(CONFIGS["sd"])
    with torch.no_grad():
        ours.quant_conv.bias.fill_(1000.0)
        assert ours.moments(torch.zeros(1, 3, 8, 8))[1].max() == 20.0


def test_stable_diffusions_has_as_many_parameters_as_its_file():
    with torch.device("meta"):
        assert sum(p.numel() for p in AutoencoderKL(VaeConfig()).parameters()) == 83_653_863


def test_it_answers_in_the_dtype_it_was_asked_in():
    ours, _ = pair(CONFIGS["sd"])
    with torch.no_grad():
        assert ours.bfloat16()(torch.zeros(1, 3, 8, 8)).dtype == torch.float32


def test_a_configuration_that_cannot_be_is_refused_in_words():
    with pytest.raises(ValueError, match="multiples of norm_groups 32, not \\[48\\]"):
        VaeConfig(channels=(48,))
