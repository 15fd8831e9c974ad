"""GET /limner/openapi.json: every route of the server, described in OpenAPI 3.1."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aiohttp import web

from ..schema import NAMESPACE
from .pages import PAGES, sent
from .refusal import OWN

DESCRIPTION = Path(__file__).with_name("openapi.yaml")
METHODS = ("get", "post", "put", "patch", "delete")

routes = web.RouteTableDef()


@routes.get("/limner/openapi.json")
async def described(request: web.Request) -> web.Response:
    """The description of this server."""
    return sent(request, await request.app[PAGES].page("openapi", document))


@cache
def document() -> dict[str, Any]:
    """The whole description."""
    import yaml

    found: dict[str, Any] = yaml.safe_load(DESCRIPTION.read_text("utf-8"))
    found["info"]["version"] = version(NAMESPACE)
    for path, item in found["paths"].items():
        kind = "Error" if path.startswith(OWN) else "ComfyError"
        for method in METHODS:
            if method in item:
                item[method]["responses"].setdefault("default", {"$ref": f"#/components/responses/{kind}"})
    return found
