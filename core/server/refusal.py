"""How errors go out: as JSON, in the shape that a route's clients know, without traceback or path of the machine."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from ..errors import LimnerError
from ..folders import SHIPPED, Folders

OWN = ("/limner/", "/health", "/metrics")  # routes whose errors have Limner's own shape
STATUS: Mapping[str, int] = {  # of errors of ours, by their codes
    "usage": 400,
    "bad_workflow": 400,
    "invalid_graph": 400,
    "bad_image_file": 400,
    "bad_model_file": 400,
    "model_missing": 404,
    "no_such_job": 404,
    "conflict": 409,
    "gone": 410,
    "no_device": 503,
    "out_of_memory": 503,
    "busy": 503,
    "bad_queue": 503,
    "cannot_write": 507,
}


class Refused(LimnerError):
    """A request that is answered with an error: its status, a code for programs and a sentence for people."""

    def __init__(
        self, status: int, kind: str, message: str, *, headers: Mapping[str, str] | None = None, **details: Any
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.details, self.headers = status, kind, details, headers or {}


def answered(error: LimnerError, path: str, folders: Folders) -> web.Response:
    """The answer to a request for `path` that ended in an error of ours."""
    message = hidden(str(error), folders)
    if isinstance(error, Refused):
        return failure(error.status, error.kind, message, path, error.headers, **error.details)
    return failure(STATUS.get(error.code, 500), error.code, message, path)


def failure(
    status: int, code: str, message: str, path: str, headers: Mapping[str, str] | None = None, /, **details: Any
) -> web.Response:
    """An error, in the shape that clients of the route at `path` know."""
    body: dict[str, Any]
    if path.removeprefix("/api").startswith(OWN):
        body = {"error": {"code": code, "message": message, **details}}
    else:
        error = {"type": code, "message": message, "details": "", "extra_info": details}
        body = {"error": error, "node_errors": {}}
    answer = web.json_response(body, status=status, headers=headers)
    if answer.headers.get("Connection") == "close":
        answer.force_close()
    return answer


def hidden(text: str, folders: Folders) -> str:
    """`text` without where on the machine things lie: what is below a folder of ours is named from there on."""
    for root in _roots(folders):
        text = text.replace(f"{root}{os.sep}", "").replace(root, Path(root).name)
    return text


def _roots(folders: Folders) -> list[str]:
    """The folders that nobody outside need know, longest first."""
    named = [path for lists in (folders.first, folders.further) for paths in lists.values() for path in paths]
    own = {
        path.absolute() for path in (folders.base, folders.inputs, folders.output, folders.temp, folders.data, *named)
    }
    own |= {path.resolve() for path in own}
    outer = {path for path in own if own.isdisjoint(path.parents)}
    system = {SHIPPED.parents[2], Path.home(), Path(sys.prefix), Path(sys.base_prefix), Path(tempfile.gettempdir())}
    found = {str(path) for path in outer | system if len(path.parts) > 1}
    return sorted(found, key=len, reverse=True)
