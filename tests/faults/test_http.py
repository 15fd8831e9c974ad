"""Visitors who are many, slow, loud or gone: others are served all the same."""

import asyncio
import contextlib
import os
import socket
import struct
import threading
import time

import pytest
from server_process import entry, picture, serving, until

HANDSHAKE = (
    b"GET /ws?clientId=%d HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def connected(server):
    host, _, port = server.address.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def websocket(server, number=0):
    sock = connected(server)
    sock.sendall(HANDSHAKE % number)
    assert sock.recv(4096).startswith(b"HTTP/1.1 101")
    return sock


def frame(opcode, content):
    """A frame as clients send it, masked with zeros."""
    size = len(content)
    head = bytes([0x80 | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 1 << 16:
        head += bytes([0x80 | 126]) + struct.pack(">H", size)
    else:
        head += bytes([0x80 | 127]) + struct.pack(">Q", size)
    return head + bytes(4) + content


def quick(server):
    began = time.monotonic()
    assert server.ask("/queue")[0] == 200
    return time.monotonic() - began < 1


@pytest.mark.long
def test_five_hundred_idle_visitors_and_two_hundred_sockets_keep_nobody_waiting(server):
    with contextlib.ExitStack() as held:
        for _ in range(500):
            held.enter_context(connected(server))
        for k in range(200):
            held.enter_context(websocket(server, k))
        assert quick(server)
        assert server.run(picture())["state"] == "done"
        assert quick(server)


@pytest.mark.long
@pytest.mark.parametrize(
    "content",
    [frame(9, b"x" * 100), frame(2, os.urandom(1000)), frame(1, b"{nonsense"), frame(1, b"\xff\xfe"), frame(3, b"")],
    ids=["pings", "junk", "no JSON", "no text", "no frame"],
)
def test_whoever_floods_a_socket_harms_himself_alone(server, content):
    with websocket(server, 1) as loud, websocket(server, 2) as quiet:
        stop = threading.Event()

        def flood():
            with contextlib.suppress(OSError):
                for _ in range(200):
                    if not stop.is_set():
                        loud.sendall(content * 100)

        flooding = threading.Thread(target=flood)
        flooding.start()
        try:
            assert all(quick(server) for _ in range(20))
            assert server.run(picture())["state"] == "done"
        finally:
            stop.set()
            with contextlib.suppress(OSError):  # the server has hung up
                loud.shutdown(socket.SHUT_RDWR)
            flooding.join()
        quiet.sendall(frame(9, b"there?"))
        heard = b""
        while b"there?" not in heard:
            heard += quiet.recv(65536)


@pytest.mark.long
def test_whoever_asks_much_and_reads_nothing_costs_little(server):
    with contextlib.ExitStack() as held:
        before = server.rss()
        for _ in range(50):
            sock = held.enter_context(connected(server))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.sendall(b"GET /object_info HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
        assert all(quick(server) for _ in range(5))
        assert server.run(picture())["state"] == "done"
        assert server.rss() - before < 50 << 20


@pytest.mark.long
def test_a_job_goes_on_when_its_client_has_gone_and_who_comes_back_hears_it_all(server, tmp_path):
    with websocket(server, 77):
        gate = entry("FaultyGate", folder=str(tmp_path), steps=1, pause=0.01)
        name = server.post({"1": gate}, client_id="77")
        until((tmp_path / "begun").exists)
    (tmp_path / "go").touch()
    assert server.ended(name)["state"] == "done"
    told = [server.messages(name, kind) for kind in ("queued", "started", "node_started", "node_finished", "finished")]
    assert [len(events) for events in told] == [1] * 5
    assert told[-1][0]["state"] == "done"


def test_a_request_whose_headers_stop_coming_is_not_waited_for(tmp_path, monkeypatch):
    from aiohttp import web
    from limner.core.server import listen
    from limner.core.server.settings import Settings

    monkeypatch.setattr(listen, "IDLE", 0.3)

    async def scenario():
        ready = asyncio.Event()
        settings = Settings(port=0)
        sockets = listen.bound(settings)
        serving = asyncio.create_task(listen.listen(web.Application(), settings, sockets, ready.set))
        await ready.wait()
        port = sockets[0].getsockname()[1]
        for words in (b"", b"GET /queue HTTP/1.1\r\n", b"GET /queue HTTP/1.1\r\nHost: loc"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(words)
            async with asyncio.timeout(5):
                await reader.read()  # to the end: it hangs up
            writer.close()
            await writer.wait_closed()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        for sock in sockets:
            sock.close()

    asyncio.run(scenario())


@pytest.mark.long
def test_ten_thousand_nodes_in_a_chain_a_fan_and_a_ladder_are_checked_and_run_over_the_wire(tmp_path):
    chain = {"0": entry("PrimitiveString", value="x")}
    chain |= {str(k): entry("StringTrim", string=[str(k - 1), 0], mode="Both") for k in range(1, 10_000)}
    fan = {"0": entry("PrimitiveString", value="x")}
    fan |= {str(k): entry("PreviewAny", source=["0", 0]) for k in range(1, 10_001)}
    ladder = {"0": entry("PrimitiveString", value="x")}
    for k in range(1, 41):
        ladder[str(k)] = entry("StringReplace", string=[str(k - 1), 0], find=[str(k - 1), 0], replace=[str(k - 1), 0])
    circle = {str(k): entry("StringTrim", string=[str((k + 1) % 1000), 0], mode="Both") for k in range(1000)}
    with serving(tmp_path) as server:
        server.well()
        for graph, last in ((chain, "9999"), (fan, None), (ladder, "40")):
            whole = graph if last is None else {**graph, "end": entry("PreviewAny", source=[last, 0])}
            began = time.monotonic()
            status, answer = server.ask("/limner/validate", {"limner": 1, "graph": whole})
            assert (status, answer["valid"]) == (200, True)
            assert time.monotonic() - began < 4  # of a machine that others use too
            job = server.run(whole)
            assert job["state"] == "done", job["error"]
        status, answer = server.ask("/prompt", {"prompt": {**circle, "end": entry("PreviewAny", source=["0", 0])}})
        assert status == 400
        server.well()
