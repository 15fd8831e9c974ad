"""Noise: the same from the same seed, and as random as it claims to be."""

import itertools
import math

import pytest
import torch
from limner.core.diffusion import noise
from limner.core.diffusion.noise import Brownian

LIKE = torch.zeros(1, 4, 32, 32)


def test_a_seed_gives_one_start_and_it_is_that_of_torch():
    torch.manual_seed(5)
    torch.testing.assert_close(noise.start(5, (1, 4, 8, 8)), torch.randn(1, 4, 8, 8), rtol=0, atol=0)
    assert not torch.equal(noise.start(5, (1, 4, 8, 8)), noise.start(6, (1, 4, 8, 8)))


def test_drawing_noise_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    noise.start(1, LIKE.shape)
    noise.fresh(1, LIKE)(2.0, 1.0)
    Brownian(1, LIKE)(2.0, 1.0)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("source", [noise.fresh, Brownian])
def test_the_noise_of_steps_is_repeatable_normal_and_apart_from_the_start(source):
    draws = [source(3, LIKE)(s, t) for _ in range(2) for s, t in [(14.0, 9.0)]]
    torch.testing.assert_close(*draws, rtol=0, atol=0)
    assert draws[0].mean().item() == pytest.approx(0, abs=0.06)  # 4 deviations of 4096 numbers
    assert draws[0].std().item() == pytest.approx(1, abs=0.05)
    correlation = (draws[0] * noise.start(3, LIKE.shape)).mean().item()
    assert correlation == pytest.approx(0, abs=0.07)


@pytest.mark.parametrize("source", [noise.fresh, Brownian])
def test_noise_arrives_in_the_dtype_and_on_the_device_of_what_it_is_for(source):
    assert source(3, LIKE.double())(2.0, 1.0).dtype == torch.float64
    assert source(3, LIKE.to("meta"))(2.0, 1.0).device.type == "meta"


def test_fresh_noise_is_new_at_each_step():
    steps = noise.fresh(3, LIKE)
    assert not torch.equal(steps(2.0, 1.0), steps(2.0, 1.0))


POINTS = [14.6, 9.31, 4.0, 1.0, 0.77, 0.51, 0.1, 0.029]


def test_increments_of_a_brownian_path_sum_to_the_increment_over_all():
    path = Brownian(1, LIKE.double())
    parts = sum(path(s, t) * math.sqrt(s - t) for s, t in itertools.pairwise(POINTS))
    whole = path(POINTS[0], POINTS[-1]) * math.sqrt(POINTS[0] - POINTS[-1])
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-12)


def test_a_brownian_path_is_the_same_in_whatever_order_it_is_asked_for():
    one, other = Brownian(1, LIKE), Brownian(1, LIKE)
    forwards = {sigma: one.at(sigma) for sigma in POINTS}
    for sigma in reversed(POINTS):
        torch.testing.assert_close(other.at(sigma), forwards[sigma], rtol=0, atol=0)


def test_a_brownian_path_starts_at_zero_and_is_continuous():
    path = Brownian(1, LIKE)
    assert not path.at(0.0).any()
    for sigma in (0.3, 1.0, 4.0, 13.7):
        near = path.at(sigma * (1 + 1e-3)) - path.at(sigma)
        assert near.std().item() == pytest.approx(math.sqrt(1e-3 * sigma), rel=0.05)


@pytest.mark.parametrize(
    ("s", "t"), [(14.6, 9.0), (5.0, 3.0), (1.5, 0.2), (0.0413, 0.0292), (0.03, 0.0297), (4500.0, 60.0)]
)
def test_the_variance_of_a_brownian_increment_is_the_length_of_its_interval(s, t):
    path = Brownian(8, torch.zeros(1, 4, 64, 64))
    increment = path.at(t) - path.at(s)
    assert increment.var().item() == pytest.approx(s - t, rel=0.05)  # 16384 numbers: 4.5 deviations
    assert increment.mean().item() == pytest.approx(0, abs=0.04 * math.sqrt(s - t))


