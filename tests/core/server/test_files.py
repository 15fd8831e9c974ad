"""/view and its kin: the right bytes with the right headers, and never a file that was not offered."""

import asyncio
import io
import json
import os
import struct
from urllib.parse import quote

import pytest
from guarded import guarded, raw, said
from hostile_paths import HARMLESS, SENDABLE
from limner.core.folders import Folders
from limner.core.server import files
from limner.core.server.files import _newest_first
from PIL import Image

SECRET = b"what nobody may see"


def picture(mode="RGBA", color=(255, 0, 0, 128), size=(8, 6), kind="PNG"):
    buffer = io.BytesIO()
    Image.new(mode, size, color).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def base(tmp_path):
    """A base directory with pictures, and beside it what must not be seen."""
    base = tmp_path / "base"
    for folder in ("input", "output", "temp", "output-evil"):
        (base / folder).mkdir(parents=True)
        (base / folder / "a.png").write_bytes(picture() if folder != "output-evil" else SECRET)
    (base / "output" / "sub").mkdir()
    (base / "output" / "sub" / "b.jpg").write_bytes(picture("RGB", (0, 255, 0), kind="JPEG"))
    (base / "secret.png").write_bytes(SECRET)
    (tmp_path / "secret.png").write_bytes(SECRET)
    return base


def view(base, *queries, method="GET", headers=None):
    """What /view answers to queries, one after the other."""

    async def ask():
        async with guarded(base, files.routes) as client:
            return [await said(client, method, "/view", params=query, headers=headers) for query in queries]

    return asyncio.run(ask())


# ------------------------------------------------------------------------------------------------------ the right bytes


def test_a_picture_is_sent_as_it_is_with_its_name_and_type(base):
    (reply,) = view(base, {"filename": "a.png"})
    assert (reply.status, reply.body) == (200, (base / "output" / "a.png").read_bytes())
    assert reply.headers["content-type"] == "image/png"
    assert reply.headers["content-disposition"] == 'inline; filename="a.png"'
    assert int(reply.headers["content-length"]) == len(reply.body)


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ({"filename": "b.jpg", "subfolder": "sub"}, "output/sub/b.jpg"),
        ({"filename": "sub/b.jpg"}, "output/sub/b.jpg"),
        ({"filename": "b.jpg", "subfolder": "sub", "type": "output"}, "output/sub/b.jpg"),
        ({"filename": "a.png", "type": "input"}, "input/a.png"),
        ({"filename": "a.png", "type": "temp", "subfolder": ""}, "temp/a.png"),
        ({"filename": "a.png", "type": ""}, "output/a.png"),
        ({"filename": "a.png [input]"}, "input/a.png"),
        ({"filename": "a.png [temp]", "type": "output"}, "temp/a.png"),
        ({"filename": "b.jpg [output]", "subfolder": "sub", "type": "input"}, "output/sub/b.jpg"),
        ({"filename": "a.png", "rand": "0.123", "unknown": "x"}, "output/a.png"),
    ],
)
def test_a_picture_is_found_by_its_type_subfolder_and_name(base, query, place):
    (base / "input" / "a.png").write_bytes(picture("L", 1))
    (base / "temp" / "a.png").write_bytes(picture("L", 2))
    (reply,) = view(base, query)
    assert (reply.status, reply.body) == (200, (base / place).read_bytes())


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({}, 400),
        ({"filename": ""}, 400),
        ({"filename": "gone.png"}, 404),
        ({"filename": "sub"}, 404),
        ({"filename": "a.png/x"}, 404),
        ({"filename": "a.png", "subfolder": "gone"}, 404),
        ({"filename": "a.png", "type": "models"}, 400),
        ({"filename": "a.png", "type": "../input"}, 400),
        ({"filename": "gone.png", "preview": "webp;90"}, 404),
    ],
)
def test_what_is_not_there_is_said(base, query, status):
    (reply,) = view(base, query)
    assert reply.status == status
    assert "error" in reply.json


