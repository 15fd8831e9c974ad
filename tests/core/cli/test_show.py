"""What a terminal shows: bars while it runs, and afterwards nothing of them."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest
from limner.core.cli import show
from limner.core.event import Refused

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """What a process writes to a terminal, and what somebody sees of it in the end."""

    def __init__(self, *words: object, piped: bool) -> None:
        master, slave = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "limner", *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if piped else slave,
            stderr=slave,
            env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "100", "OMP_NUM_THREADS": "1"},
        )
        os.close(slave)
        content = b""
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:  # the last one to write has closed it
                break
            if not part:
                break
            content += part
        self.piped = (process.communicate()[0] or b"").decode()
        self.code = process.returncode
        self.content = content.decode()

    @property
    def seen(self) -> list[str]:
        """The lines that are left when all cursor movements have been followed."""
        lines, row = [""], 0
        for text, control in re.findall(r"([^\x1b\r\n]*)(\x1b\[[0-9;?]*[A-Za-z]|\r|\n|$)", self.content):
            lines[row] += text
            if control == "\n":
                row += 1
                lines += [""] * (row == len(lines))
            elif control == "\x1b[2K":
                lines[row] = ""
            elif move := re.fullmatch(r"\x1b\[(\d*)A", control):
                row -= int(move[1] or 1)
        return [line for line in lines if line]


@pytest.mark.parametrize("piped", [True, False])
def test_a_terminal_sees_bars_and_keeps_what_matters(piped, limner, workflow, out, tmp_path):
    limner("run", workflow, "--out", tmp_path / "before")  # so that no text is left to encode
    words = ["run", workflow, "--out", out, "--set", "schedule.steps=40", "--set", "sample.seed=1..2"]
    shown = Terminal(*words, piped=piped)
    paths = [f"{out}/limner_0000{k}.png" for k in (1, 2)]
    assert shown.code == 0
    progress = CONTROL.sub("", shown.content)
    assert "━" in progress
    assert re.search(r"sample .*\d+/40", progress)
    assert shown.piped.split() == (
        paths if piped else []
    )  # a pipe gets the paths, and a terminal does not get them twice
    assert [line for line in shown.seen if line.endswith(".png")] == ([] if piped else paths)
    assert not [line for line in shown.seen if "━" in line]
    assert re.fullmatch(r"ran \d, cached \d, \d+\.\d s", shown.seen[-1])
    assert shown.content.count("\x1b[?25l") == shown.content.count("\x1b[?25h")  # the cursor is there again


def test_a_failure_leaves_no_bar_and_a_cursor(limner, workflow, out, tmp_path):
    limner("run", workflow, "--out", tmp_path / "before")
    shown = Terminal("run", workflow, "--out", out, "--set", "latent.width=36", piped=False)
    assert shown.code == 1
    assert shown.seen[-1] == "limner: latent: width and height must be multiples of 8 for this model, not 36 x 32"
    assert not [line for line in shown.seen if "━" in line]
    assert shown.content.count("\x1b[?25l") == shown.content.count("\x1b[?25h")


def test_settings_are_a_line_however_long_they_are():
    assert show.settings({"prompt.value": "word " * 99, "sample.seed": 3}).endswith("..., sample.seed=3")
    assert "\n" not in show.settings({"prompt.value": "a\nb"})
    assert len(show.settings({"prompt.value": "word " * 99})) < 90


def test_what_is_blocked_says_why():
    said = show.event(1, Refused("save", "there is no picture"))
    assert said == {"event": "refused", "run": 1, "node": "save", "message": "there is no picture"}
    assert show.line(said) == "save #2 did not run: there is no picture"
