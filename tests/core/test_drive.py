"""Runs side by side: they share forward passes, give what they give alone, and cannot fail or hold up each other."""

import weakref
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from limner.core.cache import Cache
from limner.core.diffusion import parameterisation
from limner.core.diffusion.samplers import SAMPLERS
from limner.core.diffusion.schedules import karras
from limner.core.diffusion.walks import side_by_side
from limner.core.drive import alone, drive
from limner.core.errors import OutOfMemory
from limner.core.event import Failed, Finished, Moved, Stopped
from limner.core.graph import Instance, Link
from limner.core.plan import plan
from limner.core.run import Run
from limner.core.schema import Context, node
from limner.core.values import Call, Conditioning, Guider, Latent, LatentFormat, Model, Recipe, Sampling
from limner.nodes import NODES
from limner.nodes.sampler import sample

SAMPLING = Sampling("x0", timesteps=100)
SIGMAS = parameterisation.table(SAMPLING)


def model(name="toy"):
    return Model(Recipe("unet", f"/{name}", "0" * 64, "{}"), SAMPLING, LatentFormat(4, 8))


def gaussian(x, timesteps, tokens, mask, vector):
    """The denoiser of data N(m, 1), where m is the mean of the text's tokens: knows the text, and the noise level."""
    weights = torch.ones(tokens.shape[:2]) if mask is None else mask.float()
    mean = (tokens.mean(2) * weights).sum(1) / weights.sum(1)
    mean, sigma = mean.view(-1, 1, 1, 1).to(x), SIGMAS[timesteps.long()].view(-1, 1, 1, 1).to(x)
    noisy = x * (1 + sigma**2).sqrt()  # what c_in had scaled
    return mean + (noisy - mean) / (1 + sigma**2)


class Networks:
    """What a host lends, counted: the images of every forward pass, and how often memory was cleared."""

    def __init__(self, network=gaussian):
        self.network, self.passes, self.lent_to, self.cleared = network, [], [], 0

    @contextmanager
    def lent(self, recipe):
        self.lent_to.append(recipe.path)

        def counted(x, *arguments):
            self.passes.append(len(x))
            return self.network(x, *arguments)

        yield counted

    def place(self, value):
        return value

    def clear(self):
        self.cleared += 1

    def table(self):
        return "a toy of 3 bytes"


def text(value, length=3, *, mask=None):
    return Conditioning(torch.full((1, length, 2), float(value)), mask)


def guided(scale=3.0, positive=None, name="toy"):
    return Guider(model(name), positive or text(1), text(0), scale)


def job(networks, guider, seed=1, steps=20, sampler="euler", *, images=2, side=8, dtype=torch.float32):
    """A run of the sample node."""

    @node("test")
    def toy() -> Model:
        return guider.model

    @node("test")
    def guide() -> Guider:
        return guider

    @node("test")
    def start() -> Latent:
        return Latent(torch.zeros(images, 4, side, side, dtype=dtype))

    graph = {
        "model": Instance(toy.id, {}),
        "guide": Instance(guide.id, {}),
        "start": Instance(start.id, {}),
        "sigmas": Instance("limner.KarrasSchedule", {"model": Link("model", 0), "steps": steps}),
        "s": Instance("limner.Sample", {"guider": Link("guide", 0), "sigmas": Link("sigmas", 0), "seed": seed,
                                        "latent": Link("start", 0), "sampler": sampler}),
    }  # fmt: skip
    return run_of(graph, networks, NODES | {n.id: n for n in (toy, guide, start)})


def run_of(graph, networks, registry):
    return Run(plan(graph, registry, ["s"]), Cache(), Context(networks, None, Path(), Path()))


