"""docs/http.md names what there is."""

import re
from pathlib import Path

from limner.core import host
from limner.core.server.openapi import document

PAGE = (Path(host.__file__).parents[1] / "docs" / "http.md").read_text("utf-8")


def test_every_route_of_ours_is_on_the_page_and_every_one_there_exists():
    ours = {path for path in document()["paths"] if path.startswith(("/limner/", "/health", "/metrics"))}
    shown = {path.partition("?")[0] for path in re.findall(r"`(?:[A-Z]+(?:`, `[A-Z]+)* )(/[^`\s]*)", PAGE)}
    shown |= {"/limner/examples" + rest for rest in re.findall(r"`(/\{name\}[^`]*)`", PAGE)}
    assert {path for path in shown if not path.startswith(("/prompt", "/history"))} == ours


def test_every_event_is_on_the_page():
    (names,) = (part["enum"] for part in [document()["components"]["schemas"]["Event"]["properties"]["event"]])
    rows = " ".join(line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`([a-z_]+)`", rows)) == set(names)
