"""What a stored result depends on beside its graph: our code, the libraries, the device and how it computes."""

from __future__ import annotations

import ast
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from importlib.util import resolve_name
from pathlib import Path

from .errors import StorageError
from .files import write
from .plan import Salt
from .schema import Node

ROOT = Path(__file__).parent.parent
PACKAGE = __name__.rsplit(".", 2)[0]  # this package, by whatever name it was loaded
ANSWERING = ("core.drive", "core.trees", "core.store")  # what answers and stores every node's work


@dataclass(frozen=True, slots=True)
class Environment:
    """Where and how networks compute."""

    device: str  # "cpu", or the name of the GPU
    dtype: str
    attention: str
    torch: str
    transformers: str


def installed(name: str) -> str:
    """The version of a library, or of Limner itself, which may lie in a folder without being installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def described(device: str, dtype: str) -> Environment:
    """The environment of a device that has been resolved."""
    return Environment(device, dtype, "sdpa", version("torch"), version("transformers"))


def remember(folder: Path, asked: str, environment: Environment) -> None:
    """Note what `asked` (the device and dtype that somebody named) came to, for those who must not load torch."""
    known = _read(folder)
    if known.get(asked) != asdict(environment):
        with suppress(StorageError):
            write(folder / "environment.json", json.dumps(known | {asked: asdict(environment)}, indent=1))


def remembered(folder: Path, asked: str) -> Environment | None:
    """What `asked` came to in the last run, if the libraries are still those; None: not known yet."""
    try:
        environment = Environment(**_read(folder)[asked])
    except (KeyError, TypeError):
        return None
    return environment if environment == described(environment.device, environment.dtype) else None


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
    networks = (ROOT / "core" / "models").glob("*.py")  # which are imported by names that no import shows
    waiting = [module, *ANSWERING, *(f"core.models.{path.stem}" for path in networks)]
    sources: dict[str, bytes] = {}
    while waiting:
        name = waiting.pop()
        if name not in sources and (found := _module(name)):
            sources[name], imports = found
            waiting += imports
    digest = blake2b(digest_size=8)
    for name, source in sorted(sources.items()):
        digest.update(f"{name}\0".encode() + source)
    return digest.hexdigest()


@cache
def _module(name: str) -> tuple[bytes, list[str]] | None:
    """The source of a module of this package, and the names that it imports from it; None: there is no such module."""
    folder = ROOT.joinpath(*name.split("."))
    init = folder / "__init__.py"
    path = init if init.is_file() else folder.with_suffix(".py")
    if not path.is_file():
        return None
    source = path.read_bytes()
    package = f"{PACKAGE}.{name}" if path == init else f"{PACKAGE}.{name}".rpartition(".")[0]
    found: list[str] = []
    for part in ast.walk(ast.parse(source)):
        if isinstance(part, ast.ImportFrom) and part.level:
            base = resolve_name("." * part.level + (part.module or ""), package)
            found += [base, *(f"{base}.{alias.name}" for alias in part.names)]  # `from . import samplers` names modules
    return source, [each.removeprefix(f"{PACKAGE}.") for each in found]


def _read(folder: Path) -> dict[str, dict[str, str]]:
    with suppress(OSError, ValueError):
        known = json.loads((folder / "environment.json").read_bytes())
        return known if isinstance(known, dict) else {}
    return {}
