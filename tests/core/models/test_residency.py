"""Networks come at their first use, once, and go when their room is needed; all of it can be read afterwards."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from limner.core.errors import DeviceError, ModelFileError, ModelMissing, OutOfMemory
from limner.core.models import residency
from limner.core.models.checkpoint import canonical, save_network
from limner.core.models.residency import Loaded, Residency, Unloaded, resolve_device, resolve_dtype
from limner.core.models.vae import AutoencoderKL, VaeConfig
from limner.core.values import Recipe
from torch import nn

CPU = torch.device("cpu")
MB = 1_000_000


class Toy(nn.Module):
    """A network of so many megabytes."""

    def __init__(self, megabytes: int, dtype: torch.dtype = torch.uint8) -> None:
        super().__init__()
        self.register_buffer("weights", torch.zeros(megabytes * MB, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(0))


class Shelf:
    """Opens toys, and remembers what was opened; some names misbehave."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.dtypes: dict[str, torch.dtype] = {}
        self.failures: list[BaseException] = []
        self.events: list[Any] = []
        self.wait = 0.0

    def open(self, recipe: Recipe, device: torch.device, dtype: torch.dtype) -> nn.Module:
        self.opened.append(recipe.path)
        self.dtypes[recipe.path] = dtype
        time.sleep(self.wait)
        if self.failures:
            raise self.failures.pop(0)
        return Toy(int(recipe.config))

    def residency(self, budget: int | None = None, dtype: torch.dtype = torch.float32) -> Residency:
        return Residency(CPU, dtype, budget, self.open, self.events.append)

    def said(self) -> list[str]:
        return [f"{'+' if isinstance(e, Loaded) else '-'}{e.recipe.path}: {e.reason}" for e in self.events]


@pytest.fixture
def shelf() -> Shelf:
    torch.set_num_threads(1)
    return Shelf()


def toy(name: str, megabytes: int = 1, kind: str = "unet") -> Recipe:
    return Recipe(kind, name, "", str(megabytes))


def test_a_network_is_loaded_once_however_often_it_is_used(shelf):
    networks = shelf.residency()
    first = networks.network(toy("a", 2))
    for _ in range(9):
        assert networks.network(toy("a", 2)) is first
    assert shelf.opened == ["a"]
    (event,) = shelf.events
    assert (event.recipe, event.bytes, event.reason) == (toy("a", 2), 2 * MB, "first use")
    assert event.seconds >= 0


def test_a_network_is_ready_to_answer_and_not_to_learn(shelf):
    network = shelf.residency().network(toy("a"))
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())


def test_equal_recipes_are_one_network_and_others_are_not(shelf):
    networks = shelf.residency()
    for recipe in (toy("a"), Recipe("unet", "a", "", "1"), Recipe("unet", "a", "another digest", "1"), toy("a", 2)):
        networks.network(recipe)
    assert shelf.opened == ["a", "a", "a"]


def test_the_least_recently_used_goes_when_room_is_needed(shelf):
    networks = shelf.residency(budget=64 * MB)
    networks.network(toy("a", 30))
    networks.network(toy("b", 30))
    networks.network(toy("a", 30))
    networks.network(toy("vae", 12, "autoencoder_kl"))
    networks.network(toy("b", 30))
    assert shelf.said() == [
        "+a: first use",
        "+b: first use",
        "-b: room for the VAE (12 MB), budget 64 MB",
        "+vae: first use",
        "-a: room for the UNet (30 MB), budget 64 MB",
        "+b: used again after it was unloaded",
    ]
    assert [(h.recipe.path, h.uses) for h in networks.holdings()] == [("vae", 1), ("b", 1)]


def test_room_is_made_before_a_network_whose_size_can_be_known_is_opened(tmp_path, shelf):
    path, network = tmp_path / "a.safetensors", AutoencoderKL(VaeConfig(channels=(8,), norm_groups=4))
    save_network(path, network, {"kind": "autoencoder_kl", "config": network.config}, torch.float16)
    recipe = Recipe("autoencoder_kl", str(path), "", canonical(network.config))
    size = 4 * sum(p.numel() for p in network.parameters())
    there: list[int] = []

    def open_and_look(recipe: Recipe, device: torch.device, dtype: torch.dtype) -> nn.Module:
        there.append(len(networks.holdings()))
        return residency.open_network(recipe, device, dtype) if recipe.path == str(path) else Toy(1)

    networks = Residency(CPU, torch.float32, MB + size - 1, open_and_look)
    networks.network(toy("b"))
    networks.network(recipe)
    assert there == [0, 0]
    assert [h.bytes for h in networks.holdings()] == [size]


