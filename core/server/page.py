"""The page at `/`, and the files it is made of: another front end's where one was named, else ours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Middleware

from .keys import SETTINGS
from .sending import PICTURES, served
from .settings import Settings

routes = web.RouteTableDef()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

OURS = Path(__file__).parents[2] / "web" / "dist"
INDEX = "index.html"
TYPES: Mapping[str, str] = {
    **PICTURES,
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".md": "text/markdown; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".ico": "image/x-icon",
    ".wasm": "application/wasm",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".ttf": "font/ttf",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
}
REST = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
)
POLICY = REST + "script-src 'self'"
FOREIGN_POLICY = REST + "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:"  # front ends that others have built
WELCOME = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Limner</title>
<style>body { font: 16px/1.5 system-ui, sans-serif; max-width: 40em; margin: 4em auto; padding: 0 1em }</style>
<h1>Limner is running</h1>
<p>Clients of ComfyUI's API can be pointed at this address. A front end can be served here with
<code>limner serve --front-end-root DIR</code>.</p>
<ul>
<li><a href="/queue">the queue</a>, <a href="/history">what has run</a></li>
<li><a href="/object_info">every node</a>, as JSON</li>
<li><a href="/system_stats">this machine</a>, <a href="/health">how the server is</a></li>
</ul>
</html>
"""


@routes.get("/")
async def index(request: web.Request) -> web.StreamResponse:
    """The page."""
    settings = request.app[SETTINGS]
    root = root_of(settings)
    if not (root / INDEX).is_file():
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
        return web.Response(text=WELCOME, content_type="text/html", headers=headers)
    return await served(request, root, INDEX, TYPES, policy_of(settings))


def otherwise(settings: Settings) -> Middleware:
    """What no route is for may be a file of the front end."""
    root, policy = root_of(settings), policy_of(settings)

    @web.middleware
    async def files(request: web.Request, handler: Handler) -> web.StreamResponse:
        missing = getattr(request.match_info.http_exception, "status", None) == 404
        if not missing or request.method not in ("GET", "HEAD") or not root.is_dir():
            return await handler(request)
        name = request.path.lstrip("/")
        return await served(request, root, name + INDEX if name.endswith("/") else name, TYPES, policy)

    return files


def root_of(settings: Settings) -> Path:
    """Where the front end's files lie."""
    return settings.front_end or OURS


def policy_of(settings: Settings) -> str:
    """What the page may load and run."""
    return FOREIGN_POLICY if settings.front_end else POLICY