def test_brownian_increments_apart_from_each_other_are_independent():
    path = Brownian(2, torch.zeros(1, 4, 64, 64))
    steps = torch.stack([path(s, t).flatten() for s, t in itertools.pairwise(POINTS)])
    correlations = torch.corrcoef(steps) - torch.eye(len(steps))
    assert correlations.abs().max().item() < 0.035  # 4.5 / sqrt(16384)


def drawn_by_torch(seed, shape, count=2):
    torch.manual_seed(seed)
    return [torch.randn(shape) for _ in range(count)]


def test_a_shared_source_starts_as_the_whole_batch_drawn_from_the_seed():
    torch.testing.assert_close(noise.Shared(9).start((3, 4, 8, 8)), drawn_by_torch(9, (3, 4, 8, 8))[0], rtol=0, atol=0)


def test_a_shared_source_draws_the_batch_whole_at_each_step_and_hands_each_image_its_slice():
    like = torch.zeros(3, 4, 8, 8)
    first, second = drawn_by_torch(10, like.shape)  # the seed's successor: the steps do not repeat the start
    images = noise.Shared(9).steps(like, [2.0, 1.0, 0.0], path=False)
    ahead = [images[2](2, 1), images[2](1, 0)]
    torch.testing.assert_close(torch.cat(ahead), torch.stack([first[2], second[2]]), rtol=0, atol=0)
    torch.testing.assert_close(torch.cat([image(2, 1) for image in images[:2]]), first[:2], rtol=0, atol=0)
    torch.testing.assert_close(torch.cat([image(1, 0) for image in images[1::-1]]), second[[1, 0]], rtol=0, atol=0)


@pytest.mark.parametrize("seed", [2**53 + 1, 2**63, 2**64 - 1])
def test_a_shared_source_takes_every_seed_of_64_bits(seed):
    like = torch.zeros(1, 4, 8, 8)
    torch.testing.assert_close(noise.Shared(seed).start(like.shape), drawn_by_torch(seed, like.shape)[0])
    (image,) = noise.Shared(seed).steps(like, [2.0, 1.0], path=False)
    torch.testing.assert_close(image(2.0, 1.0), drawn_by_torch((seed + 1) % 2**64, like.shape)[0])


def test_a_batch_index_picks_images_of_the_batch_that_would_have_been():
    whole = noise.Shared(4, range(5)).start((5, 4, 8, 8))
    torch.testing.assert_close(noise.Shared(4, [4, 0, 0]).start((3, 4, 8, 8)), whole[[4, 0, 0]], rtol=0, atol=0)


@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.filterwarnings("ignore:Should have")  # of ends that float32 moves past what torchsde rounds them to
def test_a_shared_path_is_the_tree_that_torchsde_grows_from_the_seed(seed, order):
    import torchsde

    like, levels = torch.zeros(3, 4, 8, 8), torch.tensor(POINTS, dtype=torch.float32)
    tree = torchsde.BrownianTree(levels[-1].double(), like, levels[0].double(), entropy=seed)
    images = noise.Shared(seed).steps(like, [*POINTS, 0.0], path=True)
    for s, t in itertools.pairwise(levels.double()):
        whole = (tree(t, s) * -1 / (s - t).abs().sqrt()).float()
        found = {k: images[k](float(s), float(t)) for k in order}
        torch.testing.assert_close(torch.cat([found[k] for k in range(3)]), whole, rtol=0, atol=2e-6)


def test_images_apart_draw_what_each_draws_alone():
    like, levels = torch.zeros(2, 4, 8, 8), [2.0, 1.0, 0.5]
    for path in (False, True):
        both = noise.Apart([3, 8]).steps(like, levels, path=path)
        alone = [noise.Apart([seed]).steps(like[:1], levels, path=path)[0] for seed in (3, 8)]
        for one, other in zip(both, alone, strict=True):
            torch.testing.assert_close(one(2.0, 1.0), other(2.0, 1.0), rtol=0, atol=0)
    torch.testing.assert_close(noise.Apart([3, 8]).start(like.shape)[1:], noise.start(8, (1, 4, 8, 8)), rtol=0, atol=0)
