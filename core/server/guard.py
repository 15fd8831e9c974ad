"""Who may come in: rules that hold for every route, and are asked before any handler.

A page that somebody visits cannot reach the server: neither by a name of its own (Host), nor from its own address
(Origin, Sec-Fetch-Site).  Whoever is not on this machine needs the token.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from hmac import compare_digest
from hmac import new as hmac
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Middleware

from ..errors import LimnerError
from ..folders import Folders
from .bodies import JSON_LIMIT, read_body, read_json, read_object
from .refusal import Refused, answered, failure, hidden
from .renditions import AT_ONCE, DECODERS
from .settings import Settings, is_loopback

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

__all__ = [  # what a handler wants of the guard is here, wherever it lies
    "JSON_LIMIT", "Refused", "failure", "hidden", "install", "read_body", "read_json", "read_object"
]  # fmt: skip

HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?)(?::(\d{1,5}))?", re.ASCII)
PORTS = {"http": "80", "https": "443"}
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"
HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": DATA_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
}
PREPARED = web.RequestKey("prepared", bool)  # marks a request whose answer has begun
COOKIE_PURPOSE = b"limner cookie"
log = logging.getLogger(__name__)


def install(app: web.Application, settings: Settings, folders: Folders) -> None:
    """Have all requests to `app` pass the rules."""
    rules = _errors(folders), _hosts(settings), _origins(settings), _tokens(settings), _sockets(settings)
    app.middlewares.extend(web.middleware(rule) for rule in rules)
    app[DECODERS] = asyncio.Semaphore(AT_ONCE)
    app.on_response_prepare.append(_dressed(settings))


# ----------------------------------------------------------------------------------------------------------- the rules


def host_allowed(host: str, settings: Settings) -> bool:
    """Whether the server answers to this name: exactly, on any port, and never by asking what it resolves to.

    An address is no name that somebody else could have lead here: a server for others answers to every one.
    """
    match = HOST.fullmatch(host.lower())
    if match is None or int(match[2] or 0) > 65535:
        return False
    name = match[1].strip("[]")
    if is_loopback(name) or name in settings.allow_hosts or name in settings.listen:
        return True
    return settings.public and _is_address(name)


def origin_allowed(origin: str, host: str, settings: Settings) -> bool:
    """Whether a page of this origin is ours: it has the very name and port that the server was called by."""
    scheme, _, rest = origin.lower().partition("://")
    if scheme in PORTS and HOST.fullmatch(rest) and _whole(rest, scheme) == _whole(host.lower(), scheme):
        return True
    return let_in(origin, settings)


def let_in(origin: str, settings: Settings) -> bool:
    """Whether the user has asked that pages of another origin may come in."""
    return bool(settings.cors) and settings.cors in ("*", origin)


def opens_the_page(request: web.Request) -> bool:
    """Whether a person goes to the page, which a link anywhere may lead to."""
    headers = request.headers
    navigates = (headers.get("Sec-Fetch-Mode"), headers.get("Sec-Fetch-Dest")) == ("navigate", "document")
    return navigates and request.method in ("GET", "HEAD") and request.path == "/"


def cookie_name(request: web.Request) -> str:
    """Cookies know no ports: servers of one machine must not overwrite each other's."""
    return f"limner-{request.url.port}"


def cookie_value(token: str) -> str:
    """What a browser keeps instead of the token."""
    return hmac(token.encode(), COOKIE_PURPOSE, sha256).hexdigest()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _whole(host: str, scheme: str) -> str:
    """Name and port, where the port may be left out."""
    return host if re.search(r":\d+$", host) else f"{host}:{PORTS[scheme]}"


# ------------------------------------------------------------------------------------------------------- in this order


def _errors(folders: Folders) -> Middleware:
    """Every error is JSON.  What nobody expected is told in the log alone."""

    async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            return _as_json(error, request)
        except LimnerError as error:
            if request.get(PREPARED):
                raise
            return answered(error, request.path, folders)
        except (Exception, SystemExit):  # which a pack's handler may raise: it would end the server
            if request.get(PREPARED):
                raise
            log.exception("%s %s failed", request.method, request.path)
            return failure(500, "internal", "the server failed to do this; its log says why", request.path)

    return errors