@pytest.mark.parametrize(
    ("preview", "kind"),
    [
        ("webp;90", "webp"),
        ("jpeg;75", "jpeg"),
        ("webp", "webp"),
        ("jpeg", "jpeg"),
        ("png;90", "webp"),
        ("", "webp"),
        ("webp;0", "webp"),
        ("webp;9999999999999999999999", "webp"),
        ("webp;x", "webp"),
        ("jpeg;-5", "jpeg"),
        (";", "webp"),
    ],
)
def test_a_preview_is_a_smaller_file_of_the_same_picture(base, preview, kind):
    (reply,) = view(base, {"filename": "a.png", "preview": preview})
    assert (reply.status, reply.headers["content-type"]) == (200, f"image/{kind}")
    assert reply.headers["content-disposition"] == 'inline; filename="a.png"'
    seen = Image.open(io.BytesIO(reply.body))
    assert (seen.format, seen.size) == (kind.upper(), (8, 6))


def test_the_quality_of_a_preview_is_what_was_asked_for(base):
    Image.effect_noise((64, 64), 80).save(base / "output" / "noise.png")
    low, high = view(base, *({"filename": "noise.png", "preview": f"jpeg;{q}"} for q in (10, 95)))
    assert len(low.body) * 2 < len(high.body)


def test_the_colours_and_the_alpha_are_had_apart(base):
    rgb, alpha, whole, also = view(base, *({"filename": "a.png", "channel": c} for c in ("rgb", "a", "rgba", "other")))
    seen = Image.open(io.BytesIO(rgb.body))
    assert (seen.mode, seen.getpixel((0, 0)), rgb.headers["content-type"]) == ("RGB", (255, 0, 0), "image/png")
    seen = Image.open(io.BytesIO(alpha.body))
    assert (seen.mode, seen.getpixel((0, 0))) == ("RGBA", (0, 0, 0, 128))
    assert whole.body == also.body == (base / "output" / "a.png").read_bytes()
    (opaque,) = view(base, {"filename": "sub/b.jpg", "channel": "a"})
    assert Image.open(io.BytesIO(opaque.body)).getpixel((0, 0)) == (0, 0, 0, 255)
    (small,) = view(base, {"filename": "a.png", "channel": "rgb", "preview": "webp;90"})
    assert Image.open(io.BytesIO(small.body)).mode == "RGB"


# -------------------------------------------------------------------------------------------------------- and no others


@pytest.mark.parametrize("name", SENDABLE, ids=ascii)
def test_no_name_leads_out(base, name):
    queries = [
        {"filename": name},
        {"filename": f"{name} [output]"},
        {"filename": "a.png", "subfolder": name or ".."},
        {"filename": name, "preview": "webp;90"},
        {"filename": name, "channel": "a"},
        {"filename": name, "subfolder": "sub"},
        {"filename": "secret.png", "subfolder": name or ".."},
    ]
    for reply in view(base, *queries):
        assert reply.status in (400, 403, 404)
        assert SECRET not in reply.body
        assert str(base).encode() not in reply.body


@pytest.mark.parametrize("name", HARMLESS, ids=ascii)
def test_an_odd_name_is_a_name(base, name):
    path = base / "output" / f"{name[:200]}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture())
    (reply,) = view(base, {"filename": f"{name[:200]}.png"})
    assert (reply.status, reply.body) == (200, picture())


