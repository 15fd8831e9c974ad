"""Serves our namesakes of ComfyUI's modules to packs: a finder that is there only while packs are."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import LimnerError
from .house import House

SHIMS: Mapping[str, str] = {  # module -> the file in shims/; empty: a package with nothing in it
    "comfy": "",
    "comfy.utils": "comfy_utils",
    "comfy.comfy_types": "comfy_comfy_types",
    "comfy.comfy_types.node_typing": "comfy_comfy_types",
    "comfy.model_management": "comfy_model_management",
    "comfy.samplers": "comfy_samplers",
    "comfy_execution": "",
    "comfy_execution.graph": "comfy_execution_graph",
    "comfy_execution.graph_utils": "comfy_execution_graph_utils",
    "comfy_api": "",
    "comfy_api.latest": "comfy_api",
    "comfy_api.v0_0_1": "comfy_api",
    "comfy_api.v0_0_2": "comfy_api",
    "folder_paths": "folder_paths",
    "node_helpers": "node_helpers",
    "nodes": "nodes",
    "server": "server",
}
ROOTS = frozenset(name.partition(".")[0] for name in SHIMS)
LIVE = "nodes"  # knows the classes of packs that were loaded after it


class Occupied(LimnerError):
    """Other modules have the names that packs need."""

    code = "occupied"
    exit_code = 2


class Finder(MetaPathFinder, Loader):
    """Finds the modules in `SHIMS`, for one house."""

    def __init__(self, house: House) -> None:
        self._house = house

    def install(self) -> None:
        """Be asked first.  Raises `Occupied` beside a ComfyUI that can be imported."""
        for other in [finder for finder in sys.meta_path if isinstance(finder, Finder)]:
            other.remove()
        for name in sorted(ROOTS):
            if name in sys.modules:
                raise Occupied(f"a module {name!r} is loaded ({_place(name)}): packs need Limner's own of that name")
        if (real := _real()) is not None:
            raise Occupied(
                f"ComfyUI itself can be imported here ({real}), and packs would mix the two: "
                "start Limner where `import comfy` finds nothing"
            )
        sys.meta_path.insert(0, self)

    def remove(self) -> None:
        """Be asked no more, and take back what was given."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        for name in SHIMS:
            if getattr(getattr(sys.modules.get(name), "__spec__", None), "loader", None) is self:
                del sys.modules[name]

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:  # noqa: ARG002
        """How to load one of ours; None for what others have to find."""
        if fullname not in SHIMS:
            return None
        package = any(name.startswith(f"{fullname}.") for name in SHIMS)
        return ModuleSpec(fullname, self, is_package=package)

    def exec_module(self, module: ModuleType) -> None:
        """Fill a module with what its shim gives."""
        module.__file__ = str(self._house.folders.base / f"{module.__name__.replace('.', '/')}.py")
        if file := SHIMS[module.__name__]:
            module.__dict__.update(_members(import_module(f".shims.{file}", __package__), self._house))

    def refresh(self) -> None:
        """Show packs that were loaded early what came later."""
        if (module := sys.modules.get(LIVE)) is not None and getattr(module.__spec__, "loader", None) is self:
            self.exec_module(module)


def missing(error: ImportError) -> str:
    """What an import failed for, as a sentence."""
    name = error.name or ""
    if name.partition(".")[0] in ROOTS:
        part = re.match(r"cannot import name '(\w+)'", str(error))
        what = f"{part[1]} from {name}" if part else name
        return f"needs ComfyUI's {what}, which Limner does not have"
    if isinstance(error, ModuleNotFoundError) and name:
        return f"needs the Python module {name!r}, which is not installed"
    return str(error)


def _members(shim: ModuleType, house: House) -> Mapping[str, Any]:
    plain = {name: getattr(shim, name) for name in shim.__all__}
    return {**plain, **shim.members(house)} if hasattr(shim, "members") else plain


def _place(name: str) -> str:
    return getattr(sys.modules[name], "__file__", None) or "made by hand"


def _real() -> str | None:
    """Where ComfyUI's own package lies, which may have no `__init__.py`; any other folder of that name is not it."""
    spec = find_spec("comfy")
    if spec is None or spec.origin is not None:
        return None if spec is None else spec.origin
    folders = map(Path, spec.submodule_search_locations or ())
    return next((str(folder) for folder in folders if (folder / "model_management.py").is_file()), None)
