"""What a stored result depends on beside its graph: our code, the libraries, the device and how it computes."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path

from .errors import StorageError
from .files import write
from .plan import Salt
from .schema import Node

ROOT = Path(__file__).parent.parent
PACKAGE = __name__.rsplit(".", 2)[0]  # this package, by whatever name it was loaded
ANSWERING = ("core.drive", "core.trees", "core.store")  # what answers and stores every node's work
NETWORKS = "core.models"  # whose modules are imported by a name that no import shows


@dataclass(frozen=True, slots=True)
class Environment:
    """Where and how networks compute."""

    device: str  # "cpu", or the name of the GPU
    dtype: str
    attention: str
    torch: str
    transformers: str


def described(device: str, dtype: str) -> Environment:
    """The environment of a device that has been resolved."""
    return Environment(device, dtype, "sdpa", version("torch"), version("transformers"))


def remember(folder: Path, asked: str, environment: Environment) -> None:
    """Note what `asked` (the device and dtype that somebody named) came to, for those who must not load torch."""
    known = _read(folder)
    if known.get(asked) != asdict(environment):
        try:
            write(folder / "environment.json", json.dumps(known | {asked: asdict(environment)}, indent=1))
        except StorageError:
            return


def remembered(folder: Path, asked: str) -> Environment | None:
    """What `asked` came to in the last run, if the libraries are still those; None: not known yet."""
    try:
        environment = Environment(**_read(folder)[asked])
    except (KeyError, TypeError):
        return None
    now = described(environment.device, environment.dtype)
    return environment if environment == now else None


def salted(environment: Environment) -> Salt:
    """What the stored results of each node depend on; None for nodes that are not this package's."""
    place = json.dumps(asdict(environment), sort_keys=True)

    def salt(node: Node[..., object]) -> str | None:
        module = node.function.__module__
        if not module.startswith(f"{PACKAGE}."):
            return None
        return f"{code(module.removeprefix(PACKAGE + '.'))}|{place}"

    return salt


@cache
def code(module: str) -> str:
    """A digest of a module of this package and of all that it imports from it, wherever the import stands."""
    seen: set[str] = set()
    waiting = [module, *ANSWERING, *(f"{NETWORKS}.{p.stem}" for p in ROOT.joinpath(*NETWORKS.split(".")).glob("*.py"))]
    while waiting:
        name = waiting.pop()
        if name not in seen and _file(name) is not None:
            seen.add(name)
            waiting += _imports(name)
    digest = blake2b(digest_size=8)
    for name in sorted(seen):
        if (path := _file(name)) is not None:
            digest.update(f"{name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


@cache
def _imports(module: str) -> tuple[str, ...]:
    path = _file(module)
    if path is None:
        return ()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_bytes())
    return tuple(name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in _named(node, package))


def _named(node: ast.ImportFrom, package: str) -> Iterator[str]:
    if not node.level:
        return
    parts = package.split(".")
    base = parts[: len(parts) - node.level + 1]
    module = ".".join([*base, node.module] if node.module else base)
    yield module
    for alias in node.names:  # `from . import samplers` names modules
        yield f"{module}.{alias.name}"


@cache
def _file(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def _read(folder: Path) -> dict[str, dict[str, str]]:
    try:
        known = json.loads((folder / "environment.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
