"""The workflow file: all that opens, all that is refused with a reason, and what a document stands for."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from limner.core import pictures, workflow
from limner.core.errors import ImageFileError, LimnerError, WorkflowError
from limner.core.graph import Instance, Link
from limner.core.litegraph.kinds import Sockets, Widget
from limner.core.workflow import Document, dumps, lower, parse, read
from PIL import Image
from PIL.PngImagePlugin import PngInfo

FORMATS = Path(__file__).parents[1] / "formats"
LOWER = sorted((FORMATS / "lower").glob("*.json"))
OPENS = json.loads((FORMATS / "opens" / "expected.json").read_text("utf-8"))
SHIPPED = sorted((Path(__file__).parents[2] / "workflows").glob("*.json"))
EMPTY = '{"limner": 1, "graph": {}}'


def entry(kind="limner.Text", **inputs):
    return {"class_type": kind, "inputs": inputs}


# ----------------------------------------------------------------------------------------------- what it stands for


def sockets_of(rows):
    def one(row):
        widgets = tuple(Widget(name, dict(row["inputs"])[name]) for name in row.get("widgets", ()))
        return Sockets(tuple((name, wire) for name, wire in row["inputs"]), tuple(row["outputs"]), widgets)

    return {kind: one(row) for kind, row in rows.items()}.get


@pytest.mark.parametrize("path", LOWER, ids=lambda p: p.stem)
def test_a_document_is_lowered_as_every_implementation_must(path):
    case = json.loads(path.read_text("utf-8"))
    document = parse(json.dumps(case["document"]))
    if "error" in case:
        with pytest.raises(WorkflowError) as caught:
            lower(document, sockets_of(case["sockets"]))
        assert case["error"] in str(caught.value)
        return
    lowered = lower(document, sockets_of(case["sockets"]))
    assert json.dumps(lowered, sort_keys=True) == json.dumps(case["lowered"], sort_keys=True)  # 1, 1.0 and True differ
    assert list(lowered) == list(case["lowered"])


@pytest.mark.parametrize(
    "path", [p for p in LOWER if "lowered" in json.loads(p.read_text("utf-8"))], ids=lambda p: p.stem
)
def test_lowering_twice_changes_nothing_more_nor_does_the_way_through_a_graph(path):
    case = json.loads(path.read_text("utf-8"))
    once = lower(parse(json.dumps(case["document"])), sockets_of(case["sockets"]))
    assert lower(Document(once)) == once
    there_and_back = workflow.api(workflow.graph(once))
    assert workflow.graph(there_and_back) == workflow.graph(once)


def test_lowering_leaves_the_document_as_it_was():
    for document in documents():
        before = json.dumps(document.as_json())
        lower(document)
        assert json.dumps(document.as_json()) == before


def test_an_id_may_be_longer_than_a_number_can_be():
    ids = ["9" * 5000, "1" * 5000 + ":2", "2"]
    assert list(lower(Document({i: entry() for i in ids}))) == ["2", "1" * 5000 + ":2", "9" * 5000]


def test_a_lowered_document_is_a_graph():
    lowered = {
        "1": {**entry(value=3, list={"__value__": ["2", 0]}), "_meta": {"title": "One"}},
        "2": entry(value=["1", 0]),
    }
    assert workflow.graph(lowered) == {
        "1": Instance("limner.Text", {"value": 3, "list": ["2", 0]}, "One"),
        "2": Instance("limner.Text", {"value": Link("1", 0)}),
    }
    assert workflow.api(workflow.graph(lowered)) == lowered


def test_a_definition_a_hundred_deep_is_enough():
    definitions = {f"d{k}": {"graph": {"x": entry(f"d{k + 1}")}} for k in range(200)}
    for start, fits in ((101, True), (99, False)):
        document = Document({"1": entry(f"d{start}")}, {**definitions, "d200": {"graph": {"x": entry()}}})
        if fits:
            assert list(lower(document)) == ["1" + ":x" * 100]
        else:
            with pytest.raises(WorkflowError, match="more than 100 deep"):
                lower(document)


def test_ten_thousand_bypassed_nodes_in_a_row_are_followed_without_recursion():
    nodes = {"0": entry("Picture")} | {
        str(k): {**entry("Blur", image=[str(k - 1), 0]), "_meta": {"mode": "bypass"}} for k in range(1, 10_000)
    }
    nodes["end"] = entry("Save", image=["9999", 0])
    blur = Sockets((("image", "IMAGE"),), ("IMAGE",))
    assert lower(Document(nodes), {"Blur": blur}.get)["end"]["inputs"] == {"image": ["0", 0]}


# --------------------------------------------------------------------------------------------------- what opens


@pytest.mark.parametrize("name", OPENS)
def test_files_of_every_release_open_for_ever(name):
    assert lower(read(FORMATS / "opens" / name)) == OPENS[name]


def test_every_file_that_is_kept_is_opened():
    assert {p.name for p in (FORMATS / "opens").iterdir()} == {*OPENS, "expected.json"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_the_workflows_that_ship_are_written_as_limner_writes(path):
    assert dumps(read(path)) == path.read_text("utf-8")


@pytest.mark.parametrize(
    "content",
    [EMPTY, EMPTY.encode(), b"\xef\xbb\xbf" + EMPTY.encode(), f"\n {EMPTY}\n"],
    ids=["text", "bytes", "BOM", "blanks"],
)
def test_a_document_is_read_from_text_and_bytes(content):
    assert parse(content) == Document({})


def test_a_graph_may_have_a_node_called_prompt_or_nodes():
    for name in ("prompt", "nodes", "links", "graph"):
        assert parse(json.dumps({name: entry()})).graph == {name: entry()}


def test_a_number_of_any_size_survives():
    numbers = [2**53 + 1, 2**64 - 1, -(2**70), 10**300, 0.1, 1e-320, -0.0]
    document = parse(json.dumps({"limner": 1, "graph": {"1": entry(a=numbers)}}))
    again = parse(dumps(document))
    assert [repr(v) for v in again.graph["1"]["inputs"]["a"]] == [repr(v) for v in numbers]


def test_what_is_not_understood_is_kept():
    data = {
        "limner": 1,
        "graph": {"1": {**entry(), "_meta": {"title": "x", "mood": "calm"}, "more": [1]}},
        "definitions": {"d": {"graph": {}, "inputs": [], "colour": "red"}},
        "canvas": {"any": {"thing": [None]}},
        "requires": {"packs": {"x": "1.0"}},
        "later": {"kept": True},
        "$schema": "https://example.org",
    }
    assert parse(dumps(parse(json.dumps(data)))).as_json() == data


# ---------------------------------------------------------------------------------------------- what does not


def nested(opening, closing, depth):
    return f'{{"limner": 1, "graph": {{}}, "x": {opening * depth}{closing * depth}}}'


def defining(definition):
    return json.dumps({"limner": 1, "graph": {}, "definitions": {"d": definition}})


OBJECTS = nested('{"a":', "}", 100_000).replace(":}", ":1}")
BROKEN = {
    "nothing": ("", "is not JSON: line 1, column 1"),
    "blank": (" \n", "is not JSON"),
    "cut off": (EMPTY[:-1], "is not JSON: line 1, column 26"),
    "two": (EMPTY * 2, "is not JSON: line 1, column 27: Extra data"),
    "a comment": ("{} // no", "is not JSON"),
    "a trailing comma": ('{"limner": 1,}', "is not JSON"),
    "single quotes": ("{'limner': 1}", "is not JSON"),
    "UTF-16": (EMPTY.encode("utf-16"), "is not text in UTF-8"),
    "UTF-16 without a mark": (EMPTY.encode("utf-16-le"), "is not JSON"),
    "Latin-1": ('{"é": 1}'.encode("latin-1"), "is not text in UTF-8"),
    "a zip": (b"PK\x03\x04\x14\x00\xff", "is not text in UTF-8"),
    "a BOM in text": ("\ufeff" + EMPTY, "is not JSON"),
    "NaN": ('{"a": NaN}', "NaN is not a number that JSON has"),
    "infinity": ('{"a": -Infinity}', "-Infinity is not a number that JSON has"),
    "1e999": ('{"a": 1e999}', "1e999 is too large a number"),
    "-1e999": ('{"a": [-1e999]}', "-1e999 is too large a number"),
    "5000 digits": (f'{{"a": {"9" * 5000}}}', "is no valid JSON"),
    "a name twice": ('{"1": {"a": 1, "b": 2, "a": 1}}', "'a' stands twice in one object"),
    "half a pair": ('{"a": "\\ud800"}', "is not text in UTF-8"),
    "half a pair in a name": ('{"\\udc00": 1}', "is not text in UTF-8"),
    "half a pair in text": ('{"a": "\udc80"}', "is not text in UTF-8"),
    "a control character": ('{"a": "\x01"}', "is not JSON"),
    "100,000 lists": (nested("[", "]", 100_000), "is nested too deeply"),
    "100,000 objects": (OBJECTS, "is nested too deeply"),
    "200 lists": (nested("[", "]", 200), "is nested too deeply"),
    "a list": ("[]", "holds a list, not a workflow"),
    "a text": ('"graph"', "holds a text, not a workflow"),
    "a number": ("1.5", "holds a number, not a workflow"),
    "null": ("null", "holds nothing, not a workflow"),
    "true": ("true", "holds a truth value, not a workflow"),
    "version 2": ('{"limner": 2, "graph": {}}', "has version 2 of the format; this Limner reads version 1"),
    "version '1'": ('{"limner": "1", "graph": {}}', "has version '1' of the format"),
    "version true": ('{"limner": true, "graph": {}}', "has version True of the format"),
    "no graph": ('{"limner": 1}', "has no 'graph'"),
    "a graph that is a list": ('{"limner": 1, "graph": []}', "'graph' must be an object, not a list"),
    "a canvas that is a text": ('{"limner": 1, "graph": {}, "canvas": ""}', "'canvas' must be an object, not a text"),
    "a node that is a text": ('{"1": "x"}', "'1' is no node"),
    "a node without a type": ('{"1": {"inputs": {}}}', "'1' is no node"),
    "a type that is a number": ('{"1": {"class_type": 3}}', "'1' is no node"),
    "inputs that are a list": ('{"1": {"class_type": "x", "inputs": []}}', "the 'inputs' of '1' must be an object"),
    "meta that is null": ('{"1": {"class_type": "x", "_meta": null}}', "must be an object"),
    "a definition without a graph": (defining({}), "the definition 'd' has no 'graph'"),
    "a definition that is null": (defining(None), "the definition 'd' has no 'graph'"),
    "a definition's bad node": (defining({"graph": {"1": 3}}), "the definition 'd': '1' is no node"),
    "a definition's bad inputs": (defining({"graph": {}, "inputs": [{}]}), "'inputs' must be a list of objects"),
    "a definition's bad outputs": (defining({"graph": {}, "outputs": {}}), "'outputs' must be a list of objects"),
    "a definition's bad name": (defining({"graph": {}, "inputs": [{"name": 1}]}), "names of 'inputs' must be texts"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_no_workflow_is_refused_with_the_reason(what):
    content, sentence = BROKEN[what]
    with pytest.raises(WorkflowError) as caught:
        parse(content, "the file")
    assert str(caught.value).startswith("the file")
    assert sentence in str(caught.value)
    assert len(str(caught.value)) < 300


def test_what_is_nested_a_little_is_read_and_written():
    assert parse(dumps(parse(nested("[", "]", 98)))).rest["x"]


def test_a_file_that_is_too_large_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(workflow, "LARGEST", 20)
    with pytest.raises(WorkflowError, match="is larger than"):
        parse(EMPTY)


def test_a_name_that_stands_twice_among_very_many_is_found_quickly():
    content = "{" + ", ".join(f'"{k}": 1' for k in [*range(100_000), 99_999]) + "}"
    began = time.process_time()
    with pytest.raises(WorkflowError, match="'99999' stands twice"):
        parse(content)
    assert time.process_time() - began < 5  # takes 0.1; what is quadratic takes minutes


@pytest.mark.parametrize("name", ["gone.json", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    with pytest.raises(WorkflowError, match="cannot read"):
        read(tmp_path / name)


def test_a_picture_without_a_workflow_says_so(tmp_path):
    for name in ("plain.png", "plain.webp"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
        with pytest.raises(WorkflowError, match="is a picture without a workflow in it"):
            read(tmp_path / name)


def test_a_photograph_with_a_cameras_name_is_no_workflow(tmp_path):
    photo = Image.new("RGB", (4, 4))
    exif = photo.getexif()
    exif[0x010F], exif[0x0110] = "Nikon", "D700: the camera"
    photo.save(tmp_path / "photo.webp", exif=exif)
    with pytest.raises(WorkflowError, match="is a picture without a workflow in it"):
        read(tmp_path / "photo.webp")


UI = {"nodes": [{"id": 1, "type": "Foreign", "pos": [3, 4], "mode": 2}], "links": [], "version": 0.4}
API = {"1": {"class_type": "Foreign", "inputs": {}}}


def png(path, **texts):
    info = PngInfo()
    for keyword, held in texts.items():
        info.add_text(keyword, held if isinstance(held, str) else json.dumps(held))
    Image.new("RGB", (4, 4)).save(path, pnginfo=info)
    return path


def test_of_what_a_picture_carries_the_document_goes_first_then_what_has_places(tmp_path):
    ours = {"limner": 1, "graph": {"x": entry()}}
    assert list(read(png(tmp_path / "a.png", prompt=API, workflow=UI, limner=ours)).graph) == ["x"]
    assert read(png(tmp_path / "b.png", prompt=API, workflow=UI)).canvas == {"nodes": {"1": {"at": [3, 4]}}}
    assert read(png(tmp_path / "c.png", prompt=API)).canvas == {}


@pytest.mark.parametrize("damaged", ["{", '{"nodes": 3}', {"nodes": [], "links": []}, {"nodes": [{}]}])
def test_a_damaged_or_empty_workflow_in_a_picture_gives_way_to_what_was_run(tmp_path, damaged):
    assert read(png(tmp_path / "a.png", prompt=API, workflow=damaged)).graph == API


def test_if_nothing_in_a_picture_can_be_read_the_first_reason_is_given(tmp_path):
    with pytest.raises(WorkflowError, match=r"the workflow in .*a\.png has a node without an 'id'"):
        read(png(tmp_path / "a.png", prompt="[]", workflow={"nodes": [{}]}))


def test_numbers_that_json_has_not_are_nothing_in_what_comfyui_writes_into_pictures(tmp_path):
    held = '{"1": {"class_type": "Foreign", "inputs": {"a": Infinity, "b": 2}, "is_changed": [NaN]}}'
    found = read(png(tmp_path / "a.png", prompt=held)).graph["1"]
    assert found == {"class_type": "Foreign", "inputs": {"a": None, "b": 2}, "is_changed": [None]}
    with pytest.raises(WorkflowError, match="NaN is not a number that JSON has"):
        read(png(tmp_path / "b.png", prompt='{"a": NaN, "b": ' + "[" * 5000 + "]" * 5000 + "}"))


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_a_workflow_is_found_in_the_exif_of_a_picture(tmp_path, suffix):
    picture = Image.new("RGB", (4, 4))
    exif = picture.getexif()
    exif[0x010F], exif[0x0110] = f"workflow:{json.dumps(UI)}", f"prompt:{json.dumps(API)}"
    picture.save(tmp_path / f"a{suffix}", exif=exif)
    assert read(tmp_path / f"a{suffix}").canvas == {"nodes": {"1": {"at": [3, 4]}}}


def test_a_workflow_is_found_in_the_chunk_that_comfyui_has_for_animations(tmp_path):
    info = PngInfo()
    info.add(b"comf", b"prompt\0" + json.dumps(API).encode(), after_idat=True)
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.png", pnginfo=info, save_all=True, append_images=frames[1:])
    assert read(tmp_path / "a.png").graph == API


def test_a_copy_of_a_picture_carries_other_workflows_and_the_same_pixels(tmp_path):
    path = png(tmp_path / "a.png", prompt=API, workflow=UI, Comment="mine")
    (tmp_path / "b.png").write_bytes(pictures.carrying(path, {"limner": "{}", "prompt": '{"new": 1}'}))
    assert pictures.texts(tmp_path / "b.png") == {
        "Comment": "mine", "workflow": json.dumps(UI), "limner": "{}", "prompt": '{"new": 1}',
    }  # fmt: skip
    with Image.open(path) as before, Image.open(tmp_path / "b.png") as after:
        assert before.tobytes() == after.tobytes()
    Image.new("RGB", (4, 4)).save(tmp_path / "c.webp")
    with pytest.raises(ImageFileError, match="is WEBP; workflows are written into PNG only"):
        pictures.carrying(tmp_path / "c.webp", {})


WRAPPED = {
    "a request": {"prompt": API, "client_id": "x"},
    "a request with a workflow": {"prompt": API, "extra_data": {"extra_pnginfo": {"workflow": UI}}},
    "both": {"prompt": API, "workflow": UI},
    "a history's entry": {"prompt": [3, "id", API, {"extra_pnginfo": {"workflow": UI}}, ["1"]], "outputs": {}},
    "a history's entry without": {"prompt": [3, "id", API, {}, ["1"]], "outputs": {}, "status": {}},
    "a damaged workflow beside": {"prompt": API, "workflow": {"nodes": [{}]}},
}


@pytest.mark.parametrize("what", WRAPPED)
def test_a_workflow_is_found_in_what_it_was_sent_in(what):
    found = parse(json.dumps(WRAPPED[what]))
    assert list(found.graph) == ["1"]
    assert bool(found.canvas) == (json.dumps(UI) in json.dumps(WRAPPED[what]))


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\nnothing", b"RIFF\x00\x00\x00\x00WEBPVP8 "])
def test_a_damaged_picture_is_an_error_of_ours(tmp_path, content):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(LimnerError, match=r"x\.png"):
        read(tmp_path / "x.png")


# -------------------------------------------------------------------------------------------- how it is written


def shuffled(value: object) -> object:
    """The same data, each object's keys the other way round."""
    if isinstance(value, dict):
        return {k: shuffled(v) for k, v in reversed(value.items())}
    return [shuffled(v) for v in value] if isinstance(value, list) else value


