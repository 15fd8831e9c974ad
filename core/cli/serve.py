"""`limner serve`: flags to settings, and a line that says where the server is."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import sys
from pathlib import Path
from secrets import token_urlsafe

from ..errors import UsageError
from ..schema import NAMESPACE
from ..server.hosting import Plan
from ..server.listen import bound, with_token
from ..server.model_paths import read
from ..server.settings import Settings

VARIABLE = "LIMNER_TOKEN"
TOKEN = re.compile(r"[!-~]{1,1000}")  # what a header can hold
DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?")
ORIGIN = re.compile(r"https?://[^/\s?#@]+")
QUIET = ("aiohttp.server", "asyncio")  # they tell of every client that talks nonsense


def serve(options: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    made = ""
    settings, plan = settings_of(options), plan_of(options)
    if settings.public and not settings.token:
        made = token_urlsafe(32)
        settings = settings_of(options, made)
    sockets = bound(settings)
    try:
        logged(options.verbose, settings.token)
        warn(settings)

        def say(addresses: list[str]) -> None:
            shown = " and ".join(with_token(address, made) if made else address for address in addresses)
            print(f"Limner is at {shown}", flush=True)  # noqa: T201 - the answer of the command

        from ..server import start

        return asyncio.run(start.serve(plan, settings, sockets, say))
    finally:
        for sock in sockets:
            sock.close()


def settings_of(options: argparse.Namespace, token: str = "") -> Settings:
    """How the server listens.  Raises `UsageError` for what makes no sense."""
    token = token or (os.environ.get(VARIABLE, "") if options.token is None else options.token)
    if (token or options.token is not None) and not TOKEN.fullmatch(token):
        raise UsageError("--token must be letters, digits and signs of ASCII, without spaces")
    if options.front_end_root is not None and not options.front_end_root.is_dir():
        raise UsageError(f"--front-end-root {options.front_end_root} is no folder")
    origin = options.enable_cors_header.rstrip("/")
    if origin not in ("", "*") and not ORIGIN.fullmatch(origin):
        raise UsageError(f"--enable-cors-header takes an origin such as http://localhost:5173, not {origin!r}")
    return Settings(
        listen=_listened(options.listen),
        port=int(_within("--port", options.port, 0, 65535)),
        token=token,
        allow_hosts=frozenset(_named(name) for name in options.allow_host),
        cors=origin,
        max_upload_size=int(_within("--max-upload-size", options.max_upload_size, 0.001, 1 << 20) * (1 << 20)),
        preview_method=options.preview_method,
        preview_size=int(_within("--preview-size", options.preview_size, 16, 4096)),
        front_end=options.front_end_root and options.front_end_root.absolute(),
        metadata=options.metadata,
        paused=options.start_paused,
        workers=int(_within("--workers", options.workers, 0, 256)),
        together=int(_within("--batch-jobs", options.batch_jobs, 1, 64)),
    )


def plan_of(options: argparse.Namespace) -> Plan:
    """Where files lie, and how networks compute."""
    elsewhere = read(options.extra_model_paths_config)
    temp = options.temp_directory and options.temp_directory / "temp"  # ComfyUI's meaning: others may use the folder
    entries = options.cache_entries
    if not DEVICE.fullmatch(options.device):  # whether it is there is known when torch is
        raise UsageError(f"--device is auto, cpu, cuda or cuda:N, not {options.device!r}")
    return Plan(
        base=_absolute(options.base),
        inputs=_absolute(options.input_directory),
        output=_absolute(options.output_directory),
        temp=_absolute(temp),
        data=_absolute(options.data),
        first={kind: [str(path) for path in paths] for kind, paths in elsewhere.first.items()},
        further={kind: [str(path) for path in paths] for kind, paths in elsewhere.further.items()},
        packs=tuple(_absolute(path) for path in (*options.packs, *elsewhere.packs)),
        device="cpu" if options.cpu else options.device,
        dtype=options.dtype,
        vram_budget=options.vram_budget,
        cache_entries=None if entries is None else int(_within("--cache-lru", entries, 0, 1 << 30)),
        metadata=options.metadata,
    )


def warn(settings: Settings) -> None:
    """Say what is open that is usually closed."""
    log = logging.getLogger(__name__)
    if settings.cors == "*":
        log.warning("every web page that a person on this network visits may use this server (--enable-cors-header)")
    if settings.public:
        log.warning("others can reach this server, and what they send and see is not encrypted")


def logged(level: str, token: str) -> None:
    """Have the log on standard error, without the token."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Hiding(token))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger(NAMESPACE).setLevel(level)
    for name in QUIET if level != "DEBUG" else ():
        logging.getLogger(name).setLevel(logging.CRITICAL)


class Hiding(logging.Formatter):
    """Lines in which a secret is not to be read, wherever it came from."""

    def __init__(self, secret: str) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")
        self._secret = secret

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the traceback if there is one."""
        text = super().format(record)
        return text.replace(self._secret, "***") if self._secret else text


def _listened(text: str) -> tuple[str, ...]:
    hosts = tuple(dict.fromkeys(host.strip().strip("[]").lower() for host in text.split(",")))
    if not all(hosts):
        raise UsageError(f"--listen takes addresses with commas between them, not {text!r}")
    return hosts


def _named(name: str) -> str:
    """A name of the server as it stands in a request, without the port."""
    host = re.fullmatch(r"(?:https?://)?(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d+)?/?", name.strip().lower())
    if host is None:
        raise UsageError(f"--allow-host takes a name such as limner.example, not {name!r}")
    return host[1].strip("[]")


def _within(flag: str, value: float, low: float, high: float) -> float:
    if not low <= value <= high:
        raise UsageError(f"{flag} is from {low} to {high}, not {value}")
    return value


def _absolute(path: Path | None) -> str:
    return "" if path is None else str(path.expanduser().absolute())