def exact(networks, guider, seed, steps, sampler):
    """A run in float64 to the end: what the sample node does, without its last rounding."""

    @node("test", name="Exact", returns=Latent)
    def walk() -> Generator[Any, Any, Latent]:
        starts = [
            torch.randn(1, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + k))
            for k in (0, 1)
        ]
        sigmas = karras(steps, 0.05, 10.0)
        walks = [SAMPLERS[sampler](x * 10, sigmas) for x in starts]
        return Latent(torch.cat((yield from side_by_side(walks, guider, steps))))

    return run_of({"s": Instance(walk.id, {})}, networks, {walk.id: walk})


def ends(runs, networks, **options):
    """The last event of each run."""
    return dict(drive(runs, networks, **options))


def pictures(runs, networks, **options):
    found = ends(runs, networks, **options)
    assert all(isinstance(e, Finished) for e in found.values()), found
    return {k: e.outputs[0].samples for k, e in found.items()}


JOBS = [(1, 20, "euler"), (2, 10, "heun"), (3, 7, "euler")]


# ------------------------------------------------------------------------------------------------ together and alone


@pytest.mark.parametrize(("make", "tolerance"), [(exact, 1e-12), (job, 1e-5)], ids=["float64", "float32"])
def test_runs_driven_together_share_passes_and_give_the_pictures_that_they_give_alone(make, tolerance):
    apart, together = Networks(), Networks()
    alone_ = [pictures([make(apart, guided(), *j)], apart)[0] for j in JOBS]
    both = pictures([make(together, guided(), *j) for j in JOBS], together)
    for k in range(3):
        torch.testing.assert_close(both[k], alone_[k], rtol=0, atol=tolerance)
    assert len(apart.passes) == 20 + 19 + 7  # Heun asks twice at each step but the last
    assert len(together.passes) == 20
    assert Counter(together.passes) == {12: 7, 8: 12, 4: 1}  # jobs x 2 images x with and without the prompt
    assert sum(together.passes) == sum(apart.passes)


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "dpmpp_2m_sde", "euler_ancestral", "uni_pc"])
def test_what_other_runs_draw_and_remember_is_not_in_a_picture(sampler):
    networks = Networks()
    jobs = [(5, 8, sampler), (6, 11, sampler), (5, 8, sampler)]
    alone_ = pictures([job(networks, guided(), *jobs[0])], networks)[0]
    both = pictures([job(networks, guided(), *j) for j in jobs], networks)
    torch.testing.assert_close(both[0], alone_, rtol=0, atol=1e-5)
    torch.testing.assert_close(both[2], alone_, rtol=0, atol=1e-5)
    assert (both[1] - alone_).abs().max() > 0.1


def test_each_image_of_a_pass_is_denoised_at_its_own_noise_level():
    seen = []

    def network(x, timesteps, *rest):
        seen.append(timesteps.tolist())
        return gaussian(x, timesteps, *rest)

    networks = Networks(network)
    pictures([job(networks, guided(1.0), 1, steps, images=1) for steps in (4, 2)], networks)
    apart = []
    for steps in (4, 2):
        seen_before = len(seen)
        pictures([job(networks, guided(1.0), 1, steps, images=1)], networks)
        apart.append([t for t, *_ in seen[seen_before:]])
    longer, shorter = apart
    assert seen[:4] == [[longer[0], shorter[0]], [longer[1], shorter[1]], [longer[2]], [longer[3]]]
    assert longer[1] != shorter[1]


def test_prompts_of_different_lengths_are_padded_and_masked_in_one_pass():
    shapes = []

    def network(x, timesteps, tokens, mask, vector):
        shapes.append((tokens.shape[1], None if mask is None else mask.sum(1).tolist()))
        return gaussian(x, timesteps, tokens, mask, vector)

    networks = Networks(network)
    half = text(9.0, 5, mask=torch.tensor([[True, True, False, False, False]]))
    prompts = [text(1, 3), text(2, 7), half]
    alone_ = [pictures([job(networks, guided(positive=p), images=1)], networks)[0] for p in prompts]
    shapes.clear()
    both = pictures([job(networks, guided(positive=p), images=1) for p in prompts], networks)
    for k in range(3):
        torch.testing.assert_close(both[k], alone_[k], rtol=0, atol=1e-5)
    assert shapes == [(7, [3, 3, 7, 3, 2, 3])] * 20
    assert len({round(p.mean().item(), 3) for p in alone_}) == 3


