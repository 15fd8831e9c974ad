"""The UNet is diffusers' UNet: the same names, and the same numbers on tiny random weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from limner.core.models.unet import UNet, UNetConfig, sinusoid

DOWN, CROSS_DOWN, UP, CROSS_UP = "DownBlock2D", "CrossAttnDownBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"

CONFIGS = {
    "sd1": UNetConfig(channels=(16, 32, 32), depth=(1, 1, 0), heads=(4, 4, 4), context_dim=24, norm_groups=8),
    "sd1 inpaint": UNetConfig(
        in_channels=9, channels=(16, 32), depth=(1, 0), heads=(2, 2), context_dim=24, norm_groups=8, layers=1
    ),
    "pix2pix": UNetConfig(
        in_channels=8, channels=(16, 32), depth=(1, 0), heads=(2, 2), context_dim=24, norm_groups=8, layers=1
    ),
    "sd2": UNetConfig(
        channels=(16, 32, 32, 32),
        depth=(1, 1, 1, 0),
        heads=(2, 4, 4, 4),
        context_dim=20,
        norm_groups=8,
        linear_projection=True,
        upcast_attention=True,
    ),
    "sdxl": UNetConfig(
        channels=(16, 32, 64),
        depth=(0, 2, 3),
        mid_depth=3,
        heads=(2, 4, 8),
        context_dim=40,
        vector_dim=12 + 6 * 8,
        norm_groups=8,
        linear_projection=True,
    ),
    "refiner": UNetConfig(
        channels=(16, 32, 64, 64),
        depth=(0, 2, 2, 0),
        mid_depth=2,
        heads=(2, 4, 8, 8),
        context_dim=24,
        vector_dim=12 + 5 * 8,
        norm_groups=8,
        linear_projection=True,
    ),
    "no attention in the middle": UNetConfig(
        channels=(16, 32), depth=(1, 1), mid_depth=0, heads=(2, 2), context_dim=24, norm_groups=8
    ),
    "no middle": UNetConfig(
        channels=(16, 32), depth=(1, 1), mid_depth=None, heads=(2, 2), context_dim=24, norm_groups=8, layers=1
    ),
}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def theirs(config: UNetConfig) -> Any:
    added = {} if config.vector_dim is None else {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    middle = {None: None, 0: "UNetMidBlock2D"}.get(config.mid_depth, "UNetMidBlock2DCrossAttn")
    return UNet2DConditionModel(
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        down_block_types=tuple(CROSS_DOWN if d else DOWN for d in config.depth),
        up_block_types=tuple(CROSS_UP if d else UP for d in reversed(config.depth)),
        mid_block_type=middle,
        block_out_channels=config.channels,
        layers_per_block=config.layers,
        # the middle reads the last entry, which a level without attention leaves alone
        transformer_layers_per_block=(*config.depth[:-1], config.mid_depth or config.depth[-1]),
        attention_head_dim=config.heads,
        cross_attention_dim=config.context_dim,
        use_linear_projection=config.linear_projection,
        upcast_attention=config.upcast_attention,
        norm_num_groups=config.norm_groups,
        projection_class_embeddings_input_dim=config.vector_dim,
        **added,
    ).eval()


def pair(config: UNetConfig) -> tuple[UNet, Any]:
    torch.manual_seed(7)
    other = theirs(config)
    with torch.no_grad():
        for parameter in other.parameters():  # norms and biases begin as 1 and 0, which would hide a mistake
            parameter.add_(torch.randn_like(parameter) * 0.05)
    ours = UNet(config).eval()
    ours.load_state_dict(other.state_dict(), strict=True)
    return ours, other


def inputs(config: UNetConfig, size: tuple[int, int] = (16, 8), n: int = 3) -> dict[str, torch.Tensor]:
    torch.manual_seed(11)
    return {
        "x": torch.randn(n, config.in_channels, *size),
        "timesteps": torch.tensor([3.0, 500.25, 999.0])[:n],
        "context": torch.randn(n, 7, config.context_dim),
    }


@torch.no_grad()
def check(config: UNetConfig, given: dict[str, torch.Tensor], mask: torch.Tensor | None = None) -> None:
    ours, other = pair(config)
    more: dict[str, Any] = {}
    vector = None
    if config.vector_dim is not None:
        pooled, numbers = torch.randn(3, 12), torch.rand(3, (config.vector_dim - 12) // 8) * 1000
        more["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": numbers}
        vector = torch.cat([pooled, sinusoid(numbers.flatten(), 8).reshape(3, -1)], dim=-1)
    want = other(given["x"], given["timesteps"], given["context"], encoder_attention_mask=mask, **more).sample
    got = ours(**given, context_mask=mask, vector=vector)
    assert got.shape == want.shape
    assert want.std() > 0.05
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", CONFIGS)
def test_it_computes_what_diffusers_computes(name):
    check(CONFIGS[name], inputs(CONFIGS[name]))


@pytest.mark.parametrize("name", ["sd1", "sdxl"])
def test_hidden_tokens_are_not_seen(name):
    mask = torch.tensor([[True] * 7, [True] * 3 + [False] * 4, [True] + [False] * 6])
    check(CONFIGS[name], inputs(CONFIGS[name]), mask)
    ours, _ = pair(CONFIGS["sd1"])
    given = inputs(CONFIGS["sd1"])
    with torch.no_grad():
        padded = ours(**given, context_mask=mask)[1:2]
        alone = ours(given["x"][1:2], given["timesteps"][1:2], given["context"][1:2, :3])
    torch.testing.assert_close(padded, alone, atol=1e-5, rtol=0)


def test_a_text_all_of_whose_tokens_are_hidden_is_not_a_nan():
    ours, _ = pair(CONFIGS["sd1"])
    with torch.no_grad():
        assert ours(**inputs(CONFIGS["sd1"]), context_mask=torch.zeros(3, 7, dtype=torch.bool)).isfinite().all()


@pytest.mark.parametrize("size", [(13, 9), (5, 16), (1, 1), (7, 10)])
@pytest.mark.parametrize("name", ["sd1", "refiner"])
def test_odd_sizes_come_back_as_they_went(name, size):
    check(CONFIGS[name], inputs(CONFIGS[name], size))


@pytest.mark.parametrize("name", CONFIGS)
def test_its_parameters_have_the_names_and_shapes_that_diffusers_gives_them(name):
    with torch.device("meta"):
        ours, other = UNet(CONFIGS[name]), theirs(CONFIGS[name])
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in other.state_dict().items()}


def test_each_image_of_a_batch_has_a_time_of_its_own():
    ours, _ = pair(CONFIGS["sd1"])
    given = inputs(CONFIGS["sd1"])
    with torch.no_grad():
        together = ours(**given)
        alone = torch.cat([ours(**{k: v[i : i + 1] for k, v in given.items()}) for i in range(3)])
        elsewhen = ours(**given | {"timesteps": given["timesteps"].flip(0)})
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert (together[0] - elsewhen[0]).abs().max() > 1e-3
    torch.testing.assert_close(together[1], elsewhen[1], atol=1e-5, rtol=0)


def test_a_network_that_takes_a_vector_says_so_when_it_gets_none():
    with pytest.raises(ValueError, match="takes a vector of 60 numbers"), torch.no_grad():
        UNet(CONFIGS["sdxl"])(**inputs(CONFIGS["sdxl"]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_answer_in_the_dtype_they_were_asked_in(dtype):
    ours, _ = pair(CONFIGS["sdxl"])
    given = inputs(CONFIGS["sdxl"]) | {"vector": torch.randn(3, 60)}
    with torch.no_grad():
        exact = ours(**given)
        rough = ours.to(dtype)(**given)
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().max() < 0.05 * exact.abs().max()


def test_channels_last_changes_the_layout_and_not_the_picture():
    ours, _ = pair(CONFIGS["sd1"])
    given = inputs(CONFIGS["sd1"])
    with torch.no_grad():
        plain = ours(**given)
        ours.to(memory_format=torch.channels_last)
        other = ours(**given | {"x": given["x"].contiguous(memory_format=torch.channels_last)})
    torch.testing.assert_close(other, plain, atol=1e-5, rtol=0)
    assert other.is_contiguous(memory_format=torch.channels_last)


def test_it_runs_on_the_meta_device_so_nothing_in_it_waits_for_a_number():
    with torch.device("meta"):
        ours = UNet(CONFIGS["sdxl"])
        given = {k: v.to("meta") for k, v in inputs(CONFIGS["sdxl"]).items()}
        mask = torch.ones(3, 7, dtype=torch.bool)
        out = ours(**given, context_mask=mask, vector=torch.randn(3, 60))
    assert out.shape == (3, 4, 16, 8)


def test_stable_diffusion_1_5_has_as_many_parameters_as_its_paper_says():
    with torch.device("meta"):
        assert sum(p.numel() for p in UNet(UNetConfig()).parameters()) == 859_520_964


def test_gradients_reach_every_parameter():
    ours, _ = pair(CONFIGS["sdxl"])
    ours(**inputs(CONFIGS["sdxl"]), vector=torch.randn(3, 60)).square().mean().backward()
    assert not [name for name, p in ours.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"depth": (1, 1)}, "of one length, not 4, 2 and 4"),
        ({"channels": (320, 640, 1280, 1290)}, "multiple of norm_groups 32, not 1290"),
        ({"heads": (7, 8, 8, 8)}, "not 320 with 7 heads"),
        ({"layers": 10**9}, "at most 64 blocks in a row"),
        ({"depth": (1, 1, 10**9, 0)}, "at most 64 blocks in a row"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_in_words(wrong, words):
    with pytest.raises(ValueError, match=words):
        UNetConfig(**wrong)
