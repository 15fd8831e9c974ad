"""Workflows looked at and not run, over HTTP."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import subprocess
import sys
import time

import pytest
import serving as tools
from described import ask
from jsonschema import Draft202012Validator
from limner.core.graph import Problem
from limner.core.messages import ENGLISH
from limner.core.server.keys import OFFICE
from limner.core.server.problems import EXPECTED, NOTHING, told
from serving import chain, entry

BROKEN = {
    "pick": entry("Pick", way="sideways", strength=7),
    "join": entry("Join", first=["pick", 0], second=["nobody", 0]),
    "show": entry("Show", source=["join", 0]),
    "fine": entry("Show", source=["text", 0]),
    "text": entry("Text", text="hello"),
}


def states(data):
    return {each["id"]: each["state"] for each in data["nodes"]}


def picture(kind, **texts):
    """A picture that carries these texts."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword, text)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind, pnginfo=info)
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------------------------ the plan


def test_a_plan_says_what_would_run_before_and_after_a_run(serving):
    async def go():
        async with serving() as client:
            before = await ask(client, "POST", "/limner/plan", json=chain("a", "b"))
            assert set(states(before.data).values()) == {"run"}
            assert before.data["counts"]["run"] == before.data["unknown"] == 4
            await tools.ended(client, (await tools.submit(client, chain("a", "b")))["prompt_id"])
            after = await ask(client, "POST", "/limner/plan", json=chain("a", "c"))
            assert states(after.data) == {"t0": "cached", "t1": "run", "j1": "run", "show": "run"}
            reasons = {each["id"]: each["reason"] for each in after.data["nodes"]}
            assert reasons["t1"] in ("text changed", "first run")
            assert after.data["unknown"] == 0
            assert after.data["counts"] == {"run": 3, "cached": 1, "skipped": 0, "blocked": 0, "idle": 0, "total": 4}

    asyncio.run(go())


def test_seconds_are_those_that_such_nodes_took(serving):
    async def go():
        async with serving() as client:
            timings = client.app[OFFICE].dispatcher.timings
            for kind, inputs, seconds in (("Text", {"text": "a"}, 2.0), ("Join", {}, 3.0), ("Show", {}, 0.5)):
                timings.note(kind, inputs, seconds)
            found = await ask(client, "POST", "/limner/plan", json=chain("a", "b"))
            assert found.data["seconds"] == 2.0 + 2.0 + 3.0 + 0.5
            assert {each["id"]: each["seconds"] for each in found.data["nodes"]}["j1"] == 3.0

    asyncio.run(go())


def test_a_graph_with_problems_gets_a_plan_for_what_is_sound(serving):
    async def go():
        async with serving() as client:
            found = (await ask(client, "POST", "/limner/plan", json=BROKEN)).data
            assert states(found) == {"text": "run", "fine": "run"} | dict.fromkeys(("pick", "join", "show"), "blocked")
            assert {(p["node"], p["input"]) for p in found["problems"]} == {
                ("pick", "way"),
                ("pick", "strength"),
                ("join", "second"),
            }

    asyncio.run(go())


def test_a_plan_is_made_while_a_job_runs(serving):
    async def go():
        gate = tools.Gate()
        async with serving(nodes=gate.nodes()) as client:
            prompt = {"wait": entry("Wait", text="x"), "show": entry("Show", source=["wait", 0])}
            job = await tools.submit(client, prompt)
            await gate.until_reached()
            found = await ask(client, "POST", "/limner/plan", json=chain("a"))
            assert found.data["counts"]["run"] == 2
            gate.released.set()
            await tools.ended(client, job["prompt_id"])

    asyncio.run(go())


def test_one_can_ask_for_some_nodes_and_force_others(serving):
    async def go():
        async with serving() as client:
            await tools.ended(client, (await tools.submit(client, chain("a", "b")))["prompt_id"])
            wanted = {"workflow": chain("a", "b"), "targets": ["j1"], "force": ["t0"]}
            found = (await ask(client, "POST", "/limner/plan", json=wanted)).data
            assert states(found) == {"t0": "run", "t1": "cached", "j1": "run", "show": "idle"}
            assert found["targets"] == ["j1"]

    asyncio.run(go())


@pytest.mark.parametrize(
    "form",
    [
        lambda nodes: {"json": nodes},
        lambda nodes: {"json": {"prompt": nodes, "client_id": "x"}},
        lambda nodes: {"json": {"limner": 1, "graph": nodes, "canvas": {"a": 1}}},
        lambda nodes: {"json": {"workflow": {"limner": 1, "graph": nodes}}},
        lambda nodes: {"data": json.dumps(nodes), "headers": {"Content-Type": "text/plain"}},
        lambda nodes: {"data": picture("PNG", prompt=json.dumps(nodes))},
        lambda nodes: {"data": picture("PNG", limner=json.dumps({"limner": 1, "graph": nodes}))},
    ],
)
def test_a_workflow_is_taken_in_every_form(serving, form):
    async def go():
        async with serving() as client:
            for path in ("plan", "validate", "run"):
                found = await ask(client, "POST", f"/limner/{path}", **form(chain("a")))
                assert found.status in (200, 202), found.body
            assert found.data["state"] in ("pending", "running", "done")

    asyncio.run(go())


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"[1]", "holds a list, not a workflow"),
        (b'{"1": {"inputs": {}}}', "is no node"),
        (b'{"1": NaN}', "NaN"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"limner": 99, "graph": {}}', "version 99"),
        (b'{"workflow": {}, "tagrets": []}', "'tagrets'"),
        (b'{"workflow": {}, "targets": "save"}', "'targets' must be a list"),
        (b'{"workflow": {}, "targets": ["save"]}', "there is no node 'save'"),
        (b"\x89PNG\r\n\x1a\n nothing more", "picture"),
        (picture("PNG"), "without a workflow"),
    ],
)
def test_what_is_no_workflow_is_refused_with_a_reason(serving, body, words):
    async def go():
        async with serving() as client:
            for path in ("plan", "validate", "run"):
                found = await ask(client, "POST", f"/limner/{path}", data=body)
                if path == "validate" and b"save" in body:  # which looks at what is there
                    continue
                assert found.status == 400, (path, found.body)
                assert words in found.data["error"]["message"]
                assert "/tmp" not in found.body.decode()

    asyncio.run(go())