def test_prompts_of_one_length_go_without_a_mask():
    def network(x, timesteps, tokens, mask, vector):
        assert mask is None
        return gaussian(x, timesteps, tokens, mask, vector)

    networks = Networks(network)
    pictures([job(networks, guided(positive=text(p))) for p in (1, 2)], networks)


def test_pooled_texts_reach_their_own_images():
    def network(x, timesteps, tokens, mask, vector):
        return gaussian(x, timesteps, tokens, mask, vector) + vector.mean(1).view(-1, 1, 1, 1)

    def one(value):
        prompt = Conditioning(torch.ones(1, 3, 2), pooled=torch.full((1, 2), value))
        return Guider(model(), prompt)

    networks = Networks(network)
    alone_ = [pictures([job(networks, one(v))], networks)[0] for v in (0.0, 5.0)]
    both = pictures([job(networks, one(v)) for v in (0.0, 5.0)], networks)
    for k in range(2):
        torch.testing.assert_close(both[k], alone_[k], rtol=0, atol=1e-5)
    assert (both[1] - both[0]).abs().min() > 1


def test_other_models_and_other_sizes_have_passes_of_their_own():
    networks = Networks()
    runs = [
        job(networks, guided(), steps=3),
        job(networks, guided(name="another"), steps=3),
        job(networks, guided(), steps=3, side=16),
    ]
    pictures(runs, networks)
    assert networks.passes == [4] * 9
    assert Counter(networks.lent_to) == {"/toy": 6, "/another": 3}


@pytest.mark.parametrize("batch", [1, 5, 8, 100])
def test_no_pass_takes_more_images_than_it_may(batch):
    networks = Networks()
    few = pictures([job(networks, guided(), *j) for j in JOBS], networks, batch=batch)
    assert max(networks.passes) == min(batch, 12)
    many = pictures([job(networks, guided(), *j) for j in JOBS], networks)
    for k in range(3):
        torch.testing.assert_close(few[k], many[k], rtol=0, atol=1e-5)


def test_every_run_tells_of_its_own_progress():
    networks = Networks()
    events = list(drive([job(networks, guided(), *j) for j in JOBS], networks))
    for k, (_, steps, _) in enumerate(JOBS):
        told = [(e.progress.done, e.progress.total) for j, e in events if j == k and isinstance(e, Moved)]
        assert told == [(n, steps) for n in range(1, steps + 1)]


def test_previews_have_one_image():
    networks = Networks()
    previews = [
        e.progress.preview for _, e in drive([job(networks, guided(), steps=4)], networks) if isinstance(e, Moved)
    ]
    assert {p.shape for p in previews} == {(1, 4, 8, 8)}


def test_driving_nothing_says_nothing():
    assert list(drive([], Networks())) == []


# --------------------------------------------------------------------------------------------------- what goes wrong


def too_large(x, *arguments):
    if (x.abs() > 1e6).any():
        raise FloatingPointError("too large")
    return gaussian(x, *arguments)


def poisoned(networks, caught=None):
    """A run that asks for something that the network refuses."""

    @node("test", name="Poisoned", returns=Latent)
    def poison() -> Generator[list[Call], Any, Latent]:
        try:
            yield [Call(model(), torch.full((1, 4, 8, 8), 1e9), 1.0, text(1))]
        except FloatingPointError as error:
            if caught is None:
                raise
            caught.append(error)
        return Latent(torch.zeros(1, 4, 8, 8))

    return run_of({"s": Instance(poison.id, {})}, networks, {poison.id: poison})


