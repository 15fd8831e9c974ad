"""The command line called in this process, on a workflow of a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tiny
from limner.core.cli import main


class Said(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The lines of --json."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def done(self) -> dict[str, Any]:
        """The last of them."""
        return self.objects[-1]


@pytest.fixture
def limner(capsys, base):
    """Say a command."""

    def say(*words: object) -> Said:
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:  # argparse's
            code = int(end.code or 0)
        return Said(code, *capsys.readouterr())

    return say


@pytest.fixture
def workflow(base, tmp_path) -> Path:
    """The file of text-to-image, for the tiny model: two steps, 32 pixels."""
    return tiny.write(tmp_path / "workflow.json", tiny.text_to_image())


@pytest.fixture
def out(tmp_path) -> Path:
    """Where pictures go."""
    return tmp_path / "out"