def _as_json(error: web.HTTPException, request: web.Request) -> web.StreamResponse:
    """What the router, or a handler of a pack, says with an exception of aiohttp's."""
    if error.status < 400 or error.content_type == "application/json":
        raise error
    allow = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
    takes = allow.get("Allow", "other methods").replace(",", ", ")
    words = {
        404: f"there is nothing at {request.path}",
        405: f"{request.method} is not for {request.path}, which takes {takes}",
    }
    code = re.sub(r"\W+", "_", error.reason.lower())
    return failure(error.status, code, words.get(error.status, error.reason), request.path, allow)


def _hosts(settings: Settings) -> Middleware:
    async def hosts(request: web.Request, handler: Handler) -> web.StreamResponse:
        said = request.headers.getall("Host", [])
        named = {*said, request.host}  # which an address in the first line may give another time
        if len(said) != 1 or not all(host_allowed(host, settings) for host in named):
            raise Refused(
                403, "foreign_host", "the server does not go by this name; --allow-host lets it", host=said[:1]
            )
        return await handler(request)

    return hosts


def _origins(settings: Settings) -> Middleware:
    async def origins(request: web.Request, handler: Handler) -> web.StreamResponse:
        headers = request.headers
        said = headers.getall("Origin", [])
        if len(said) > 1 or not all(origin_allowed(origin, headers["Host"], settings) for origin in said):
            raise Refused(403, "foreign_origin", "pages of other sites may not use this server")
        welcome = settings.cors == "*" or any(let_in(origin, settings) for origin in said)
        foreign = headers.get("Sec-Fetch-Site", "none").lower() not in ("none", "same-origin")
        if foreign and not welcome and not opens_the_page(request):
            raise Refused(403, "foreign_origin", "pages of other sites may not use this server")
        if welcome and request.method == "OPTIONS" and "Access-Control-Request-Method" in headers:
            return web.Response(status=204)
        return await handler(request)

    return origins


def _tokens(settings: Settings) -> Middleware:
    async def tokens(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not settings.token or _has_header(request, settings.token):
            return await handler(request)
        if _has_address(request, settings.token):
            return await handler(request) if _is_socket(request) else _stripped(request, settings.token)
        if compare(request.cookies.get(cookie_name(request), ""), cookie_value(settings.token)):
            return await handler(request)
        words = "this server wants its token: as `Authorization: Bearer ...`, or once in its address as ?token=..."
        raise Refused(401, "no_token", words, headers={"WWW-Authenticate": "Bearer"})

    return tokens


def _has_header(request: web.Request, token: str) -> bool:
    scheme, _, said = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and compare(said.strip(), token)


def _has_address(request: web.Request, token: str) -> bool:
    return request.method == "GET" and compare(request.query.get("token", ""), token)


def compare(said: str, true: str) -> bool:
    """Whether two secrets are equal, in a time that tells nothing of where they differ."""
    return compare_digest(said.encode(errors="replace"), true.encode())


def _stripped(request: web.Request, token: str) -> web.Response:
    """Go to the same page without the token in its address, and keep a cookie instead."""
    url = request.rel_url.without_query_params("token")
    path = "/" + url.raw_path.lstrip("/\\")  # `//name` would lead to another server
    answer = web.Response(status=303, headers={"Location": path + (f"?{url.raw_query_string}" if url.query else "")})
    secure = request.scheme == "https"
    name = cookie_name(request)
    answer.set_cookie(name, cookie_value(token), httponly=True, samesite="Strict", secure=secure, path="/")
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _sockets(settings: Settings) -> Middleware:
    open_now = 0

    async def sockets(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal open_now
        if not _is_socket(request):
            return await handler(request)
        if open_now >= settings.max_sockets:
            raise Refused(503, "too_many_sockets", "too many WebSockets are open", headers={"Retry-After": "5"})
        open_now += 1
        try:
            return await handler(request)
        finally:
            open_now -= 1

    return sockets


def _is_socket(request: web.Request) -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket"


def _dressed(settings: Settings) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Headers that every answer has."""

    async def dressed(request: web.Request, response: web.StreamResponse) -> None:
        request[PREPARED] = True
        headers: Any = response.headers
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        headers["Server"] = "Limner"
        origin = request.headers.get("Origin", "")
        welcome = settings.cors == "*" or let_in(origin, settings)
        headers.setdefault("Cross-Origin-Resource-Policy", "cross-origin" if welcome else "same-origin")
        if welcome and origin:
            headers["Access-Control-Allow-Origin"] = "*" if settings.cors == "*" else origin
            headers["Access-Control-Allow-Methods"] = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
            headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, If-Match, Last-Event-ID"
            headers["Access-Control-Expose-Headers"] = "ETag"
            headers["Vary"] = "Origin"

    return dressed
