"""Walks side by side: what they ask at once, how they tell their progress, and what a mask keeps."""

import pytest
import torch
from limner.core.diffusion.noise import fresh, start
from limner.core.diffusion.parameterisation import begin, denoise
from limner.core.diffusion.samplers import SAMPLERS
from limner.core.diffusion.schedules import flow, karras
from limner.core.diffusion.walks import masked, side_by_side
from limner.core.values import Answer, Conditioning, Guider, Progress

YES, NO = Conditioning(torch.ones(1, 2, 3)), Conditioning(torch.zeros(1, 2, 3))
SIGMAS = karras(6, 0.03, 14.6)


@pytest.fixture
def guider(model):
    return Guider(model(), YES, NO, 3.0)


def told(calls):
    """Answers from the denoiser of data N(mean of the tokens, 1)."""
    return [gaussian(call.x, call.sigma, call.conditioning.tokens.mean()) for call in calls]


def driven(work, answered=told):
    """Take a long node to its end: its rounds of calls, its progress and its result."""
    rounds, progress, answer = [], [], None
    try:
        while True:
            said = work.send(answer)
            if isinstance(said, Progress):
                progress.append(said)
                answer = []
            else:
                rounds.append(said)
                answer = answered(said)
    except StopIteration as end:
        return rounds, progress, end.value


def gaussian(x, sigma, mean):
    return mean + (x - mean) / (1 + sigma**2)


def walk(name, seed, sigmas=SIGMAS):
    x = start(seed, (1, 4, 3, 3)).double() * sigmas[0]
    return SAMPLERS[name](x, sigmas, fresh(seed, x))


def test_images_ask_for_all_their_calls_at_once(guider):
    rounds, _, ends = driven(side_by_side([walk("euler", seed) for seed in range(3)], guider, 6))
    assert [len(calls) for calls in rounds] == [3 * 2] * 6
    assert len(ends) == 3


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_image_among_others_is_the_image_alone(name, guider):
    together = driven(side_by_side([walk(name, seed) for seed in (5, 6, 7)], guider, 6))[2]
    for seed, end in zip((5, 6, 7), together, strict=True):
        torch.testing.assert_close(end, driven(side_by_side([walk(name, seed)], guider, 6))[2][0], rtol=0, atol=0)


def test_images_at_different_paces_share_what_rounds_they_can(guider):
    rounds, progress, _ = driven(side_by_side([walk("euler", 1), walk("heun", 2)], guider, 6))
    assert [len(calls) for calls in rounds] == [4] * 6 + [2] * 5
    assert [p.done for p in progress] == [1, 2, 3, 4, 5, 6]


def test_progress_is_told_after_each_step_with_the_first_image_as_a_latent(model):
    guider = Guider(model(scale=0.5, shift=1.0), YES)
    _, progress, (end,) = driven(side_by_side([walk("euler", 1)], guider, 6))
    assert [(p.done, p.total) for p in progress] == [(k, 6) for k in range(1, 7)]
    torch.testing.assert_close(progress[-1].preview, end / 0.5 + 1.0)
    assert progress[0].preview.shape == (1, 4, 3, 3)


def test_walks_of_no_steps_end_where_they_began_and_ask_nothing(guider):
    rounds, progress, ends = driven(side_by_side([walk("euler", 1, torch.tensor([2.0]))], guider, 0))
    assert rounds == progress == []
    torch.testing.assert_close(ends[0], start(1, (1, 4, 3, 3)).double() * 2)


def test_no_images_are_no_work(guider):
    assert driven(side_by_side([], guider, 6)) == ([], [], [])


def test_what_is_thrown_in_comes_out_at_the_node(guider):
    work = side_by_side([walk("euler", 1)], guider, 6)
    next(work)
    with pytest.raises(KeyboardInterrupt):
        work.throw(KeyboardInterrupt())


MASK = torch.tensor([1.0, 0.0, 0.25]).view(1, 1, 1, 3).expand(1, 1, 3, 3)


@pytest.mark.parametrize("prediction", ["eps", "flow"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_mask_keeps_the_original_where_it_is_zero_and_paints_where_it_is_one(name, prediction, model):
    is_flow = prediction == "flow"
    sigmas, guider = flow(6) if is_flow else SIGMAS, Guider(model(prediction), YES)
    original, noise = start(1, (1, 4, 3, 3)).double(), start(2, (1, 4, 3, 3)).double()

    def kept(sigma):
        return begin(guider.model, original, noise, sigma)

    def walk():
        return SAMPLERS[name](kept(float(sigmas[0])), sigmas, fresh(3, noise), flow=is_flow)

    rounds, _, (end,) = driven(side_by_side([masked(walk(), MASK, kept)], guider, 6))
    torch.testing.assert_close(end[..., 1], original[..., 1], rtol=0, atol=0)
    for calls in rounds:
        torch.testing.assert_close(calls[0].x[..., 1], kept(calls[0].sigma)[..., 1], rtol=0, atol=0)
    _, _, (free,) = driven(side_by_side([walk()], guider, 6))
    torch.testing.assert_close(end[..., 0], free[..., 0])
    assert (end[..., 0] - original[..., 0]).abs().mean() > 0.1


def test_a_mask_on_the_first_half_of_a_schedule_leaves_the_original_noised(model):
    guider, original, noise = Guider(model(), YES), torch.ones(1, 4, 3, 3), start(2, (1, 4, 3, 3))
    half = SIGMAS[:4]

    def kept(sigma):
        return begin(guider.model, original, noise, sigma)

    work = masked(SAMPLERS["euler"](kept(float(half[0])), half), MASK, kept, float(half[-1]))
    _, _, (end,) = driven(side_by_side([work], guider, 3))
    torch.testing.assert_close(end[..., 1], kept(float(half[-1]))[..., 1])


def test_a_mask_keeps_the_unconditional_answer_too():
    def asks():
        answer = yield next(SAMPLERS["euler"](torch.zeros(1, 4, 3, 3), SIGMAS))
        return answer.uncond

    work = masked(asks(), MASK, lambda _: torch.full((1, 4, 3, 3), 9.0))
    next(work)
    with pytest.raises(StopIteration) as end:
        work.send(Answer(torch.zeros(1, 4, 3, 3), torch.ones(1, 4, 3, 3)))
    assert end.value.value[0, 0, 0].tolist() == [1.0, 9.0, 0.25 + 0.75 * 9]


def test_walks_read_nothing_back_from_the_device(model):
    guider, x = Guider(model(), YES, NO, 3.0, rescale=0.5), torch.empty(1, 4, 3, 3, device="meta")
    context = torch.empty(4, 2, 3, device="meta")

    def answered(calls):
        batch, sigmas = torch.cat([call.x for call in calls]), [call.sigma for call in calls]
        model = guider.model
        return list(denoise(lambda x, *_: x, model.sampling, model.latent, batch, sigmas, context).split(1))

    walks = [masked(SAMPLERS["heun"](x, SIGMAS), x[:, :1], lambda _: x) for _ in range(2)]
    _, _, ends = driven(side_by_side(walks, guider, 6), answered)
    assert [end.device.type for end in ends] == ["meta", "meta"]