def test_what_is_lent_never_goes(shelf):
    networks = shelf.residency(budget=3 * MB)
    with networks.lent(toy("a", 2)) as a, networks.lent(toy("b", 2)) as b:
        assert [h.lent for h in networks.holdings()] == [1, 1]
        networks.clear()
        assert networks.network(toy("a", 2)) is a
        assert networks.network(toy("b", 2)) is b
    assert [h.lent for h in networks.holdings()] == [0, 0]
    networks.network(toy("c", 2))
    assert [h.recipe.path for h in networks.holdings()] == ["c"]
    assert shelf.opened == ["a", "b", "c"]


def test_a_block_that_fails_gives_its_network_back(shelf):
    networks = shelf.residency()
    with pytest.raises(ZeroDivisionError), networks.lent(toy("a")):
        raise ZeroDivisionError
    assert [h.lent for h in networks.holdings()] == [0]


def test_a_network_that_exceeds_the_budget_is_loaded_once_nothing_else_is_left(shelf):
    networks = shelf.residency(budget=3 * MB)
    networks.network(toy("a"))
    for _ in range(3):
        networks.network(toy("b", 5))
    assert shelf.opened == ["a", "b"]
    assert [h.recipe.path for h in networks.holdings()] == ["b"]


def test_what_was_unloaded_is_freed(shelf):
    networks = shelf.residency(budget=MB)
    gone = weakref.ref(networks.network(toy("a")))
    networks.network(toy("b"))
    gc.collect()
    assert gone() is None


def test_clearing_unloads_everything_and_says_how_much(shelf):
    networks = shelf.residency()
    networks.network(toy("a", 1))
    networks.network(toy("b", 2))
    assert networks.clear("the user asked") == 3 * MB
    assert networks.holdings() == ()
    assert shelf.said()[2:] == ["-a: the user asked", "-b: the user asked"]
    assert networks.clear() == 0


def test_the_table_is_for_a_person(shelf):
    networks = shelf.residency(dtype=torch.bfloat16)
    assert networks.table() == "no network"
    networks.network(toy("models/unet/a.safetensors", 12))
    with networks.lent(toy("models/vae/b.safetensors", 1, "autoencoder_kl")):
        assert networks.table() == (
            "   12 MB  UNet a.safetensors, bfloat16, used once\n  1.0 MB  VAE b.safetensors, float32, used once, in use"
        )


def test_many_threads_at_once_load_a_network_once(shelf):
    shelf.wait = 0.02
    networks = shelf.residency()
    gate = threading.Barrier(8)

    def use(k: int) -> nn.Module:
        gate.wait()
        return networks.network(toy("ab"[k % 2]))

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(use, range(8)))
    assert sorted(shelf.opened) == ["a", "b"]
    assert len({id(network) for network in found}) == 2


def test_threads_under_a_small_budget_never_lose_what_they_hold(shelf):
    networks = shelf.residency(budget=2 * MB)
    failures: list[str] = []

    def use(k: int) -> None:
        for i in range(50):
            recipe = toy("abcd"[(k + i) % 4])
            with networks.lent(recipe) as network:
                if recipe not in {h.recipe for h in networks.holdings()} or networks.network(recipe) is not network:
                    failures.append(recipe.path)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(use, range(4)))
    assert not failures
    assert all(h.lent == 0 for h in networks.holdings())
    loads = sum(isinstance(e, Loaded) for e in shelf.events)
    assert loads == len(shelf.opened) == len(networks.holdings()) + len(shelf.events) - loads


def test_a_listener_may_ask_back(shelf):
    tables: list[str] = []
    networks = Residency(CPU, torch.float32, None, shelf.open, lambda _: tables.append(networks.table()))
    worker = threading.Thread(target=networks.network, args=(toy("a"),), daemon=True)
    worker.start()
    worker.join(5)
    assert tables == ["  1.0 MB  UNet a, float32, used once, in use"]


# ------------------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate")],
)
def test_a_network_that_does_not_fit_is_tried_again_when_the_others_have_gone(error, shelf):
    networks = shelf.residency()
    networks.network(toy("a"))
    with networks.lent(toy("b")):
        shelf.failures = [error]
        networks.network(toy("c"))
    assert shelf.opened == ["a", "b", "c", "c"]
    assert shelf.said()[2:] == ["-a: room for the UNet, which did not fit", "+c: first use"]


def test_a_network_that_does_not_fit_at_all_says_what_holds_the_memory(shelf):
    networks = shelf.residency()
    networks.network(toy("a"))
    with networks.lent(toy("b", 2)):
        shelf.failures = [torch.OutOfMemoryError("full"), torch.OutOfMemoryError("full")]
        with pytest.raises(OutOfMemory, match=r"the UNet does not fit on cpu; on it are:\n  2\.0 MB  UNet b, float32"):
            networks.network(toy("c"))
    assert shelf.opened == ["a", "b", "c", "c"]
    assert [type(e) for e in shelf.events] == [Loaded, Loaded, Unloaded]
    assert networks.network(toy("c")) is networks.network(toy("c"))


