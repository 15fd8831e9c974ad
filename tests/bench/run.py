"""How fast Limner is, beside diffusers: `make bench`.  CPU seconds of one thread, in interleaved pairs, medians.

Prints a Markdown table; `--json FILE` writes the figures too, `--pairs N` sets how many pairs are measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel
from limner.core import workflow
from limner.core.cache import Cache
from limner.core.drive import drive
from limner.core.event import Failed
from limner.core.folders import SHIPPED
from limner.core.graph import Instance, Link, problems
from limner.core.host import Host, Settings
from limner.core.plan import plan
from limner.core.run import Run
from limner.core.schema import Context, node
from limner.nodes import NODES
from safetensors.torch import load_file

WORKFLOWS = Path(__file__).parents[2] / "workflows"
STEPS, SCALE = 20, 4.0
PROMPTS = ["a red apple", "a green frog", "a blue car", "a dog", "a sunflower", "a pizza", "a cat", "a house"]


@dataclass(frozen=True)
class Row:
    """One comparison: medians of CPU seconds, and the median of the pairs' ratios."""

    name: str
    ours: float
    theirs: float | None
    ratio: float | None  # ours / theirs: below 1 is faster
    peer: str
    unit: str = "ms"


def main() -> None:
    """Measure everything."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pairs", type=int, default=7)
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    torch.set_num_threads(1)
    rows = [
        *executor(given.pairs),
        *shapes(given.pairs),
        unet_pass(given.pairs),
        sampling(given.pairs),
        queue(max(given.pairs // 2, 2)),
        seed_only(given.pairs),
    ]
    print(f"{machine()}; medians of {given.pairs} interleaved pairs, CPU time of one thread\n")
    print("| work | Limner | peer | ratio | peer is |\n|---|---|---|---|---|")
    for row in rows:
        theirs = "" if row.theirs is None else f"{row.theirs:.4g} {row.unit}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2g}"
        print(f"| {row.name} | {row.ours:.4g} {row.unit} | {theirs} | {ratio} | {row.peer} |")
    if given.json:
        figures = {"machine": machine(), "pairs": given.pairs, "rows": [asdict(row) for row in rows]}
        given.json.write_text(json.dumps(figures, indent=1) + "\n")


def executor(pairs: int) -> list[Row]:
    """What the executor itself costs, a node: a chain of 10,000 that only counts."""

    @node("bench")
    def one(value: int = 0) -> int:
        return value + 1

    registry = {one.id: one}
    chain = {"0": Instance(one.id, {})} | {
        str(k): Instance(one.id, {"value": Link(str(k - 1), 0)}) for k in range(1, 10_000)
    }
    work: dict[str, Callable[[], Any]] = {
        "find the problems of a graph, a node": lambda: list(problems(chain, registry)),
        "plan a graph, a node": lambda: plan(chain, registry, ["9999"]),
        "run a graph that does nothing, a node": lambda: run_chain(plan(chain, registry, ["9999"])),
    }
    return [Row(name, measured(act, pairs) / len(chain) * 1e6, None, None, "", "µs") for name, act in work.items()]


def run_chain(planned: Any, cache: Cache | None = None) -> None:
    """Run it, by default with nothing cached."""
    nowhere: Any = None
    context = Context(nowhere, nowhere, Path(), Path())
    ends = [e for _, e in drive([Run(planned, cache or Cache(), context)], nowhere) if isinstance(e, Failed)]
    assert not ends, ends


def shapes(pairs: int) -> list[Row]:
    """Large graphs of several shapes: what stands between a post and the first node, and a run of them."""

    @node("bench")
    def add(a: int = 0, b: int = 0) -> int:
        return a + b

    def at(a: str, b: str) -> Instance:
        return Instance(add.id, {"a": Link(a, 0), "b": Link(b, 0)})

    first = {"0": Instance(add.id, {"a": 1})}
    last, registry = "last", {add.id: add}
    chain = first | {str(k): at(str(k - 1), str(k - 1)) for k in range(1, 10_000)}
    fan = first | {str(k): at("0", "0") for k in range(1, 10_000)}
    ladder = {"l0": first["0"], "r0": first["0"]}
    for k in range(1, 40):
        ladder |= {f"l{k}": at(f"l{k - 1}", f"r{k - 1}"), f"r{k}": at(f"r{k - 1}", f"l{k - 1}")}
    graphs = {
        "a chain of 10,000 nodes": (chain, ["9999"]),
        "a fan of 10,000 nodes": (fan, list(fan)),
        "a ladder of 40 diamonds, 2^40 ways": (ladder | {last: at("l39", "r39")}, [last]),
    }
    rows = []
    for name, (graph, ends) in graphs.items():
        rows.append(
            Row(f"validate {name}", measured(lambda g=graph: list(problems(g, registry)), pairs) * 1e3, None, None, "")
        )  # type: ignore[misc]
        rows.append(
            Row(
                f"plan and run {name}",
                measured(lambda g=graph, e=ends: run_chain(plan(g, registry, e)), pairs) * 1e3,
                None,
                None,
                "",
            )
        )  # type: ignore[misc]
    short = {i: chain[i] for i in map(str, range(1000))}
    kept = Cache()
    run_chain(plan(short, registry, ["999"]), kept)

    def replay() -> None:
        assert not list(problems(short, registry))
        run_chain(plan(short, registry, ["999"]), kept)

    return [
        *rows,
        Row("validate, plan and replay a cached chain of 1,000", measured(replay, pairs) * 1e3, None, None, ""),
    ]


def unet_pass(pairs: int) -> Row:
    """A forward pass of the default model, with and without the prompt in one batch, beside diffusers' UNet."""
    ours, theirs = networks()
    x, t, context, vector = (
        torch.randn(2, 16, 8, 8),
        torch.tensor([500.0, 500.0]),
        torch.randn(2, 8, 384),
        torch.randn(2, 384),
    )

    def limner() -> None:
        for _ in range(10):
            ours(x, t, context, None, vector)

    def diffusers() -> None:
        for _ in range(10):
            theirs(x, t, context, class_labels=vector)

    return paired("one pass of the UNet, batch 2", limner, diffusers, pairs, "diffusers' UNet2DConditionModel", 10)


