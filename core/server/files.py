"""Pictures and what files say of themselves: /view, /view_metadata, and lists of what lies in a folder."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiohttp import web

from ..errors import ModelFileError
from ..files import opened
from ..folders import Folders, known_as
from . import renditions
from .keys import OFFICE
from .refusal import Refused
from .sending import POLICY, described, served

__all__ = ["routes", "served"]

routes = web.RouteTableDef()


@routes.get("/view")
async def view(request: web.Request) -> web.StreamResponse:
    """A picture, or another file that a node has made; a picture also smaller, or one part of its channels."""
    query = request.query
    root, name = place(request)
    preview, channel = query.get("preview"), query.get("channel", "rgba")
    if preview is None and channel not in ("rgb", "a"):
        return await served(request, root, name)
    found = await renditions.decoding(request, _rendered, root, name, preview, channel)
    headers = {**described(name, kind=found.type), "Content-Security-Policy": POLICY}
    return web.Response(body=found.content, headers=headers)


def place(request: web.Request) -> tuple[Path, str]:
    """The folder, and the name in it, that the query of a request means."""
    query = request.query
    name = query.get("filename", "")
    if not name:
        raise Refused(400, "no_filename", "the query must have a `filename`")
    root, name = folders(request).place(name, query.get("type") or "output")
    subfolder = query.get("subfolder", "")
    return root, f"{subfolder}/{name}" if subfolder else name


def _rendered(root: Path, name: str, preview: str | None, channel: str) -> renditions.Rendition:
    try:
        file = opened(root, name)
    except OSError:
        raise Refused(404, "not_found", f"there is no file {name!r}") from None
    with file:
        if preview is not None:
            return renditions.preview(file, name, preview, channel)
        return renditions.colours(file, name) if channel == "rgb" else renditions.alpha(file, name)


@routes.get("/view_metadata/{folder}")
async def view_metadata(request: web.Request) -> web.Response:
    """What a model's file says of itself."""
    name = request.query.get("filename", "")
    found = await asyncio.to_thread(_metadata, folders(request), known_as(request.match_info["folder"]), name)
    if not found:
        raise Refused(404, "not_found", f"there is no safetensors file {name!r} that says anything of itself")
    return web.json_response(found)


def _metadata(folders: Folders, kind: str, name: str) -> dict[str, str]:
    from ..models.checkpoint import header

    if kind not in folders.kinds() or not name.endswith(".safetensors"):
        return {}
    try:
        return dict(header(folders.model(kind, name)).metadata)
    except ModelFileError:
        return {}


@routes.get("/internal/files/{kind}")
async def names(request: web.Request) -> web.Response:
    """The names of the files in a folder, the newest first."""
    root = folders(request).pictures(request.match_info["kind"])
    return web.json_response(await asyncio.to_thread(_newest_first, root))


def _newest_first(root: Path) -> list[str]:
    if not root.is_dir():
        return []
    files = [path for path in root.iterdir() if not path.name.startswith(".") and path.is_file()]
    return [path.name for path in sorted(files, key=lambda path: -path.stat().st_mtime_ns)]


def folders(request: web.Request) -> Folders:
    """Where things lie."""
    return request.app[OFFICE].host.folders
