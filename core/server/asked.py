"""What a body asks for: a workflow in whatever form, and what is to be done with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aiohttp import web

from .. import strict_json
from ..litegraph.kinds import SocketsOf
from ..pictures import texts
from ..workflow import PICTURES, Document, carried, parse
from .guard import JSON_LIMIT, Refused, read_body
from .keys import OFFICE

WRAPPED = "workflow"  # the key of the workflow in a body that says more than it


@dataclass(frozen=True, slots=True)
class Asked:
    """A workflow, and what else was said."""

    document: Document
    said: Mapping[str, Any]

    @property
    def targets(self) -> tuple[str, ...]:
        """The nodes that are wanted; none: all that save or show something."""
        return _names(self.said, "targets")

    @property
    def forced(self) -> frozenset[str]:
        """The nodes that are to run whatever is cached; `*` stands for all."""
        return frozenset(_names(self.said, "force"))

    def text(self, name: str, default: str = "") -> str:
        """What was said as `name`, which is a text."""
        return str(_typed(self.said, name, str, "a text", default))

    def number(self, name: str, default: int = 0) -> int:
        """What was said as `name`, which is a whole number."""
        return int(_typed(self.said, name, int, "a whole number", default))

    def truth(self, name: str) -> bool:
        """What was said as `name`, which is true or false."""
        return bool(_typed(self.said, name, bool, "true or false", default=False))

    def data(self, name: str) -> Mapping[str, Any]:
        """What was said as `name`, which is an object."""
        found: Mapping[str, Any] = _typed(self.said, name, dict, "an object", {})
        return found

    def only(self, *names: str) -> None:
        """Refuse what nobody would look at: it is a typing error, or meant for another server."""
        if unknown := sorted(self.said.keys() - {WRAPPED, *names}):
            known = ", ".join((WRAPPED, *names))
            raise Refused(400, "unknown_field", f"nothing here is called {unknown[0]!r}; there are: {known}")


async def asked(request: web.Request, *names: str) -> Asked:
    """What was sent: a workflow by itself, or an object with one as `workflow` and with some of `names`."""
    body = await read_body(request, JSON_LIMIT)
    found = await asyncio.to_thread(_read, body, request.app[OFFICE].host.sockets)
    found.only(*names)
    return found


def document(body: bytes, known: SocketsOf) -> Document:
    """The workflow that a body is, or that it carries if it is a picture."""
    if not any(body.startswith(mark, place) for place, mark in PICTURES):
        return parse(body, "the body", known)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "picture"
        path.write_bytes(body)
        return carried(texts(path), "the body", known)


def _read(body: bytes, known: SocketsOf) -> Asked:
    if not body.lstrip().startswith(b"{"):  # a picture, or what is no workflow
        return Asked(document(body, known), {})
    try:
        data = strict_json.loads(body)
    except ValueError as error:
        raise Refused(400, "invalid_json", f"the body {error}") from None
    inner = data.get(WRAPPED)
    if not isinstance(inner, dict) or "class_type" in inner:
        return Asked(parse(body, "the body", known), {})
    return Asked(parse(json.dumps(inner), f"the {WRAPPED!r} in the body", known), data)


def _names(said: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = said.get(name) or ()
    if not isinstance(found, list | tuple) or not all(isinstance(each, str) for each in found):
        raise Refused(400, "bad_field", f"{name!r} must be a list of nodes' ids", field=name)
    return tuple(found)


def _typed(said: Mapping[str, Any], name: str, kind: type, words: str, default: Any) -> Any:
    found = said.get(name, default)
    if type(found) is not kind:
        raise Refused(400, "bad_field", f"{name!r} must be {words}, not {json.dumps(found)[:80]}", field=name)
    return found