def sampling(pairs: int) -> Row:
    """A picture's latent in 20 steps with guidance: a whole graph here, a scheduler's loop there, the same weights."""
    _, theirs = networks()
    with tempfile.TemporaryDirectory() as base:
        host = Host(NODES, Settings(base=Path(base), disk_cache=False))
        nodes = host.lowered(workflow.read(WORKFLOWS / "text-to-image.json"))
        ended(host, [host.run(nodes, only=["guide", "schedule", "latent"])])
        scheduler = DPMSolverMultistepScheduler(
            beta_start=1e-4, beta_end=0.02, beta_schedule="linear", prediction_type="v_prediction",
            timestep_spacing="linspace", final_sigmas_type="zero",
        )  # fmt: skip
        context, vector = torch.randn(2, 8, 384), torch.randn(2, 384)

        def limner() -> None:
            ended(host, [host.run(nodes, only=["sample"], forced=frozenset({"sample"}))])

        def diffusers() -> None:
            scheduler.set_timesteps(STEPS)
            x = torch.randn(1, 16, 8, 8)
            for t in scheduler.timesteps:
                cond, uncond = theirs(torch.cat([x, x]), t, context, class_labels=vector).sample.chunk(2)
                x = scheduler.step(uncond + SCALE * (cond - uncond), t, x).prev_sample

        with torch.inference_mode():
            return paired(
                f"sample a picture, {STEPS} steps", limner, diffusers, pairs, "diffusers' DPMSolverMultistep loop", 1
            )


