"""What an editor keeps of its user: /userdata, whole files below one folder."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from ..errors import StorageError, UsageError
from ..files import inside, placed, reason, safe_join, write
from .bodies import read_body
from .files import folders
from .keys import SETTINGS
from .refusal import Refused
from .sending import PICTURES, served

routes = web.RouteTableDef()

TYPES: Mapping[str, str] = {
    **PICTURES,
    ".json": "application/json",
    ".css": "text/css; charset=utf-8",  # the editor's page takes its user's style from here
    ".txt": "text/plain; charset=utf-8",
}


@routes.get("/userdata")
async def listed(request: web.Request) -> web.Response:
    """The files in a folder: their paths in it, or also their sizes and times."""
    query = request.query
    if not query.get("dir"):
        raise Refused(400, "no_dir", "the query must have a `dir`")
    root = _path(request, query["dir"])
    if not root.is_dir():
        raise Refused(404, "not_found", f"there is no folder {query['dir']!r}")
    files = await asyncio.to_thread(lambda: sorted(_files(root, deep=_says(query, "recurse"))))
    if _says(query, "full_info"):
        return web.json_response([_told(path, root) for path in files])
    names = [path.relative_to(root).as_posix() for path in files]
    return web.json_response([[name, *name.split("/")] for name in names] if _says(query, "split") else names)


@routes.get("/v2/userdata")
async def tree(request: web.Request) -> web.Response:
    """All files and folders below a folder, folders first."""
    name = request.query.get("path", "")
    user = folders(request).user
    root = _path(request, name) if name else user
    if name and not root.is_dir():
        status, words = (400, "is no folder") if root.exists() else (404, "is not there")
        raise Refused(status, "not_a_folder", f"{name!r} {words}")
    return web.json_response(await asyncio.to_thread(lambda: [_entry(path, user) for path in _tree(root)]))


@routes.get("/userdata/{file:[^/]+}")
async def read(request: web.Request) -> web.StreamResponse:
    """A file."""
    _path(request, request.match_info["file"])
    return await served(request, folders(request).user, request.match_info["file"], TYPES)


@routes.post("/userdata/{file:[^/]+}")
async def put(request: web.Request) -> web.Response:
    """Keep what is sent as a file."""
    path = _path(request, request.match_info["file"])
    content = await read_body(request, request.app[SETTINGS].max_upload_size)
    await asyncio.to_thread(_written, path, content, overwrite=_overwrites(request))
    return _answer(request, path)


@routes.delete("/userdata/{file:[^/]+}")
async def delete(request: web.Request) -> web.Response:
    """Remove a file."""
    path = _path(request, request.match_info["file"])
    if not path.is_file():
        raise _missing(request.match_info["file"])
    path.unlink(missing_ok=True)
    return web.Response(status=204)


@routes.post("/userdata/{file:[^/]+}/move/{dest:[^/]+}")
async def move(request: web.Request) -> web.Response:
    """Give a file another name."""
    path, new = _path(request, request.match_info["file"]), _path(request, request.match_info["dest"])
    if not path.exists():
        raise _missing(request.match_info["file"])
    if new.exists() and not _overwrites(request):
        raise _taken(new)
    try:
        new.parent.mkdir(parents=True, exist_ok=True)
        path.replace(new)
    except OSError as error:
        raise StorageError(new, reason(error)) from error
    return _answer(request, new)


def _path(request: web.Request, name: str) -> Path:
    try:
        return safe_join(folders(request).user, name)
    except UsageError as error:
        raise Refused(403, "bad_name", str(error)) from None


def _says(query: Mapping[str, str], flag: str) -> bool:
    return query.get(flag, "").lower() == "true"


def _overwrites(request: web.Request) -> bool:
    return request.query.get("overwrite", "").lower() != "false"


def _written(path: Path, content: bytes, *, overwrite: bool) -> None:
    if overwrite:
        write(path, content)
        return
    try:
        placed(path, [path], lambda temporary: _fill(temporary, content))
    except StorageError:
        if path.exists():
            raise _taken(path) from None
        raise


def _fill(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _answer(request: web.Request, path: Path) -> web.Response:
    told = _told(path, folders(request).user)
    return web.json_response(told if _says(request.query, "full_info") else told["path"])


def _told(path: Path, root: Path) -> dict[str, Any]:
    stats = path.stat()
    return {"path": path.relative_to(root).as_posix(), "size": stats.st_size, "modified": int(stats.st_mtime * 1000)}


def _entry(path: Path, root: Path) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": path.name, "path": path.relative_to(root).as_posix()}
    if path.is_dir():
        return {**entry, "type": "directory"}
    stats = path.stat()
    return {**entry, "type": "file", "size": stats.st_size, "modified": stats.st_mtime}


def _files(root: Path, *, deep: bool) -> Iterator[Path]:
    """The files in a folder.  Hidden ones are not told of, nor what is only linked from elsewhere."""
    for folder, names, found in os.walk(root):
        names[:] = [name for name in names if deep and not name.startswith(".")]
        paths = (Path(folder, name) for name in found if not name.startswith("."))
        yield from (path for path in paths if path.is_file() and inside(path, root))


def _tree(root: Path) -> list[Path]:
    found = [Path(folder, name) for folder, names, files in os.walk(root) for name in (*names, *files)]
    kept = [path for path in found if inside(path, root) and not (path.name.startswith(".") and ".tmp" in path.name)]
    return sorted(kept, key=lambda path: (not path.is_dir(), path.name.lower(), path))


def _missing(name: str) -> Refused:
    return Refused(404, "not_found", f"there is no file {name!r}")


def _taken(path: Path) -> Refused:
    return Refused(409, "exists", f"there is a file {path.name!r} already")