RAW = [
    "/view?filename=../secret.png", "/view?filename=..%2fsecret.png", "/view?filename=%2e%2e/secret.png",
    "/view?filename=%252e%252e%252fsecret.png", "/view?filename=..%5csecret.png", "/view?filename=a.png%00.jpg",
    "/view?filename=secret.png&subfolder=..", "/view?filename=secret.png&subfolder=%2e%2e%2f",
    "/view?filename=secret.png&subfolder=sub/../..", "/view?filename=/etc/passwd", "/view?filename=//etc/passwd",
    "/view?filename=file:///etc/passwd", "/view?filename=a.png&filename=../secret.png&subfolder=..",
    "/view?filename=secret.png&type=output/..", "/view?filename=secret.png&type=.", "/view?filename=..%c0%afsecret.png",
    "/view?filename=%uff0e%uff0e/secret.png", "/view?filename=../output-evil/a.png",
    "/view?filename=a.png/../../secret.png",
    "/view/../secret.png", "/view/%2e%2e/secret.png", "/view%2f..%2fsecret.png", "//view?filename=../secret.png",
    "/view;filename=../secret.png", "/view?filename=..;/secret.png", "/view?filename=\\..\\secret.png",
]  # fmt: skip


@pytest.mark.parametrize("target", RAW)
def test_no_spelling_of_an_address_leads_out(base, target):
    async def ask():
        async with guarded(base, files.routes) as client:
            return await raw(client, f"GET {target} HTTP/1.1\r\nHost: localhost:{client.port}\r\n\r\n")

    reply = asyncio.run(ask())
    assert reply.status in (400, 403, 404)
    assert SECRET not in reply.body


def test_links_out_folders_and_pipes_are_not_there(base, tmp_path):
    output = base / "output"
    (output / "file.png").symlink_to(tmp_path / "secret.png")
    (output / "folder").symlink_to(tmp_path)
    (output / "loop.png").symlink_to("loop.png")
    (output / "device.png").symlink_to("/dev/zero")
    (output / "dir.png").mkdir()
    os.mkfifo(output / "pipe.png")
    names = ["file.png", "folder/secret.png", "loop.png", "device.png", "dir.png", "pipe.png"]
    queries = [{"filename": name, **more} for name in names for more in ({}, {"preview": "webp"}, {"channel": "rgb"})]
    queries += [{"filename": "secret.png", "subfolder": "folder"}]
    for reply in view(base, *queries):
        assert reply.status in (400, 404)
        assert SECRET not in reply.body


def test_a_link_within_the_folder_is_followed(base):
    (base / "output" / "link.png").symlink_to("a.png")
    (reply,) = view(base, {"filename": "link.png"})
    assert reply.status == 200


# ------------------------------------------------------------------------------------------------ and nothing that runs


@pytest.mark.parametrize(
    "name",
    [
        "a.svg", "a.html", "a.htm", "a.xhtml", "a.xml", "a.js", "a.mjs", "a.css", "a.svgz", "a.pdf", "a.txt", "a.json",
        "a",
        "a.png.html", "a.HTML", "a.shtml", "a.mht", "a.wasm", "a.swf", "a.mp4", "a.vtt", "a.webmanifest", "a.appcache",
    ],
)  # fmt: skip
def test_what_is_no_picture_is_for_saving_and_not_for_showing(base, name):
    (base / "output" / name).write_text("<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>")
    (reply,) = view(base, {"filename": name})
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/octet-stream"
    assert reply.headers["content-disposition"] == f'attachment; filename="{name}"'


@pytest.mark.parametrize("name", ["a.png", "a.svg", "a.html"])
def test_a_file_is_shut_in_whatever_it_is(base, name):
    (base / "output" / name).write_bytes(b"<script>alert(1)</script>")
    for reply in view(base, {"filename": name}):
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
        assert "cross-origin-resource-policy" in reply.headers


def test_a_preview_of_what_is_no_picture_is_refused(base):
    for name, content in {"a.svg": b"<svg/>", "b.png": b"no", "c.gif": b"GIF89a"}.items():
        (base / "output" / name).write_bytes(content)
        for reply in view(base, {"filename": name, "preview": "webp"}, {"filename": name, "channel": "rgb"}):
            assert (reply.status, reply.json["error"]["type"]) == (400, "bad_image_file")


def test_a_bomb_is_not_unpacked(base):
    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    (base / "output" / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + head + b"\0" * 20
    )
    (reply,) = view(base, {"filename": "bomb.png", "preview": "webp"})
    assert reply.status == 400