def documents() -> Iterator[Document]:
    yield from (read(path) for path in SHIPPED)
    cases = (json.loads(path.read_text("utf-8")) for path in LOWER)
    yield from (parse(json.dumps(case["document"])) for case in cases if "lowered" in case)


def test_writing_is_stable_whatever_the_order_of_keys():
    for document in documents():
        text = dumps(document)
        assert json.loads(text) == document.as_json()
        assert dumps(parse(text)) == text
        assert dumps(parse(json.dumps(shuffled(document.as_json())))) == text


def test_a_small_change_is_a_small_difference():
    nodes = {str(k): entry(value=f"words {k}", other=["1", 0]) for k in range(20)}
    before = dumps(Document(nodes)).splitlines()
    after = dumps(Document({**nodes, "7": entry(value="other words", other=["1", 0])})).splitlines()
    added = dumps(Document({**nodes, "20": entry()})).splitlines()
    assert len(set(before) ^ set(after)) == 2
    assert len(set(added) - set(before)) <= 2


def test_a_file_reads_well():
    words = "naïve 苹果\n" + "long " * 30
    document = Document({"10": entry("limner.Sample", seed=2**53 - 1), "9": entry(value=words)})
    assert (
        dumps(document)
        == f"""{{
  "limner": 1,
  "graph": {{
    "9": {{
      "class_type": "limner.Text",
      "inputs": {{
        "value": {json.dumps(words, ensure_ascii=False)}
      }}
    }},
    "10": {{"class_type": "limner.Sample", "inputs": {{"seed": 9007199254740991}}}}
  }}
}}
"""
    )


def test_a_file_that_never_ends_is_refused_for_its_size():
    with pytest.raises(WorkflowError, match="larger than 64 MB"):
        workflow.read(Path("/dev/zero"))
