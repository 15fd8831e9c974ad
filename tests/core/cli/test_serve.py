"""`limner serve`: what its flags come to, and a real process that starts, answers, works and ends."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from limner.core.cli import parser
from limner.core.cli.serve import Hiding, plan_of, settings_of
from limner.core.errors import UsageError
from limner.core.server.hosting import Plan, devices, opened
from limner.core.server.settings import Settings
from limner.core.server.start import sweep

PATIENCE = 30  # seconds
TEXT = {
    "1": {"class_type": "PrimitiveString", "inputs": {"value": "a frog"}},
    "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
}


def options(*words: object) -> argparse.Namespace:
    return parser().parse_args(["serve", *map(str, words)])


# --------------------------------------------------------------------------------------------------------------- flags


def test_without_flags_only_this_machine_is_served(monkeypatch):
    monkeypatch.delenv("LIMNER_TOKEN", raising=False)
    assert settings_of(options()) == Settings()
    assert plan_of(options()) == Plan()
    assert not Settings().public


def test_every_flag_comes_to_something(tmp_path):
    (tmp_path / "front").mkdir()
    found = settings_of(
        options(
            *("--listen", "127.0.0.1,[::1]", "--port", 9000, "--token", "secret", "--allow-host", "Limner.Example:443"),
            *("--allow-host", "other", "--enable-cors-header", "http://localhost:5173/", "--max-upload-size", "1.5"),
            *("--preview-method", "auto", "--preview-size", 256, "--front-end-root", tmp_path / "front"),
            *("--no-metadata", "--start-paused", "--workers", 2, "--batch-jobs", 4),
        )
    )
    assert found == Settings(
        listen=("127.0.0.1", "::1"),
        port=9000,
        token="secret",
        allow_hosts=frozenset({"limner.example", "other"}),
        cors="http://localhost:5173",
        max_upload_size=3 << 19,
        preview_method="auto",
        preview_size=256,
        front_end=tmp_path / "front",
        metadata=False,
        paused=True,
        workers=2,
        together=4,
    )


def test_folders_come_to_a_plan_and_the_plan_to_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("extra.yaml").write_text(
        "a:\n  base_path: web\n  loras: l\n  custom_nodes: n\nb:\n  is_default: true\n  vae: v\n"
    )
    Path("more.yaml").write_text("c:\n  loras: m\n")
    plan = plan_of(
        options(
            *("--base-directory", "base", "--output-directory", "out", "--input-directory", "in"),
            *("--temp-directory", "elsewhere", "--data", "data", "--packs", "p", "--packs", "q"),
            *("--extra-model-paths-config", "extra.yaml", "more.yaml", "--cpu", "--dtype", "float32"),
            *("--vram-budget", "2GB", "--cache-lru", 7, "--no-metadata"),
        )
    )
    folders = Plan(**json.loads(json.dumps(plan.as_json()))).folders
    assert (folders.base, folders.output, folders.inputs) == tuple(tmp_path / name for name in ("base", "out", "in"))
    assert folders.temp == tmp_path / "elsewhere" / "temp", "ComfyUI makes a folder of its own in there"
    assert (folders.data, folders.cache) == (tmp_path / "data", tmp_path / "data" / "cache")
    base = tmp_path / "base" / "models"
    assert folders.roots("loras") == [base / "loras", tmp_path / "web" / "l", tmp_path / "m"]
    assert folders.roots("vae") == [tmp_path / "v", base / "vae"]
    assert plan.packs == (*(str(tmp_path / name) for name in ("p", "q")), str(tmp_path / "web" / "n"))
    assert (plan.device, plan.dtype, plan.vram_budget, plan.cache_entries) == ("cpu", "float32", 2 << 30, 7)
    assert not plan.metadata


def test_a_host_is_what_its_plan_says(tmp_path):
    host, packs = opened(Plan(base=str(tmp_path), device="cpu", cache_entries=3, metadata=False))
    assert (host.folders.base, host.settings.device, host.settings.metadata) == (tmp_path, "cpu", False)
    assert (host.cache.most, host.store is None) == (3, False)
    assert {"KSampler", "limner.Sample"} <= set(host.registry)
    assert packs.reports == ()
    none, _ = opened(Plan(base=str(tmp_path), cache_entries=0))
    assert (none.cache.most, none.store) == (0, None)


def test_the_token_may_come_from_the_environment_and_the_flag_counts_more(monkeypatch):
    monkeypatch.setenv("LIMNER_TOKEN", "from-outside")
    assert settings_of(options()).token == "from-outside"
    assert settings_of(options("--token", "from-the-flag")).token == "from-the-flag"


@pytest.mark.parametrize(
    ("words", "listen"),
    [
        (["--listen"], ("0.0.0.0", "::")),
        (["--listen", "0.0.0.0"], ("0.0.0.0",)),
        (["--listen", "localhost, 127.0.0.1"], ("localhost", "127.0.0.1")),
    ],
)
def test_addresses_are_named_as_comfyui_names_them(words, listen):
    assert settings_of(options(*words)).listen == listen


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--token", ""], "--token must be letters"),
        (["--token", "a b"], "--token must be letters"),
        (["--token", "ü"], "--token must be letters"),
        (["--listen", ","], "--listen takes addresses"),
        (["--port", "65536"], "--port is from 0 to 65535, not 65536"),
        (["--port", "-1"], "--port is from 0 to 65535, not -1"),
        (["--workers", "-1"], "--workers is from 0 to 256"),
        (["--batch-jobs", "0"], "--batch-jobs is from 1 to 64"),
        (["--max-upload-size", "0"], "--max-upload-size is from"),
        (["--max-upload-size", "nan"], "--max-upload-size is from"),
        (["--allow-host", "a b"], "--allow-host takes a name"),
        (["--allow-host", "*"], "--allow-host takes a name"),
        (["--allow-host", ""], "--allow-host takes a name"),
        (["--enable-cors-header", "localhost"], "--enable-cors-header takes an origin"),
        (["--enable-cors-header", "http://a/b"], "--enable-cors-header takes an origin"),
        (["--front-end-root", "gone"], "--front-end-root gone is no folder"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(words, reason):
    with pytest.raises(UsageError, match=re.escape(reason)):
        settings_of(options(*words))


@pytest.mark.parametrize(("name", "known"), [("cpu", True), ("cuda:1", True), ("banana", False), ("cpu:0", False)])
def test_a_device_that_there_never_is_is_refused_before_the_first_job(name, known):
    if known:
        assert plan_of(options("--device", name)).device == name
    else:
        with pytest.raises(UsageError, match=f"auto, cpu, cuda or cuda:N, not '{name}'"):
            plan_of(options("--device", name))


def test_a_number_of_results_is_not_below_none():
    with pytest.raises(UsageError, match="--cache-lru is from 0"):
        plan_of(options("--cache-lru", "-1"))
    assert plan_of(options("--cache-none")).cache_entries == 0


def test_each_worker_has_a_device_of_its_own_as_far_as_nobody_says_otherwise():
    assert devices(Plan(), 3) == ["auto:0", "auto:1", "auto:2"]
    assert devices(Plan(device="cpu"), 2) == ["cpu", "cpu"]


def test_a_log_has_no_secret_in_it_wherever_it_came_from():
    record = logging.LogRecord("x", 40, "f", 1, "GET /?token=%s failed", ("se+cret",), None)
    assert "se+cret" not in Hiding("se+cret").format(record)
    assert "failed" in Hiding("se+cret").format(record)
    assert "se+cret" in Hiding("").format(record)


def test_old_previews_are_removed_and_nothing_else(tmp_path):
    for name, days in {"old.png": 8, "new.png": 6, "kept/old.png": 8}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (time.time() - days * 86400,) * 2)
    (tmp_path / "link.png").symlink_to("kept/old.png")
    sweep(tmp_path)
    sweep(tmp_path / "gone")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kept", "link.png", "new.png"]
    assert (tmp_path / "kept" / "old.png").exists()


# ------------------------------------------------------------------------------------------------------------ processes


class Running:
    """A server in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], line: str) -> None:
        self.process, self.line = process, line
        self.address = re.search(r"http://[^/\s]+", line)[0]

    def ask(self, path: str, data: Any = None, **headers: str) -> tuple[int, bytes]:
        """What it answers."""
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(f"{self.address}{path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def end(self, *signs: int) -> tuple[int, str, float]:
        """Send signals; its exit code, what it said on standard error, and how long that took."""
        began = time.monotonic()
        for sign in signs:
            self.process.send_signal(sign)
        errors = self.process.communicate(timeout=PATIENCE)[1]
        return self.process.returncode, errors, time.monotonic() - began


def command(base: Path, *words: object) -> list[str]:
    return [sys.executable, "-m", "limner", "serve", "--port", "0", "--base-directory", str(base), *map(str, words)]


@contextmanager
def running(base: Path, *words: object, **environment: str) -> Iterator[Running]:
    """A server for as long as the block lasts."""
    process = subprocess.Popen(
        command(base, *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        yield Running(process, line)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_a_server_answers_soon_says_where_it_is_and_ends_at_ctrl_c(tmp_path):
    began = time.monotonic()
    with running(tmp_path) as server:
        assert re.fullmatch(r"Limner is at http://127\.0\.0\.1:\d+\n", server.line)
        assert server.ask("/queue") == (200, b'{"queue_running": [], "queue_pending": []}')
        assert time.monotonic() - began < 5
        assert server.ask("/")[0] == 200
        assert server.ask("/", Host="evil.example")[0] == 403
        code, errors, seconds = server.end(signal.SIGINT)
    assert (code, errors) == (130, "")
    assert seconds < 10


@pytest.mark.parametrize("words", [[], ["--workers", "1", "--cpu"]], ids=["in process", "a worker"])
def test_a_server_runs_a_workflow_and_shows_what_came_of_it(tmp_path, words):
    with running(tmp_path, *words) as server:
        status, answer = server.ask("/prompt", {"prompt": TEXT})
        assert status == 200, answer
        name = json.loads(answer)["prompt_id"]
        until = time.monotonic() + PATIENCE
        while not (found := json.loads(server.ask(f"/history/{name}")[1])):
            assert time.monotonic() < until
            time.sleep(0.05)
        assert found[name]["status"]["status_str"] == "success"
        assert found[name]["outputs"]["2"] == {"text": ["a frog"]}
        code, errors, seconds = server.end(signal.SIGTERM)
    assert (code, seconds < 10) == (143, True), errors
    assert (tmp_path / "limner.db").is_file()


PACK = """
import threading, time
class Stuck:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {})}}
    RETURN_TYPES = ()
    FUNCTION = "wait"
    OUTPUT_NODE = True
    def wait(self, text):
        open(text, "w").close()
        while True:
            time.sleep(0.05)
NODE_CLASS_MAPPINGS = {"Stuck": Stuck}
"""


@pytest.mark.long
@pytest.mark.parametrize("words", [[], ["--workers", "1", "--cpu"]], ids=["in process", "a worker"])
def test_a_node_of_a_pack_that_never_ends_does_not_keep_the_server_from_ending(tmp_path, words):
    pack = tmp_path / "packs" / "stuck"
    pack.mkdir(parents=True)
    (pack / "__init__.py").write_text(PACK)
    began = tmp_path / "began"
    with running(tmp_path, "--packs", tmp_path / "packs", *words) as server:
        prompt = {"1": {"class_type": "Stuck", "inputs": {"text": str(began)}}}
        status, answer = server.ask("/prompt", {"prompt": prompt})
        assert status == 200, answer
        until = time.monotonic() + PATIENCE
        while not began.exists():
            assert time.monotonic() < until
            time.sleep(0.02)
        code, errors, seconds = server.end(signal.SIGTERM)
    assert code == 143, errors
    assert seconds < 10
    with running(tmp_path, "--start-paused") as server:
        waiting = json.loads(server.ask("/queue")[1])
        assert len(waiting["queue_pending"]) == 1, "it is not lost"


def test_for_others_a_token_is_made_and_said_once(tmp_path):
    with running(tmp_path, "--listen", "0.0.0.0", "--verbose") as server:
        token = re.search(r"/\?token=(\S{40,})$", server.line.strip())
        assert token
        assert "http://0.0.0.0" not in server.line
        server.address = f"http://127.0.0.1:{server.address.rpartition(':')[2]}"
        assert server.ask("/queue")[0] == 401
        assert server.ask("/queue", Authorization=f"Bearer {token[1]}")[0] == 200
        assert server.ask("/queue", Host="evil.example", Authorization=f"Bearer {token[1]}")[0] == 403
        assert server.ask(f"/queue?token={token[1]}")[0] == 401, "urllib follows, and keeps no cookie"
        with socket.create_connection(("127.0.0.1", int(server.address.rpartition(":")[2]))) as raw:
            raw.sendall(f"GET /?token={token[1]} HTTP/9.9\r\nHost: nonsense {token[1]}\r\n\r\n".encode())
            raw.recv(1000)
        code, errors, _ = server.end(signal.SIGINT)
    assert code == 130
    assert "GET /queue 200" in errors
    assert "is not encrypted" in errors
    assert token[1] not in errors


def test_a_token_that_somebody_gave_is_not_said(tmp_path):
    with running(tmp_path, "--listen", "0.0.0.0", LIMNER_TOKEN="very-secret") as server:
        assert "secret" not in server.line
        server.address = f"http://127.0.0.1:{server.address.rpartition(':')[2]}"
        assert server.ask("/queue", Authorization="Bearer very-secret")[0] == 200
        assert server.ask("/queue")[0] == 401


def test_two_servers_on_one_folder_are_one_too_many(tmp_path):
    with running(tmp_path) as first:
        second = subprocess.run(command(tmp_path), capture_output=True, text=True, check=False, timeout=PATIENCE)
        assert second.returncode == 2
        assert str(first.process.pid) in second.stderr
        assert first.address in second.stderr
        assert second.stderr.startswith("limner: another server ")
        with running(tmp_path, "--data", tmp_path / "data") as third:
            assert third.ask("/queue")[0] == 200


def test_a_port_that_is_taken_is_said(tmp_path):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        words = [*command(tmp_path), "--port", str(port)]
        said = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert said.returncode == 2
    assert said.stderr.startswith(f"limner: port {port} of 127.0.0.1 is in use")
    assert "Traceback" not in said.stderr
    assert not (tmp_path / "limner.db").exists()


@pytest.mark.parametrize("host", ["203.0.113.7", "no.such.host.invalid", "999.1.1.1"])
def test_an_address_that_is_not_ours_is_said(tmp_path, host):
    words = [*command(tmp_path), "--listen", host, "--token", "x"]
    said = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert said.returncode == 2
    assert host in said.stderr
    assert "Traceback" not in said.stderr


def test_a_second_ctrl_c_ends_at_once(tmp_path):
    """With an answer that is being given, which the first one waits for."""
    with running(tmp_path) as server:
        stream = urllib.request.urlopen(f"{server.address}/limner/events", timeout=PATIENCE)
        server.process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:  # it has heard the first one when it takes no visitors any more
            try:
                server.ask("/queue")
            except OSError:
                break
        code, _, seconds = server.end(signal.SIGINT) if server.process.poll() is None else (130, "", 0.0)
        stream.close()
    assert code in (130, -signal.SIGINT)  # if it comes when Python itself is ending: shells show both as 130
    assert seconds < 2


def test_whatever_is_open_the_server_ends_within_ten_seconds(tmp_path):
    with running(tmp_path) as server:
        host, port = server.address.removeprefix("http://").split(":")
        idle = [socket.create_connection((host, int(port))) for _ in range(20)]
        idle[0].sendall(b"POST /prompt HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        idle[1].sendall(b"GET /limner/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        idle[2].sendall(
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        idle[2].recv(1000)
        code, errors, seconds = server.end(signal.SIGTERM)
        for sock in idle:
            sock.close()
    assert code == 143, errors
    assert seconds < 10


def test_no_more_connections_are_taken_than_files_allow_and_the_server_recovers(tmp_path):
    limited = (
        "import resource, sys; from limner.core.cli import main; "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80)); sys.exit(main())"
    )
    words = [sys.executable, "-c", limited, *command(tmp_path)[3:]]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        server = Running(process, process.stdout.readline())
        host, port = server.address.removeprefix("http://").split(":")
        with contextlib.ExitStack() as held:
            socks = [
                held.enter_context(socket.create_connection((host, int(port)), timeout=PATIENCE)) for _ in range(45)
            ]
            for sock in socks:
                sock.sendall(b"GET /queue HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert {sock.recv(100).split()[1] for sock in socks} == {b"200", b"503"}
        until = time.monotonic() + PATIENCE
        while (status := server.ask("/queue")[0]) != 200:
            assert status == 503
            assert time.monotonic() < until
    finally:
        process.kill()
        process.communicate()


def test_five_hundred_idle_visitors_do_not_keep_another_one_waiting(tmp_path):
    with running(tmp_path) as server:
        host, port = server.address.removeprefix("http://").split(":")
        with contextlib.ExitStack() as idle:
            for _ in range(500):
                idle.enter_context(socket.create_connection((host, int(port))))
            began = time.monotonic()
            assert server.ask("/queue")[0] == 200
            assert time.monotonic() - began < 1


def test_starting_loads_no_torch_before_the_first_answer(tmp_path):
    code = """
import sys, threading
from limner.core.server import listen, start
from limner.core.cli import main
real = listen.listen
async def stop(app, settings, sockets, ready):
    print("loaded:", *(n for n in ("torch", "transformers", "numpy", "PIL") if n in sys.modules))
    return 0
start.listen = stop
main(sys.argv[1:])
"""
    words = command(tmp_path)[3:]
    said = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert said.stdout == "loaded:\n", said.stderr