def test_a_large_graph_is_planned_within_the_blink_of_an_eye(serving):
    async def go():
        async with serving() as client:
            prompt = chain(*(f"word {k}" for k in range(100)))  # 200 nodes: more than nine in ten graphs have
            await ask(client, "POST", "/limner/plan", json=prompt)
            took = []
            for _ in range(5):
                began = time.perf_counter()
                async with client.post("/limner/plan", json=prompt) as found:
                    assert found.status == 200
                    await found.read()
                took.append(time.perf_counter() - began)
            assert min(took) < 0.15

    asyncio.run(go())


@pytest.mark.long
def test_planning_loads_neither_torch_nor_transformers():
    code = """
import asyncio, json, sys
from limner.core import host
from limner.core.forecast import forecast
from limner.core.workflow import read
from limner.nodes import NODES
import limner.core.server.planning
here = host.Host(NODES, host.Settings(base=__import__("pathlib").Path(sys.argv[1])))
found = forecast(here, here.lowered(read(host.WORKFLOWS / "text-to-image.json")))
assert found.counts["run"] == 10, found
assert not {"torch", "transformers"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code, "/nonexistent/base"], check=True)


# -------------------------------------------------------------------------------------------------------- what is wrong


def test_everything_that_is_wrong_is_told_at_once_with_what_was_found_and_expected(serving):
    async def go():
        async with serving() as client:
            found = (await ask(client, "POST", "/limner/validate", json=BROKEN | {"odd": entry("Odd")})).data
            assert not found["valid"]
            told = {(p["node"], p["input"]): (p["code"], p["found"], p["expected"]) for p in found["problems"]}
            assert told == {
                ("pick", "way"): ("not_a_choice", "sideways", "one of: up, down"),
                ("pick", "strength"): ("out_of_range", "7.0", "0.0 to 1.0"),
                ("join", "second"): ("no_such_node", "nobody", "a node of this graph"),
                ("odd", None): ("unknown_node", "Odd", "a type of node that is installed here"),
            }
            assert all(p["message"] for p in found["problems"])

    asyncio.run(go())


def test_what_can_run_is_valid(serving):
    async def go():
        async with serving() as client:
            found = await ask(client, "POST", "/limner/validate", json=chain("a", "b"))
            assert found.data == {"valid": True, "problems": [], "warnings": []}
            part = {"workflow": BROKEN, "targets": ["fine"]}
            assert (await ask(client, "POST", "/limner/validate", json=part)).data["valid"]

    asyncio.run(go())


def test_a_workflow_that_shows_nothing_is_not_valid(serving):
    async def go():
        async with serving() as client:
            found = (await ask(client, "POST", "/limner/validate", json={"t": entry("Text", text="a")})).data
            assert [(p["node"], p["code"]) for p in found["problems"]] == [("", "nothing_to_do")]
            assert found["problems"][0]["message"].endswith("add one, or name one in `targets`")

    asyncio.run(go())


def test_every_problem_has_something_that_was_expected():
    class Anything(dict):
        def __missing__(self, name):
            return f"<{name}>"

    for code in ENGLISH:
        assert code in EXPECTED, code
        problem = Problem("node", "input", code, tuple((k, k) for k in ("wire", "type", "found", "options", "count")))
        assert EXPECTED[code].format_map(Anything(problem.values))
    assert told(Problem("n", "i", "wrong_wire", (("wire", "A"), ("found", "B"))))["found"] == "B"
    assert EXPECTED.keys() >= NOTHING


# --------------------------------------------------------------------------------------- what is the same for everybody


@pytest.mark.parametrize("path", ["/limner/schema", "/limner/nodes", "/limner/openapi.json"])
def test_what_has_not_changed_is_not_sent_twice_and_goes_packed(serving, path):
    async def go():
        async with serving() as client:
            first = await ask(client, "GET", path)
            again = await ask(client, "GET", path, headers={"If-None-Match": first.headers["ETag"]})
            assert (again.status, again.body) == (304, b"")
            other = await ask(client, "GET", path, headers={"If-None-Match": '"other"'})
            assert other.data == first.data
            async with client.get(path, headers={"Accept-Encoding": "gzip"}, auto_decompress=False) as packed:
                assert packed.headers["Content-Encoding"] == "gzip"
                assert json.loads(gzip.decompress(await packed.read())) == first.data

    asyncio.run(go())


def test_the_schema_knows_the_nodes_of_this_server(serving):
    async def go():
        async with serving() as client:
            found = (await ask(client, "GET", "/limner/schema")).data
            valid = Draft202012Validator(found).is_valid
            assert valid(chain("a", "b"))
            assert not valid(BROKEN)
            assert not valid({"1": entry("limner.EncodeText")})

    asyncio.run(go())


def test_the_nodes_are_told_with_their_help(serving):
    async def go():
        async with serving() as client:
            found = (await ask(client, "GET", "/limner/nodes")).data
            assert found["Show"]["output_node"]
            assert [i["name"] for i in found["Join"]["inputs"]] == ["first", "second", "times"]

    asyncio.run(go())