# ------------------------------------------------------------------------------------------------------------- headers


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a b.png", 'inline; filename="a b.png"'),
        ("ü.png", "inline; filename=\"_.png\"; filename*=UTF-8''%C3%BC.png"),
        ("苹果.png", "inline; filename=\"__.png\"; filename*=UTF-8''%E8%8B%B9%E6%9E%9C.png"),
        ("a;b=c.png", 'inline; filename="a;b=c.png"'),
        ("a'b%22.png", 'inline; filename="a\'b%22.png"'),
    ],
)
def test_a_name_of_any_kind_is_told_in_a_header_of_one_line(base, name, header):
    (base / "output" / name).write_bytes(picture())
    (reply,) = view(base, {"filename": name})
    assert reply.headers["content-disposition"] == header


def test_a_name_cannot_write_headers(base):
    for name in ("a\r\nX-Evil: 1.png", "a\nb.png", 'a"; x="y.png'):
        (reply,) = view(base, {"filename": name})
        assert reply.status == 400
        assert "x-evil" not in reply.headers


def test_what_a_browser_has_is_not_sent_again_until_it_changes(base):
    (first,) = view(base, {"filename": "a.png"})
    tag = first.headers["etag"]
    (again,) = view(base, {"filename": "a.png"}, headers={"If-None-Match": tag})
    (weak,) = view(base, {"filename": "a.png"}, headers={"If-None-Match": f'"x", W/{tag}'})
    assert (again.status, again.body, weak.status) == (304, b"", 304)
    (base / "output" / "a.png").write_bytes(picture(color=(0, 0, 0, 0), size=(9, 9)))
    (changed,) = view(base, {"filename": "a.png"}, headers={"If-None-Match": tag})
    assert (changed.status, changed.body) == (200, (base / "output" / "a.png").read_bytes())
    assert first.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-3", slice(0, 4)),
        ("bytes=4-", slice(4, None)),
        ("bytes=-5", slice(-5, None)),
        ("bytes=2-999999", slice(2, None)),
    ],
)
def test_a_part_of_a_file_can_be_had(base, asked, part):
    content = (base / "output" / "a.png").read_bytes()
    (reply,) = view(base, {"filename": "a.png"}, headers={"Range": asked})
    assert (reply.status, reply.body) == (206, content[part])
    start = range(len(content))[part].start
    end = start + len(reply.body) - 1
    assert reply.headers["content-range"] == f"bytes {start}-{end}/{len(content)}"


@pytest.mark.parametrize("asked", ["bytes=x", "lines=0-3", "bytes=3-1", "bytes=0-1,4-5", ""])
def test_a_range_that_means_nothing_gets_the_whole(base, asked):
    (reply,) = view(base, {"filename": "a.png"}, headers={"Range": asked})
    assert (reply.status, reply.body) == (200, (base / "output" / "a.png").read_bytes())


def test_a_range_beyond_the_end_is_refused_and_one_of_another_file_gets_the_whole(base):
    (beyond,) = view(base, {"filename": "a.png"}, headers={"Range": "bytes=99999-"})
    assert beyond.status == 416
    assert beyond.headers["content-range"].startswith("bytes */")
    (other,) = view(base, {"filename": "a.png"}, headers={"Range": "bytes=0-3", "If-Range": '"another"'})
    assert other.status == 200


def test_only_asking_sends_no_body(base):
    (reply,) = view(base, {"filename": "a.png"}, method="HEAD")
    assert (reply.status, reply.body) == (200, b"")
    assert int(reply.headers["content-length"]) == (base / "output" / "a.png").stat().st_size


def test_an_empty_file_and_a_large_one_are_sent_whole(base):
    (base / "output" / "empty.png").write_bytes(b"")
    large = os.urandom(3 << 20)
    (base / "output" / "large.bin").write_bytes(large)
    empty, whole = view(base, {"filename": "empty.png"}, {"filename": "large.bin"})
    assert (empty.status, empty.body) == (200, b"")
    assert whole.body == large


