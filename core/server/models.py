"""Models that can be chosen: their folders by ComfyUI's names, and the files in them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiohttp import web

from ..files import opened, safe_join
from ..folders import Folders, known_as
from ..schema import ModelFile
from .guard import Refused
from .keys import OFFICE
from .renditions import preview

CALLED = {"unet": "diffusion_models", "upscale": "upscale_models"}  # what ComfyUI calls our folders today
PREVIEWS = (".webp", ".png", ".jpg", ".jpeg", ".preview.webp", ".preview.png", ".preview.jpg", ".preview.jpeg")

routes = web.RouteTableDef()


@routes.get("/embeddings")
async def embeddings(request: web.Request) -> web.Response:
    """The words that stand for embeddings."""
    names = await asyncio.to_thread(_folders(request).choices, ModelFile("embeddings"))
    return web.json_response([name.removesuffix(Path(name).suffix) for name in names])


@routes.get("/models")
async def kinds(request: web.Request) -> web.Response:
    """The folders that there are."""
    return web.json_response([CALLED.get(kind, kind) for kind in _folders(request).kinds()])


@routes.get("/models/{folder}")
async def names(request: web.Request) -> web.Response:
    """The models in a folder."""
    folders, kind = _asked(request)
    return web.json_response(list(await asyncio.to_thread(folders.choices, ModelFile(kind))))


@routes.get("/experiment/models")
async def places(request: web.Request) -> web.Response:
    """The folders, and where they lie."""
    folders = _folders(request)
    kinds = (kind for kind in folders.kinds() if kind != "configs")
    return web.json_response([{"name": CALLED.get(k, k), "folders": _texts(folders.roots(k))} for k in kinds])


@routes.get("/experiment/models/{folder}")
async def files(request: web.Request) -> web.Response:
    """The models in a folder, with their sizes and times."""
    folders, kind = _asked(request)
    return web.json_response(await asyncio.to_thread(lambda: [*_described(folders, kind)]))


@routes.get("/experiment/models/preview/{folder}/{path_index}/{filename:.*}")
async def picture(request: web.Request) -> web.Response:
    """The picture that lies beside a model."""
    folders, kind = _asked(request)
    roots, index = folders.roots(kind), request.match_info["path_index"]
    if not (index.isascii() and index.isdecimal() and int(index) < len(roots)):
        raise Refused(404, "not_found", f"there is no folder {index!r} of {kind}")
    found = await asyncio.to_thread(_picture, roots[int(index)], request.match_info["filename"])
    if found is None:
        raise Refused(404, "not_found", "this model has no picture")
    return web.Response(body=found, content_type="image/webp")


def _folders(request: web.Request) -> Folders:
    return request.app[OFFICE].host.folders


def _asked(request: web.Request) -> tuple[Folders, str]:
    folders, kind = _folders(request), known_as(request.match_info["folder"])
    if kind not in folders.kinds():
        raise Refused(
            404, "not_found", f"there is no folder of models {kind!r}; there are: {', '.join(folders.kinds())}"
        )
    return folders, kind


def _texts(paths: list[Path]) -> list[str]:
    return [str(path) for path in paths]


def _described(folders: Folders, kind: str) -> Iterator[dict[str, Any]]:
    """The models in the folders of a kind.  What comes with Limner lies in none of them."""
    roots = folders.roots(kind)
    for name in folders.choices(ModelFile(kind)):
        path = folders.model(kind, name)
        index = next((k for k, root in enumerate(roots) if path.is_relative_to(root)), None)
        if index is not None:
            about = path.stat()
            size = sum(part.stat().st_size for part in path.rglob("*")) if path.is_dir() else about.st_size
            times = {"modified": about.st_mtime, "created": about.st_ctime}
            yield {"name": name, "pathIndex": index, **times, "size": size}


def _picture(root: Path, name: str) -> bytes | None:
    """The picture beside the model `name`, as WebP."""
    stem = safe_join(root, name, links=True).with_suffix("")
    for suffix in PREVIEWS:
        path = stem.with_name(stem.name + suffix)
        if path.is_file():
            with opened(path.parent, path.name) as source:
                return preview(source, path.name, "webp;90", "rgba").content
    return None