def test_a_network_that_fails_for_one_run_fails_that_run_alone():
    networks = Networks(too_large)
    runs = [job(networks, guided(), *JOBS[0]), poisoned(networks), job(networks, guided(), *JOBS[1])]
    last = ends(runs, networks)
    assert [type(last[k]) for k in range(3)] == [Finished, Failed, Finished]
    assert str(last[1].error) == "too large"
    for k, j in ((0, JOBS[0]), (2, JOBS[1])):
        torch.testing.assert_close(
            last[k].outputs[0].samples, pictures([job(networks, guided(), *j)], networks)[0], rtol=0, atol=1e-5
        )


def test_a_call_that_fails_is_told_inside_the_node_that_made_it():
    caught = []
    networks = Networks(too_large)
    assert isinstance(ends([poisoned(networks, caught)], networks)[0], Finished)
    assert [str(error) for error in caught] == ["too large"]


def test_latents_of_another_vae_fail_the_run_that_brought_them():
    @node("test", name="Odd", returns=Latent)
    def odd() -> Generator[list[Call], Any, Latent]:
        (x,) = yield [Call(model(), torch.zeros(1, 16, 8, 8), 1.0, text(1))]
        return Latent(x)

    networks = Networks()
    last = ends([run_of({"s": Instance(odd.id, {})}, networks, {odd.id: odd}), job(networks, guided())], networks)
    assert "takes latents of 4 channels, not 16" in str(last[0].error)
    assert isinstance(last[1], Finished)


def test_a_stop_is_answered_before_the_next_pass_and_the_others_go_on():
    networks = Networks()
    runs = [job(networks, guided(), 1, 50), job(networks, guided(), 2, 20)]
    for k, event in drive(runs, networks):
        if k == 0 and isinstance(event, Moved) and event.progress.done == 8:
            runs[0].stop()
            before = len(networks.passes)
        if isinstance(event, Stopped):
            assert (k, event.node, len(networks.passes)) == (0, "s", before)
    assert isinstance(event, Finished)
    assert networks.passes == [8] * 8 + [4] * 12


def test_a_node_that_tells_no_progress_is_stopped_between_its_calls():
    def network(x, *arguments):
        if len(networks.passes) == 3:
            run.stop()
        return gaussian(x, *arguments)

    @node("test", name="Quiet", returns=Latent)
    def quiet() -> Generator[list[Call], Any, Latent]:
        while True:
            yield [Call(model(), torch.zeros(1, 4, 8, 8), 1.0, text(1))]

    networks = Networks(network)
    run = run_of({"s": Instance(quiet.id, {})}, networks, {quiet.id: quiet})
    assert ends([run], networks)[0] == Stopped("s")
    assert len(networks.passes) == 3


def test_a_run_that_is_stopped_while_its_call_is_computed_is_stopped_when_it_is_answered():
    def network(x, *arguments):
        if len(networks.passes) == 3:
            run.stop()
        return gaussian(x, *arguments)

    networks = Networks(network)
    run = job(networks, guided())
    assert ends([run], networks)[0] == Stopped("s")
    assert len(networks.passes) == 3


# ---------------------------------------------------------------------------------------------------- out of memory


def full(x, *arguments):
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_out_of_memory_is_tried_once_more_after_room_was_made():
    def network(x, *arguments):
        return full(x) if networks.passes[2:] == [4] else gaussian(x, *arguments)

    networks = Networks(network)
    tight = pictures([job(networks, guided())], networks)[0]
    assert networks.cleared == 1
    assert len(networks.passes) == 21
    torch.testing.assert_close(tight, pictures([job(Networks(), guided())], Networks())[0])


def test_what_does_not_fit_even_then_fails_with_a_table_of_what_is_in_memory():
    networks = Networks(full)
    last = ends([job(networks, guided())], networks)[0]
    assert isinstance(last.error, OutOfMemory)
    assert str(last.error) == "an image of (4, 8, 8) does not fit; in memory are:\na toy of 3 bytes"
    assert networks.passes == [4, 4, 2, 1]


