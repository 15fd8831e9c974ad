"""/upload: pictures land where they were meant to, under a name that was free, whole or not at all."""

import asyncio
import io
import json
import os
import struct
import zlib

import pytest
import torch
from aiohttp import FormData
from guarded import guarded, raw, said
from hostile_paths import HARMLESS, SENDABLE
from limner.core.pictures import png
from limner.core.server import files, uploads
from limner.core.server.uploads import MOST_FIELDS
from PIL import Image
from PIL.PngImagePlugin import PngInfo


def picture(color=(255, 0, 0, 255), size=(8, 6), kind="PNG", texts=None):
    buffer = io.BytesIO()
    info = PngInfo()
    for keyword, text in (texts or {}).items():
        info.add_text(keyword, text)
    image = Image.new("RGBA", size, color)
    image = image if kind == "PNG" else image.convert("RGB")
    image.save(buffer, kind, **({"pnginfo": info} if kind == "PNG" else {}))
    return buffer.getvalue()


RED, BLUE = picture(), picture((0, 0, 255, 255))
NOISE = png(torch.rand(32, 32, 3))
BOUNDARY = "limits"


def form(*parts):
    """A form as a browser writes it: (name, content), or (name, content, the file's name)."""
    body = b""
    for name, content, *file in parts:
        disposition = f'form-data; name="{name}"' + "".join(f'; filename="{f}"' for f in file)
        body += f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n".encode()
        body += (content if isinstance(content, bytes) else content.encode()) + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


def upload(base, *forms, to="image", **settings):
    """What the server says to forms, one after the other."""

    async def ask():
        async with guarded(base, uploads.routes, files.routes, **settings) as client:
            headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
            return [await said(client, "POST", f"/upload/{to}", data=data, headers=headers) for data in forms]

    return asyncio.run(ask())


def image(name="a.png", content=RED, **fields):
    return form(*fields.items(), ("image", content, name))