# ------------------------------------------------------------------------------------------------------ what files say


def safetensors(path, said):
    text = json.dumps(said).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text)


def metadata(base, *asked):
    async def ask():
        async with guarded(base, files.routes) as client:
            return [
                await said(client, "GET", f"/view_metadata/{folder}", params={"filename": name})
                for folder, name in asked
            ]

    return asyncio.run(ask())


def test_a_models_file_says_what_is_written_in_it(base):
    models = base / "models"
    safetensors(models / "loras" / "a.safetensors", {"__metadata__": {"ss_tag": "frog", "n": "1"}})
    safetensors(models / "loras" / "deep" / "b.safetensors", {"__metadata__": {"x": "y"}})
    safetensors(models / "diffusion_models" / "c.safetensors", {"__metadata__": {"z": "w"}})
    asked = [("loras", "a.safetensors"), ("loras", "deep/b.safetensors"), ("diffusion_models", "c.safetensors")]
    replies = metadata(base, *asked)
    assert [reply.status for reply in replies] == [200] * 3
    assert [reply.json for reply in replies] == [{"ss_tag": "frog", "n": "1"}, {"x": "y"}, {"z": "w"}]


def test_a_file_that_says_nothing_or_is_none_is_not_there(base):
    models = base / "models" / "loras"
    safetensors(models / "silent.safetensors", {})
    (models / "broken.safetensors").write_bytes(b"\xff" * 20)
    (models / "a.txt").write_text("{}")
    names = ["silent.safetensors", "broken.safetensors", "a.txt", "gone.safetensors", "", "loras"]
    assert {reply.status for reply in metadata(base, *(("loras", name) for name in names))} == {404}
    assert {
        reply.status for reply in metadata(base, *((f, "a.safetensors") for f in ("custom_nodes", "x", "input")))
    } == {404}


@pytest.mark.parametrize("name", SENDABLE, ids=ascii)
def test_no_name_of_a_model_leads_out(base, name):
    safetensors(base / "secret.safetensors", {"__metadata__": {"x": SECRET.decode()}})
    asked = [("loras", name), ("loras", f"{name}.safetensors"), ("loras", f"{name}/secret.safetensors")]

    async def ask():
        async with guarded(base, files.routes) as client:
            folder = quote(name, safe="") or "%2e%2e"
            line = f"GET /view_metadata/{folder}?filename=secret.safetensors HTTP/1.1\r\nHost: localhost\r\n\r\n"
            return await raw(client, line)

    for reply in [*metadata(base, *asked), *([asyncio.run(ask())] if len(name) < 500 else [])]:
        assert reply.status in (400, 403, 404)
        assert SECRET not in reply.body


# ------------------------------------------------------------------------------------------------------------- lists


def test_the_newest_file_is_listed_first(base):
    output = base / "output"
    for k, name in enumerate(("old.png", "new.png", ".hidden.png")):
        (output / name).write_bytes(b"x")
        os.utime(output / name, (2_000_000_000 + k, 2_000_000_000 + k))
    assert _newest_first(output) == ["new.png", "old.png", "a.png"]
    assert _newest_first(base / "gone") == []


def test_lists_are_of_three_folders(base):
    async def ask():
        async with guarded(base, files.routes) as client:
            kinds = ("output", "input", "temp", "models", "..", "%2e%2e", "user")
            return [await said(client, "GET", f"/internal/files/{kind}") for kind in kinds]

    replies = asyncio.run(ask())
    assert [reply.status for reply in replies[:4]] == [200, 200, 200, 400]
    assert replies[0].json == ["a.png"]
    assert {reply.status for reply in replies[4:]} <= {400, 404}


def test_folders_may_lie_elsewhere(base, tmp_path):
    folders = Folders.at(base, output=tmp_path / "elsewhere")
    assert folders.place("a.png", "output") == (tmp_path / "elsewhere", "a.png")