@pytest.mark.parametrize(
    "refused", [torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: no"), MemoryError()]
)
def test_images_that_do_not_fit_together_go_by_half_as_many(refused):
    def network(x, *arguments):
        if len(x) > 2:
            raise refused
        return gaussian(x, *arguments)

    networks = Networks(network)
    halved = pictures([job(networks, guided(), steps=1)], networks)[0]
    assert networks.passes == [4, 4, 2, 2]
    torch.testing.assert_close(halved, pictures([job(Networks(), guided(), steps=1)], Networks())[0])


def test_runs_that_do_not_fit_together_go_one_by_one():
    networks = Networks(lambda x, *rest: full(x) if len(x) > 4 else gaussian(x, *rest))
    both = pictures([job(networks, guided(), *j) for j in JOBS], networks)
    roomy = Networks()
    for k, j in enumerate(JOBS):
        torch.testing.assert_close(both[k], pictures([job(roomy, guided(), *j)], roomy)[0], rtol=0, atol=1e-5)


def test_a_run_that_never_fits_does_not_take_the_others_with_it():
    networks = Networks(lambda x, *rest: full(x) if (x.abs() > 1e6).any() else gaussian(x, *rest))
    last = ends([job(networks, guided()), poisoned(networks)], networks)
    assert isinstance(last[0], Finished)
    assert isinstance(last[1].error, OutOfMemory)


def test_room_is_made_after_what_the_failed_pass_held_has_gone():
    held, alive = [], []

    def network(x, *arguments):
        scratch = torch.zeros(10)
        held.append(weakref.ref(scratch))
        return full(x) if len(held) == 1 else gaussian(x, *arguments)

    class Watching(Networks):
        def clear(self):
            alive.append(held[0]() is not None)

    networks = Watching(network)
    pictures([job(networks, guided(), steps=2)], networks)
    assert alive == [False]


# ------------------------------------------------------------------------------------------------- without a driver


def test_one_long_node_can_be_taken_to_its_end_by_itself():
    networks = Networks()
    context = Context(networks, None, Path(), Path())
    start = Latent(torch.zeros(2, 4, 8, 8))
    sigmas = NODES["limner.KarrasSchedule"](model(), 20)
    ended = alone(sample(guided(), sigmas, start, seed=1, sampler="euler", context=context), networks)
    assert len(networks.passes) == 20
    torch.testing.assert_close(ended.samples, pictures([job(Networks(), guided())], Networks())[0])


def test_alone_too_a_failed_call_is_told_inside_the_node_and_memory_is_tried_twice():
    def work():
        with pytest.raises(FloatingPointError):
            yield [Call(model(), torch.full((1, 4, 8, 8), 1e9), 1.0, text(1))]
        mixed = [
            Call(model(), torch.zeros(1, 4, side, side), 1.0, text(1, length)) for side, length in ((8, 2), (16, 3))
        ]
        return [x.shape[-1] for x in (yield mixed)]

    assert alone(work(), Networks(too_large)) == [8, 16]
    networks = Networks(full)
    with pytest.raises(OutOfMemory):
        alone(sample(guided(), NODES["limner.KarrasSchedule"](model(), 3), Latent(torch.zeros(1, 4, 8, 8)),
                     context=Context(networks, None, Path(), Path())), networks)  # fmt: skip
    assert networks.cleared == 1


def test_an_image_of_a_batch_is_the_image_of_its_own_seed():
    networks = Networks()
    many = pictures([job(networks, guided(), 7, 5, "euler_ancestral", images=3)], networks)[0]
    one = pictures([job(networks, guided(), 9, 5, "euler_ancestral", images=1)], networks)[0]
    torch.testing.assert_close(many[2:], one)