def tree(folder):
    """All files below a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# ------------------------------------------------------------------------------------------------------- where it lands


def test_a_picture_lands_in_input_and_can_be_seen(tmp_path):
    async def ask():
        async with guarded(tmp_path, uploads.routes, files.routes) as client:
            data = FormData()
            data.add_field("image", RED, filename="a.png", content_type="image/png")
            put = await said(client, "POST", "/upload/image", data=data)
            return put, await said(client, "GET", "/view", params={"filename": "a.png", "type": "input"})

    put, seen = asyncio.run(ask())
    assert (put.status, put.json) == (200, {"name": "a.png", "subfolder": "", "type": "input"})
    assert seen.body == RED


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"type": "input"}, "input/a.png"),
        ({"type": "temp"}, "temp/a.png"),
        ({"type": "output", "subfolder": "x/y"}, "output/x/y/a.png"),
        ({"type": "", "subfolder": ""}, "input/a.png"),
        ({"subfolder": "pasted"}, "input/pasted/a.png"),
    ],
)
def test_a_picture_lands_in_the_folder_that_is_named(tmp_path, fields, place):
    (reply,) = upload(tmp_path, image(**fields))
    kind = fields.get("type") or "input"
    assert reply.json == {"name": "a.png", "subfolder": fields.get("subfolder", ""), "type": kind}
    assert tree(tmp_path) == {place: RED}


def test_fields_may_come_before_the_picture_or_after_it(tmp_path):
    parts = [("type", "temp"), ("image", RED, "a.png"), ("subfolder", "x")]
    for order in (parts, parts[::-1]):
        (reply,) = upload(tmp_path, form(*order))
        assert reply.json == {"name": "a.png", "subfolder": "x", "type": "temp"}


def test_one_picture_is_kept_once_and_two_of_one_name_both(tmp_path):
    replies = upload(tmp_path, image(), image(), image(content=BLUE), image(content=BLUE), image(content=RED))
    assert [reply.json["name"] for reply in replies] == ["a.png", "a.png", "a (1).png", "a (1).png", "a.png"]
    (reply,) = upload(tmp_path, image(content=picture((0, 255, 0, 255))))
    assert reply.json["name"] == "a (2).png"
    assert len(tree(tmp_path)) == 3


@pytest.mark.parametrize("word", ["true", "1", "True"])
def test_a_picture_may_take_anothers_place(tmp_path, word):
    replies = upload(tmp_path, image(), image(content=BLUE, overwrite=word))
    assert [reply.json["name"] for reply in replies] == ["a.png", "a.png"]
    assert tree(tmp_path) == {"input/a.png": BLUE}


@pytest.mark.parametrize("word", ["false", "0", ""])
def test_it_does_not_where_nobody_asked_for_it(tmp_path, word):
    upload(tmp_path, image(), image(content=BLUE, overwrite=word))
    assert tree(tmp_path) == {"input/a.png": RED, "input/a (1).png": BLUE}


def test_many_at_once_all_get_names_of_their_own(tmp_path):
    pictures = [picture((k, 0, 0, 255)) for k in range(20)]

    async def ask():
        async with guarded(tmp_path, uploads.routes) as client:
            headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
            send = (said(client, "POST", "/upload/image", data=image(content=p), headers=headers) for p in pictures)
            return await asyncio.gather(*send)

    replies = asyncio.run(ask())
    assert len({reply.json["name"] for reply in replies}) == 20
    assert sorted(tree(tmp_path).values()) == sorted(pictures)


@pytest.mark.parametrize("name", ["苹果 🍎.png", "ü.PNG", "a b.webp", "x.y.z.jpeg", "sub/a.png", "a'b.png"])
def test_names_of_all_people_are_kept(tmp_path, name):
    (reply,) = upload(tmp_path, image(name))
    assert reply.json["name"] == name
    assert tree(tmp_path) == {f"input/{name}": RED}


@pytest.mark.parametrize(
    ("name", "kind", "kept"),
    [
        ("blob", "PNG", "blob.png"),
        ("blob", "JPEG", "blob.jpg"),
        ("blob", "WEBP", "blob.webp"),
        ("x.html", "PNG", "x.html.png"),
        ("x.svg", "PNG", "x.svg.png"),
        ("x.py", "JPEG", "x.py.jpg"),
        ("a.png", "JPEG", "a.png"),
    ],
)
def test_a_file_ends_in_what_a_picture_ends_in(tmp_path, name, kind, kept):
    (reply,) = upload(tmp_path, image(name, picture(kind=kind)))
    assert reply.json["name"] == kept


# ------------------------------------------------------------------------------------------------------ what is refused


NO_PICTURES = {
    "HTML": b"<html><script>alert(1)</script>",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "nothing": b"",
    "GIF": b"GIF89a\x01\x00\x01\x00\x00\x00\x00;",
    "a pickle": b"\x80\x04\x95.",
    "a zip": b"PK\x03\x04" + bytes(30),
    "half a PNG": NOISE[: len(NOISE) // 2],
    "a bomb": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0) + bytes(30),
}


@pytest.mark.parametrize("what", NO_PICTURES)
def test_what_is_no_picture_is_refused_and_not_kept(tmp_path, what):
    for name in ("a.png", "a.html", "a.safetensors"):
        (reply,) = upload(tmp_path, image(name, NO_PICTURES[what]))
        assert reply.status == 400
        assert "error" in reply.json
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("name", SENDABLE, ids=ascii)
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    base = tmp_path / "base"
    quoted = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")  # as browsers do
    forms = [image(quoted), image(subfolder=name or ".."), image(type=name or "x"), image(f"{quoted}.png")]
    for reply in upload(base, *forms):
        assert reply.status in (200, 400)
        assert str(tmp_path).encode() not in reply.body
    stored = tree(tmp_path)
    assert all(path.startswith("base/input/") for path in stored)
    assert all(".." not in path.split("/") for path in stored)
    if name not in ("a\nb", "a\r\nb", "a\n", 'a"b', ""):  # which are sent as other names
        assert {path for path in stored if path.removeprefix("base/input/") == name} == set()


@pytest.mark.parametrize("name", HARMLESS, ids=ascii)
def test_an_odd_name_stays_one(tmp_path, name):
    name = f"{name[:200]}.png"
    (reply,) = upload(tmp_path, image(name))
    assert (reply.status, tree(tmp_path)) == (200, {f"input/{name}": RED})


def test_links_lead_nowhere_else(tmp_path):
    base = tmp_path / "base"
    outside = tmp_path / "outside"
    outside.mkdir()
    (base / "input").mkdir(parents=True)
    (base / "input" / "link").symlink_to(outside)
    (base / "input" / "a.png").symlink_to(outside / "a.png")
    os.mkfifo(base / "input" / "pipe.png")
    replies = upload(
        base, image("link/a.png"), image(subfolder="link"), image("a.png"), image("a.png", overwrite="true")
    )
    assert {reply.status for reply in replies} == {400}
    (reply,) = upload(base, image("pipe.png"))
    assert reply.json["name"] == "pipe (1).png"
    assert list(outside.iterdir()) == []


FORMS = {
    "no form": (b"{}", "application/json"),
    "no boundary": (image(), "multipart/form-data"),
    "another boundary": (image(), "multipart/form-data; boundary=other"),
    "no file": (form(("type", "input")), None),
    "a text called image": (form(("image", "text")), None),
    "a file called otherwise": (form(("picture", RED, "a.png")), None),
    "nothing": (b"", None),
    "cut off": (image()[:150], None),
    "a form in it": (
        f"--{BOUNDARY}\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\ny\r\n--x--\r\n"
        f"--{BOUNDARY}--\r\n".encode(),
        None,
    ),
    "too many fields": (form(*((f"f{k}", "x") for k in range(MOST_FIELDS + 1)), ("image", RED, "a.png")), None),
}


@pytest.mark.parametrize("what", FORMS)
def test_what_is_no_form_with_a_picture_is_refused(tmp_path, what):
    content, kind = FORMS[what]

    async def ask():
        async with guarded(tmp_path, uploads.routes, patience=1) as client:
            headers = {"Content-Type": kind or f"multipart/form-data; boundary={BOUNDARY}"}
            return await said(client, "POST", "/upload/image", data=content, headers=headers)

    reply = asyncio.run(ask())
    assert reply.status == 400
    assert "error" in reply.json
    assert tree(tmp_path) == {}


def test_what_is_too_large_is_refused_before_it_is_stored(tmp_path):
    large = RED + bytes(200_000)
    (reply,) = upload(tmp_path, image(content=large), max_upload_size=100_000)
    assert (reply.status, reply.json["error"]["type"]) == (413, "too_large")
    (reply,) = upload(tmp_path, form(("type", "x" * 200_000), ("image", RED, "a.png")))
    assert reply.status == 413
    assert tree(tmp_path) == {}


def test_a_form_that_stops_coming_is_not_waited_for(tmp_path):
    async def ask():
        async with guarded(tmp_path, uploads.routes, patience=0.2) as client:
            head = (
                f"POST /upload/image HTTP/1.1\r\nHost: localhost:{client.port}\r\nContent-Length: 10000\r\n"
                f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
            )
            return await raw(client, head.encode() + image()[:120])

    assert asyncio.run(ask()).status == 408
    assert tree(tmp_path) == {}


def test_a_disk_that_is_full_is_said_and_nothing_is_left(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(uploads.shutil, "copyfileobj", refuse)
    (reply,) = upload(tmp_path, image())
    assert (reply.status, reply.json["error"]["type"]) == (507, "cannot_write")
    assert reply.json["error"]["message"] == "cannot write input/a.png: the disk is full"
    assert tree(tmp_path) == {}


# ---------------------------------------------------------------------------------------------------------------- masks


def mask(reference, name="mask.png", content=None, **fields):
    content = content or picture((0, 0, 0, 77))
    return form(("original_ref", json.dumps(reference)), *fields.items(), ("image", content, name))


@pytest.fixture
def original(tmp_path):
    """A picture in output/sub, with texts."""
    path = tmp_path / "output" / "sub" / "o.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(picture((10, 20, 30, 255), texts={"prompt": "{}", "workflow": '{"苹": 1}'}))
    return {"filename": "o.png", "subfolder": "sub", "type": "output"}


def test_a_mask_becomes_the_alpha_of_its_original_which_keeps_its_texts(tmp_path, original):
    (reply,) = upload(tmp_path, mask(original, subfolder="clipspace"), to="mask")
    assert reply.json == {"name": "mask.png", "subfolder": "clipspace", "type": "input"}
    made = Image.open(tmp_path / "input" / "clipspace" / "mask.png")
    assert made.getpixel((0, 0)) == (10, 20, 30, 77)
    assert {"prompt": "{}", "workflow": '{"苹": 1}'}.items() <= made.info.items()


def test_an_original_may_be_named_as_pictures_are_elsewhere(tmp_path, original):
    for reference in ({"filename": "sub/o.png"}, {"filename": "sub/o.png [output]", "type": "input"}):
        (reply,) = upload(tmp_path, mask(reference), to="mask")
        assert reply.status == 200


@pytest.mark.parametrize(
    ("reference", "status"),
    [
        ({"filename": "gone.png", "type": "output"}, 404),
        ({"filename": "../secret.png", "type": "output"}, 400),
        ({"filename": "o.png", "subfolder": "../..", "type": "output"}, 400),
        ({"filename": "o.png", "subfolder": "sub", "type": "models"}, 400),
        ({"filename": 7}, 400),
        ({}, 400),
        ([], 400),
        ("o.png", 400),
    ],
)
def test_an_original_that_is_not_there_is_said(tmp_path, original, reference, status):
    (reply,) = upload(tmp_path, mask(reference), to="mask")
    assert reply.status == status
    assert "input" not in {path.partition("/")[0] for path in tree(tmp_path)}


@pytest.mark.parametrize("said", ["", "{", "NaN", '{"filename": "a", "filename": "b"}', "[" * 1000])
def test_a_reference_that_is_no_json_is_refused(tmp_path, original, said):
    (reply,) = upload(tmp_path, form(("original_ref", said), ("image", RED, "a.png")), to="mask")
    assert (reply.status, reply.json["error"]["type"]) == (400, "bad_form")


def test_a_mask_that_does_not_say_whose_it_is_is_refused_with_the_field_s_name(tmp_path):
    (reply,) = upload(tmp_path, form(("image", RED, "a.png")), to="mask")
    assert reply.status == 400
    assert reply.json["error"]["message"].startswith("the form has no `original_ref`")


def test_a_mask_of_another_size_or_no_picture_is_refused(tmp_path, original):
    (other,) = upload(tmp_path, mask(original, content=picture(size=(9, 9))), to="mask")
    assert other.status == 400
    assert other.json["error"]["message"] == "the mask is 9 x 9, and its original 8 x 6"
    (none,) = upload(tmp_path, mask(original, content=b"no picture"), to="mask")
    assert none.status == 400


def test_an_original_that_unfolds_is_refused(tmp_path, original):
    bomb = zlib.compress(b"x" * 2_000_000)
    chunk = struct.pack(">I", len(bomb) + 3) + b"zTXta\0\0" + bomb
    chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
    (tmp_path / "output" / "sub" / "o.png").write_bytes(RED[:33] + chunk + RED[33:])
    (reply,) = upload(tmp_path, mask(original), to="mask")
    assert reply.status == 400
