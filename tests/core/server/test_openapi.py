"""The description of the server: what it says is there is there, and what is there it says."""

from __future__ import annotations

import asyncio

import pytest
from described import METHODS, ask, template
from limner.core.server.openapi import document
from openapi_spec_validator import OpenAPIV31SpecValidator


async def live(serving):
    """Every method and path of the route table, without the second set below /api."""
    async with serving() as client:
        routes = {
            (route.method.lower(), route.resource.canonical)
            for route in client.app.router.routes()
            if route.resource is not None and route.method not in ("HEAD", "OPTIONS")
        }
    twins = {
        (method, path) for method, path in routes if (method, path.removeprefix("/api")) in routes - {(method, path)}
    }
    return routes - twins


def told():
    return {(method, path) for path, item in document()["paths"].items() for method in METHODS if method in item}


def test_every_route_is_described_and_everything_that_is_described_is_a_route(serving):
    assert asyncio.run(live(serving)) == told()


def test_it_is_openapi():
    OpenAPIV31SpecValidator(document()).validate()


def test_the_server_hands_it_out(serving):
    async def go():
        async with serving() as client:
            found = (await ask(client, "GET", "/limner/openapi.json")).data
            assert found == document()
            assert found["info"]["version"]

    asyncio.run(go())


def test_every_operation_has_words_a_place_and_errors():
    tags = {tag["name"] for tag in document()["tags"]}
    for method, path in told():
        operation = document()["paths"][path][method]
        assert operation["summary"].endswith("."), path
        assert set(operation["tags"]) <= tags
        assert "default" in operation["responses"], path


def test_everything_that_is_defined_is_used():
    parts = document()["components"]
    text = str(document())
    for kind in ("schemas", "parameters", "responses", "requestBodies", "headers"):
        assert [name for name in parts[kind] if f"#/components/{kind}/{name}'" not in text] == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/limner/workflows/a/b.json", "/limner/workflows/{path}"),
        ("/limner/workflows/a/b.json/versions", "/limner/workflows/{path}/versions"),
        ("/limner/workflows/a/b.json/versions/3", "/limner/workflows/{path}/versions/{number}"),
        ("/limner/jobs/x", "/limner/jobs/{id}"),
        ("/limner/jobs", "/limner/jobs"),
    ],
)
def test_a_path_is_held_against_the_right_part(path, expected):
    assert template(path) == expected


def test_errors_have_the_shape_that_is_described(serving):
    async def go():
        async with serving() as client:
            for method, path in (
                ("GET", "/limner/jobs/unknown"),
                ("GET", "/limner/jobs?limit=0"),
                ("POST", "/limner/plan"),
                ("PATCH", "/limner/jobs/unknown"),
                ("GET", "/limner/workflows/none.json"),
                ("GET", "/limner/workflows/none"),
                ("GET", "/limner/examples/none"),
                ("POST", "/prompt"),
                ("GET", "/models/none"),
                ("GET", "/view"),
            ):
                assert (await ask(client, method, path)).status in (400, 404)
            for method, path in (("PUT", "/limner/jobs"), ("GET", "/limner/nothing"), ("POST", "/health")):
                async with client.request(method, path) as found:
                    assert found.status in (404, 405)
                    assert set((await found.json())["error"]) >= {"code", "message"}

    asyncio.run(go())