def queue(pairs: int) -> Row:
    """Eight prompts driven side by side in shared forward passes, beside the same one after another."""
    with tempfile.TemporaryDirectory() as base:
        host = Host(NODES, Settings(base=Path(base), disk_cache=False))
        nodes = host.lowered(workflow.read(WORKFLOWS / "text-to-image.json"))
        graphs = [nodes | {"prompt": Instance(nodes["prompt"].type, {"value": text})} for text in PROMPTS]

        def runs() -> list[Run]:
            return [host.run(graph, only=["sample"], forced=frozenset({"sample"})) for graph in graphs]

        def together() -> None:
            ended(host, runs())

        def in_turn() -> None:
            for run in runs():
                ended(host, [run])

        together()
        return paired(
            f"{len(PROMPTS)} prompts side by side", together, in_turn, pairs, "the same, one after another", 1
        )


def seed_only(pairs: int) -> Row:
    """A picture with another seed, beside the first picture of a fresh host (its networks loaded in both cases)."""
    with tempfile.TemporaryDirectory() as base:
        host = Host(NODES, Settings(base=Path(base), disk_cache=False))
        nodes = host.lowered(workflow.read(WORKFLOWS / "text-to-image.json"))
        ended(host, [host.run(nodes, only=["decode"])])

        def cached() -> None:
            ended(host, [host.run(nodes, only=["decode"])])

        def computed() -> None:
            ended(host, [host.run(nodes, only=["decode"], forced=frozenset(nodes) - {"save"})])

        return paired("a picture that was made before", cached, computed, pairs, "the same, all of it made again", 1)


def ended(host: Host, runs: list[Run]) -> None:
    """Drive runs to their ends; none may fail."""
    for _, event in host.drive(runs):
        if isinstance(event, Failed):
            raise event.error


def networks() -> tuple[Any, Any]:
    """The default model's UNet, ours and diffusers', with the same weights."""
    from limner.core.models.unet import UNet, UNetConfig

    said = json.loads(metadata(SHIPPED / "unet.safetensors")["limner"])["config"]
    config = UNetConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in said.items()})
    weights = {k: v.float() for k, v in load_file(SHIPPED / "unet.safetensors").items()}
    ours = UNet(config).eval().requires_grad_(False)
    ours.load_state_dict(weights)
    theirs = UNet2DConditionModel(
        in_channels=config.in_channels, out_channels=config.out_channels, block_out_channels=config.channels,
        down_block_types=("CrossAttnDownBlock2D",) * len(config.channels),
        up_block_types=("CrossAttnUpBlock2D",) * len(config.channels),
        layers_per_block=config.layers, transformer_layers_per_block=config.depth, attention_head_dim=config.heads,
        cross_attention_dim=config.context_dim, use_linear_projection=config.linear_projection,
        norm_num_groups=config.norm_groups, class_embed_type="projection",
        projection_class_embeddings_input_dim=config.vector_dim,
    ).eval().requires_grad_(False)  # fmt: skip
    theirs.load_state_dict({k.replace("add_embedding", "class_embedding"): v for k, v in weights.items()})
    return ours, theirs


def metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says of itself."""
    from limner.core.models.checkpoint import header

    return dict(header(path).metadata)


def paired(name: str, ours: Callable[[], None], theirs: Callable[[], None], pairs: int, peer: str, times: int) -> Row:
    """Both in turn, `pairs` times after one warm-up, in milliseconds of CPU time for each of the `times` in one go."""
    ours(), theirs()
    seconds = [(spent(ours), spent(theirs)) for _ in range(pairs)]
    mine, other = (statistics.median(column) * 1e3 / times for column in zip(*seconds, strict=True))
    return Row(name, mine, other, statistics.median(a / b for a, b in seconds), peer)


def measured(act: Callable[[], Any], times: int) -> float:
    """The median CPU seconds of an act."""
    act()
    return statistics.median(spent(act) for _ in range(times))


def spent(act: Callable[[], Any]) -> float:
    """CPU seconds of this process."""
    began = time.process_time()
    act()
    return time.process_time() - began


def machine() -> str:
    """What it runs on."""
    model = next(
        (line.split(":")[1].strip() for line in cpuinfo() if line.startswith("model name")), platform.machine()
    )
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"


def cpuinfo() -> list[str]:
    """Linux's description of the processor, where there is one."""
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    sys.exit(main())
