"""The server's description of itself, and answers held against it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from aiohttp.test_utils import TestClient
from jsonschema import Draft202012Validator
from limner.core.server.openapi import document
from multidict import CIMultiDictProxy

METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `data` is what its JSON holds."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    data: Any


async def ask(client: TestClient[Any, Any], method: str, path: str, **options: Any) -> Answer:
    """The answer to a request.  It must be as the description says."""
    async with client.request(method, path, **options) as found:
        body = await found.read()
        kind = found.content_type
        data = json.loads(body) if kind == "application/json" and body else None
        check(method.lower(), path.partition("?")[0], found.status, kind if body else "", data)
        return Answer(found.status, found.headers, body, data)


def check(method: str, path: str, status: int, kind: str, data: Any) -> None:
    """Hold an answer against the description."""
    responses = document()["paths"][template(path)][method]["responses"]
    known = resolved(responses.get(str(status), responses["default"] if status >= 400 else None))
    content: Mapping[str, Any] = known.get("content", {})
    assert (kind in content) if kind else (not content or status in (204, 304)), (method, path, status, kind)
    if kind == "application/json":
        errors = [*schema(json.dumps(content[kind]["schema"])).iter_errors(data)]
        assert not errors, f"{method} {path} {status}: {errors[0].json_path}: {errors[0].message}"


@cache
def schema(text: str) -> Draft202012Validator:
    return Draft202012Validator({**json.loads(text), "components": document()["components"]})


def resolved(part: Any) -> Any:
    """`part`, or what it refers to."""
    while part is not None and "$ref" in part:
        found: Any = document()
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    assert part is not None, "no such answer is described"
    return part


@cache
def template(path: str) -> str:
    """The path of the description that a request's path fits: the one with the most fixed letters."""
    fits = [t for t in document()["paths"] if re.fullmatch(_pattern(t), path)]
    assert fits, f"{path} is not described"
    return max(fits, key=lambda t: len(re.sub(r"{\w+}", "", t)))


def _pattern(known: str) -> str:
    parts = re.split(r"({\w+})", known)
    return "".join(
        ("(.+)" if part == "{path}" else "([^/]+)") if part[:1] == "{" else re.escape(part) for part in parts
    )