def test_another_error_is_not_taken_for_a_lack_of_memory(shelf):
    networks = shelf.residency()
    networks.network(toy("a"))
    shelf.failures = [ModelFileError("c", "is a web page"), RuntimeError("shapes")]
    with pytest.raises(ModelFileError, match="web page"):
        networks.network(toy("c"))
    with pytest.raises(RuntimeError, match="shapes"):
        networks.network(toy("c"))
    assert shelf.opened == ["a", "c", "c"]
    assert [h.recipe.path for h in networks.holdings()] == ["a"]


def test_whoever_waited_for_a_load_that_failed_tries_for_himself(shelf):
    shelf.wait, shelf.failures = 0.05, [ModelFileError("a", "is cut short")]
    networks = shelf.residency()

    def use(_: int) -> str:
        try:
            return type(networks.network(toy("a"))).__name__
        except ModelFileError as error:
            return error.reason

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(use, range(3))) == ["Toy", "Toy", "is cut short"]
    assert shelf.opened == ["a", "a"]


def test_a_file_that_is_not_there_is_missing():
    with pytest.raises(ModelMissing, match="there is no model file nowhere"):
        Residency(CPU, torch.float32, MB).network(Recipe("unet", "nowhere", "", "{}"))


# --------------------------------------------------------------------------------------------------- devices and dtypes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_vaes_and_text_encoders_stay_in_single_precision_on_the_cpu(dtype, shelf):
    networks = shelf.residency(dtype=dtype)
    for kind in ("unet", "autoencoder_kl", "patch_autoencoder", "text_encoder"):
        networks.network(toy(kind, kind=kind))
    assert shelf.dtypes.pop("unet") == dtype
    assert set(shelf.dtypes.values()) == {torch.float32}


@pytest.mark.parametrize(("dtype", "wide"), [("float32", "float32"), ("bfloat16", "bfloat16"), ("float16", "float32")])
def test_on_cuda_they_are_spared_float16_only(dtype, wide):
    networks = Residency(torch.device("cuda:0"), residency.DTYPES[dtype])
    assert networks.dtype_of(toy("a")) == residency.DTYPES[dtype]
    assert networks.dtype_of(toy("a", kind="autoencoder_kl")) == residency.DTYPES[wide]


def test_on_the_cpu_auto_is_single_precision():
    assert resolve_device("cpu") == CPU
    assert resolve_dtype("auto", CPU) == torch.float32
    assert resolve_dtype("bfloat16", CPU) == torch.bfloat16


def cuda(monkeypatch: pytest.MonkeyPatch, devices: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: devices > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    monkeypatch.setattr(torch.version, "cuda", "13.0")


def test_auto_is_the_first_cuda_device_where_there_is_one(monkeypatch):
    cuda(monkeypatch, 0)
    assert resolve_device("auto") == CPU
    cuda(monkeypatch, 2)
    assert resolve_device("auto") == torch.device("cuda:0") == resolve_device("cuda")
    assert resolve_device("cuda:1") == torch.device("cuda:1")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cuda:2", "cuda:2 was asked for, and PyTorch finds 2 CUDA devices"),
        ("tpu", "a device is auto, cpu, cuda or cuda:N, not 'tpu'"),
        ("cuda:", "not 'cuda:'"),
        ("CUDA", "not 'CUDA'"),
        ("", "not ''"),
    ],
)
def test_a_device_that_there_is_not_is_refused_in_words(name, words, monkeypatch):
    cuda(monkeypatch, 2)
    with pytest.raises(DeviceError, match=words):
        resolve_device(name)


def test_a_pytorch_without_cuda_says_so(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    with pytest.raises(DeviceError, match="is built for the CPU only"):
        resolve_device("cuda")


def test_a_dtype_that_there_is_not_is_refused_in_words():
    with pytest.raises(DeviceError, match="a dtype is auto, float32, float16, bfloat16, not 'int8'"):
        resolve_dtype("int8", CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_network_on_cuda_is_laid_out_for_it_and_leaves_its_room_behind(tmp_path):
    path, network = tmp_path / "a.safetensors", AutoencoderKL(VaeConfig())
    save_network(path, network, {"kind": "autoencoder_kl", "config": network.config})
    device = resolve_device("auto")
    before = torch.cuda.memory_allocated()
    networks = Residency(device, resolve_dtype("auto", device))
    recipe = Recipe("autoencoder_kl", str(path), "", canonical(network.config))
    with networks.lent(recipe) as there, torch.inference_mode():
        assert there.decoder.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
        pixels = torch.rand(1, 3, 64, 64) * 2 - 1
        found = there(pixels.to(device)).cpu()
    assert (found - network(pixels)).abs().max() < 0.05
    del there
    networks.clear()
    assert torch.cuda.memory_allocated() == before
