"""What node packs bring along for an editor: scripts, translations, example workflows and pages of help."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import web

from ..strict_json import loads
from .guard import Refused
from .keys import OFFICE, SETTINGS
from .page import FOREIGN_POLICY, TYPES, policy_of, root_of
from .sending import served

EXAMPLES = ("example_workflows", "example", "examples", "workflow", "workflows")  # folders that packs keep theirs in
WORDS = ("commands", "settings", "nodeDefs")  # files of a translation, beside main.json, and their keys
TEMPLATES = ("templates", "comfyui_workflow_templates", "templates")  # a front end's folder, a package, a folder in it
DOCS = ("docs", "comfyui_embedded_docs", "docs")

routes = web.RouteTableDef()


@routes.get("/extensions")
async def scripts(request: web.Request) -> web.Response:
    """The addresses of all scripts that an editor is to load."""
    front = root_of(request.app[SETTINGS]) / "extensions"
    places = {"": front, **{f"{quote(name)}/": root for name, root in request.app[OFFICE].packs.scripts.items()}}
    return web.json_response(await asyncio.to_thread(lambda: [*_scripts(places)]))


@routes.get("/extensions/{pack}/{path:.+}")
async def script(request: web.Request) -> web.StreamResponse:
    """A file of a pack's, or of the front end."""
    pack, path = request.match_info["pack"], request.match_info["path"]
    root = request.app[OFFICE].packs.scripts.get(pack)
    if root is not None:
        return await served(request, root, path, TYPES, FOREIGN_POLICY)
    settings = request.app[SETTINGS]
    return await served(request, root_of(settings) / "extensions", f"{pack}/{path}", TYPES, policy_of(settings))


@routes.get("/i18n")
async def translations(request: web.Request) -> web.Response:
    """What packs call things in other languages."""
    return web.json_response(await asyncio.to_thread(_translations, request.app[OFFICE].packs.folders))


@routes.get("/workflow_templates")
async def examples(request: web.Request) -> web.Response:
    """The names of the example workflows of each pack."""
    packs = request.app[OFFICE].packs.folders
    found = await asyncio.to_thread(lambda: {name: _examples(root) for name, root in packs.items()})
    return web.json_response({name: names for name, names in found.items() if names})


@routes.get("/workflow_templates/{pack}/{path:.+}")
async def example(request: web.Request) -> web.StreamResponse:
    """An example workflow, or the picture of one."""
    root = request.app[OFFICE].packs.folders.get(request.match_info["pack"])
    folder = root and _folder(root)
    if folder is None:
        raise Refused(404, "not_found", "this pack has no example workflows")
    return await served(request, folder, request.match_info["path"], TYPES)


@routes.get("/templates/{path:.+}")
async def template(request: web.Request) -> web.StreamResponse:
    """A file of ComfyUI's package of templates, where it is installed."""
    return await _installed(request, *TEMPLATES)


@routes.get("/docs/{path:.+}")
async def page_of_help(request: web.Request) -> web.StreamResponse:
    """A file of ComfyUI's package of help, where it is installed."""
    return await _installed(request, *DOCS)


async def _installed(request: web.Request, folder: str, package: str, inside: str) -> web.StreamResponse:
    """A file of the front end's `folder`, or of an installed package."""
    root = root_of(request.app[SETTINGS]) / folder
    if not root.is_dir():
        found = importlib.util.find_spec(package)
        places = found.submodule_search_locations if found else None
        root = Path(next(iter(places or ()), root)) / inside if places else root
    return await served(request, root, request.match_info["path"], TYPES)


def _scripts(places: Mapping[str, Path]) -> Iterator[str]:
    for prefix, root in places.items():
        for path in sorted(root.rglob("*.js")):
            yield f"/extensions/{prefix}{path.relative_to(root).as_posix()}"


def _translations(packs: Mapping[str, Path]) -> dict[str, Any]:
    """All packs' words, by language; the first pack that has one for a thing wins."""
    found: dict[str, Any] = {}
    for folder in packs.values():
        for language in sorted(path for path in (folder / "locales").glob("*") if path.is_dir()):
            words = _json(language / "main.json")
            words |= {kind: said for kind in WORDS if (said := _json(language / f"{kind}.json"))}
            found[language.name] = _merged(words, found.get(language.name, {}))
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        found = loads(path.read_bytes())
    except (OSError, ValueError):  # there is none, or a pack's mistake
        return {}
    return found if isinstance(found, dict) else {}


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {k: _merged(below[k], v) for k, v in above.items() if isinstance(v, dict) and isinstance(below.get(k), dict)}
    return below | above | both


def _folder(pack: Path) -> Path | None:
    """Where a pack keeps its example workflows."""
    return next((pack / name for name in EXAMPLES if (pack / name).is_dir()), None)


def _examples(pack: Path) -> list[str]:
    folder = _folder(pack)
    return sorted(path.stem for path in folder.glob("*.json")) if folder else []
