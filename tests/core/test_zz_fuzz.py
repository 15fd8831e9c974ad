"""ComfyUI's editor format: what every implementation must read and write, and that nothing else can happen."""

import copy
import json
import random
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limner.core.errors import WorkflowError
from limner.core.graph import problems
from limner.core.litegraph.kinds import CONTROL, NOTES, SEEDS, VIRTUAL, Sockets, Widget, fits, sockets
from limner.core.litegraph.lowering import is_link, passed_on
from limner.core.litegraph.placing import placed, ranked
from limner.core.litegraph.sheets import uuid
from limner.core.litegraph.values import WORDS, write
from limner.core.workflow import Document, dumps, forms, graph, lower, parse, text
from limner.nodes import ALL

EDITOR = sorted((Path(__file__).parents[1] / "formats" / "editor").glob("*.json"))
TEMPLATES = "comfyui-workflow-templates-json==0.1.123"


def kinds(types):
    """What is known of the node types of a case."""

    def one(row):
        return Sockets(
            tuple((name, wire) for name, wire in row["inputs"]),
            tuple(wire for _, wire in row["outputs"]),
            tuple(Widget(**{**w, "options": tuple(w.get("options", ()))}) for w in row.get("widgets", ())),
            tuple(name for name, _ in row["outputs"]),
        )

    return {name: one(row) for name, row in types.items()}.get


def exact(data):
    """Text in which 1, 1.0 and true differ, and the order of names does not count."""
    return json.dumps(data, sort_keys=True)


def cases(*needed):
    found = {path.stem: json.loads(path.read_text("utf-8")) for path in EDITOR}
    return [pytest.param(case, id=name) for name, case in found.items() if all(key in case for key in needed)]


# ------------------------------------------------------------------------------- what every implementation must do


@pytest.mark.parametrize("case", cases("file", "document"))
def test_a_file_is_read_as_every_implementation_must(case):
    document = parse(json.dumps(case["file"]), "the file", kinds(case["types"]))
    assert exact(document.as_json()) == exact(case["document"])
    assert list(document.warnings) == case.get("warnings", [])


@pytest.mark.parametrize("case", cases("lowered"))
def test_what_was_read_stands_for_what_every_implementation_must_find(case):
    known = kinds(case["types"])
    lowered = lower(parse(json.dumps(case["document"]), "the file", known), known)
    assert exact(lowered) == exact(case["lowered"])
    assert list(lowered) == list(case["lowered"])


@pytest.mark.parametrize("case", cases("written"))
def test_a_document_is_written_as_every_implementation_must(case):
    known = kinds(case["types"])
    written = forms(parse(json.dumps(case["document"]), "the file", known), known)["workflow"]
    assert exact(written) == exact(case["written"])
    for named, listed in zip(*[[n["widgets_values_named"] for n in f["nodes"] if "widgets_values_named" in n]
                               for f in (written, case["written"])], strict=True):  # fmt: skip
        assert list(named) == list(listed)


@pytest.mark.parametrize("case", cases("error"))
def test_what_is_damaged_is_refused_with_the_sentence_that_every_implementation_says(case):
    known = kinds(case["types"])
    with pytest.raises(WorkflowError) as caught:
        lower(parse(json.dumps(case["file"]), "the file", known), known)
    assert str(caught.value) == case["error"]


@pytest.mark.parametrize("case", cases("written"))
def test_a_written_file_means_the_same_when_it_is_read_and_is_written_alike(case):
    known = kinds(case["types"])
    again = parse(json.dumps(case["written"]), "the file", known)
    assert exact(forms(again, known)["workflow"]) == exact(case["written"])
    assert exact(filled(lower(again, known), known)) == exact(filled(live(case["lowered"]), known))


def filled(lowered, known):
    """The same with every default said: a file of the editor says it."""
    found = copy.deepcopy(lowered)
    for entry in found.values():
        kind = known(entry["class_type"])
        for name, value in write(kind, {}, {})[1].items() if kind else ():
            if value is not None and name in {widget.name for widget in kind.widgets}:
                entry["inputs"].setdefault(name, value)
    return found


def live(lowered):
    """The same without links to nowhere, which the editor cannot draw."""
    return {
        node_id: {**entry, "inputs": {k: v for k, v in entry["inputs"].items() if not is_link(v) or v[0] in lowered}}
        for node_id, entry in lowered.items()
    }


def test_every_case_says_what_it_is_about_and_names_no_type_that_it_does_not_use():
    for case in cases():
        (data,) = case.values
        assert data["about"]
        used = json.dumps([data.get("file"), data.get("document")])
        assert all(f'"{name}"' in used for name in data["types"])


# ------------------------------------------------------------------------------------------- types, known late or never


SAMPLE = {"nodes": [{"id": 1, "type": "KSampler", "widgets_values": [5, "randomize", 4, 7.5, "euler", "normal", 0.5]}]}
EDITABLE = {"KSampler": sockets(ALL["KSampler"]), "LoadImage": sockets(ALL["LoadImage"])}


def test_the_nodes_that_come_along_are_read_by_place():
    read = parse(json.dumps({"nodes": [
        SAMPLE["nodes"][0], {"id": 2, "type": "LoadImage", "widgets_values": ["a.png", "image"]},
        {"id": 3, "type": "EmptyLatentImage", "widgets_values": [64, 32, 2]},
    ]}), "it", lambda kind: sockets(ALL[kind]) if kind in ALL else None)  # fmt: skip
    assert read.graph["1"]["inputs"] == {
        "seed": 5, "steps": 4, "cfg": 7.5, "sampler_name": "euler", "scheduler": "normal", "denoise": 0.5,
    }  # fmt: skip
    assert read.graph["1"]["_meta"] == {"control": "randomize"}
    assert read.graph["2"]["inputs"] == {"image": "a.png"}
    assert read.graph["3"]["inputs"] == {"width": 64, "height": 32, "batch_size": 2}
    assert read.warnings == ()


def test_values_without_names_get_them_when_the_type_is_known():
    unknown = parse(json.dumps(SAMPLE))
    assert unknown.graph["1"]["inputs"] == {}
    assert "KSampler" in unknown.warnings[0]
    known = parse(dumps(unknown), "it", EDITABLE.get)
    assert known.graph == parse(json.dumps(SAMPLE), "it", EDITABLE.get).graph
    assert known.warnings == ()
    assert parse(dumps(known), "it", EDITABLE.get) == known


def test_values_that_do_not_fit_when_the_type_is_known_are_told_of():
    unknown = parse(json.dumps({"nodes": [{"id": 1, "type": "KSampler", "widgets_values": ["x"]}]}))
    (said,) = parse(dumps(unknown), "it", EDITABLE.get).warnings
    assert said.startswith("KSampler '1' was saved with 1 widget value, and has places for 7: look at seed")


def test_a_definitions_default_is_known_when_its_inner_node_is():
    subgraph = {
        "id": "d", "name": "D", "inputs": [{"name": "seed", "type": "INT", "linkIds": [1]}], "outputs": [],
        "nodes": [{**SAMPLE["nodes"][0], "inputs": [{"name": "seed", "type": "INT", "link": 1}]}],
        "links": [[1, -10, 0, 1, 0, "INT"]],
    }  # fmt: skip
    file = {"nodes": [{"id": 7, "type": "d"}], "definitions": {"subgraphs": [subgraph]}}
    late = parse(dumps(parse(json.dumps(file))), "it", EDITABLE.get)
    assert lower(late, EDITABLE.get)["7:1"]["inputs"]["seed"] == 5
    assert lower(late, EDITABLE.get) == lower(parse(json.dumps(file), "it", EDITABLE.get), EDITABLE.get)


def test_what_an_instance_shows_that_is_no_value_is_no_input():
    shown = [
        ["1", "control_after_generate"],
        ["1", "$$canvas-image-preview"],
        ["1", "steps"],
        ["2", "x"],
        [3, "y"],
        "z",
    ]
    file = {"nodes": [{"id": 7, "type": "d", "properties": {"proxyWidgets": shown}}],
            "definitions": {"subgraphs": [{"id": "d", "nodes": [{"id": 1, "type": "Foreign"}]}]}}  # fmt: skip
    definition = parse(json.dumps(file)).definitions["d"]
    assert [row["name"] for row in definition["inputs"]] == ["steps"]
    assert definition["graph"]["1"]["inputs"] == {"steps": ["$inputs", 0]}


def test_reading_without_knowing_anything_loses_nothing():
    for case in cases("file", "written"):
        (data,) = case.values
        known = kinds(data["types"])
        late = parse(json.dumps(forms(parse(json.dumps(data["file"])))["workflow"]), "it", known)
        if "warnings" not in data:
            assert filled(lower(late, known), known) == filled(data["lowered"], known), case.id


# -------------------------------------------------------------------------------------------------- small parts


@pytest.mark.parametrize(
    ("wire", "socket", "do"),
    [
        ("IMAGE", "IMAGE", True), ("IMAGE", "image", True), ("IMAGE", "MASK", False), ("*", "MASK", True),
        ("IMAGE", "*", True), ("", "MASK", True), ("A,B", "B", True), ("A,B", "C, b", True), ("A,B", "C", False),
    ],
)  # fmt: skip
def test_types_fit_as_the_editor_says(wire, socket, do):
    assert fits(wire, socket) is do


NODE = Sockets(
    (("a", "IMAGE"), ("w", "FLOAT"), ("m", "MASK"), ("b", "IMAGE")), ("IMAGE", "MASK", "*"), (Widget("w", "FLOAT"),)
)
GIVEN = {"a": ["1", 0], "m": ["2", 0], "b": ["3", 0], "w": ["4", 0]}


@pytest.mark.parametrize(
    ("slot", "wire", "given_", "found"),
    [
        (0, "IMAGE", GIVEN, ["1", 0]),
        (1, "MASK", GIVEN, ["2", 0]),
        (2, "IMAGE", GIVEN, ["3", 0]),  # the same place
        (2, "MASK", GIVEN, ["2", 0]),  # the wanted type, not that of the place
        (1, "*", GIVEN, ["2", 0]),
        (2, "*", {"a": ["1", 0]}, ["1", 0]),
        (0, "*", {"m": ["2", 0]}, None),
        (0, "FLOAT", GIVEN, ["4", 0]),
        (0, "IMAGE", {"b": ["3", 0]}, ["3", 0]),
        (0, "IMAGE", {"a": 5}, None),
        (7, "IMAGE", GIVEN, None),
        (-1, "IMAGE", GIVEN, None),
    ],
)
def test_a_bypassed_node_gives_what_the_input_at_its_end_can_take(slot, wire, given_, found):
    assert passed_on(slot, wire, given_, NODE) == found


def test_a_made_up_id_is_a_uuid_and_a_uuid_stays():
    assert uuid("say") == "c91c7e60-3dff-897f-8a12-f85a5e560689"
    assert uuid("c91c7e60-3dff-897f-8a12-f85a5e560689") == "c91c7e60-3dff-897f-8a12-f85a5e560689"
    assert len({uuid(str(k)) for k in range(10_000)}) == 10_000


def test_nodes_without_a_place_stand_in_columns_after_what_they_need_and_do_not_overlap():
    above = {"a": [], "b": ["a"], "c": ["a", "b"], "d": [], "e": ["e"], "f": ["gone", "c"]}
    assert ranked(above) == {"a": 0, "b": 1, "c": 2, "d": 0, "e": 0, "f": 3}
    sizes = {name: [200, 100] for name in above}
    found = placed(above, {"a": [50, 70]}, sizes)
    assert "a" not in found
    boxes = [*found.values(), [50, 70]]
    assert all(abs(x - u) >= 200 or abs(y - v) >= 100 + 30 for k, (x, y) in enumerate(boxes) for u, v in boxes[:k])


def test_a_file_for_the_editor_has_a_line_for_each_node_and_keeps_the_order_of_values():
    file = forms(parse(json.dumps(SAMPLE), "it", EDITABLE.get), EDITABLE.get)["workflow"]
    assert json.loads(text(file)) == file
    assert sum('"type": "KSampler"' in line for line in text(file).splitlines()) == 1
    assert list(json.loads(text(file))["nodes"][0]["widgets_values_named"])[:3] == ["seed", CONTROL, "steps"]


# -------------------------------------------------------------------------------------------- whatever is in a file


WIRES = ("IMAGE", "MASK", "STRING", "FLOAT")
WORDS_OF = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)
VALUES = {
    "INT": st.integers(-(2**60), 2**64),
    "FLOAT": st.floats(-1e9, 1e9, allow_nan=False).map(lambda x: round(x, 3)) | st.integers(-5, 5),
    "STRING": WORDS_OF,
    "BOOLEAN": st.booleans(),
    "COMBO": st.sampled_from(["euler", "heun"]),
}


@st.composite
def types(draw):
    """A handful of node types."""
    found = {}
    for k in range(draw(st.integers(1, 4))):
        inputs, widgets = [], []
        for j in range(draw(st.integers(0, 5))):
            if draw(st.booleans()):
                inputs.append((f"i{j}", draw(st.sampled_from([*WIRES, "*"]))))
            else:
                wire = draw(st.sampled_from(sorted(VALUES)))
                options = ("euler", "heun") if wire == "COMBO" else ()
                control, button = wire == "INT" and draw(st.booleans()), "image" if wire == "COMBO" and k == 1 else ""
                widgets.append(Widget(f"i{j}", wire, None, options, control, button))
                inputs.append((f"i{j}", "STRING" if wire == "COMBO" else wire))
        outputs = tuple(draw(st.lists(st.sampled_from([*WIRES, "*"]), max_size=3)))
        found[f"T{k}"] = Sockets(tuple(inputs), outputs, tuple(widgets), outputs)
    return found


@st.composite
def graphs(draw, known, rows, instances):
    """A graph of known and unknown nodes, instances, and what only an editor has; links point anywhere."""
    ids = draw(
        st.lists(st.integers(1, 99).map(str) | st.sampled_from(["a", "b.c", "__proto__"]), max_size=6, unique=True)
    )
    sources = [(node_id, slot) for node_id in ids for slot in range(2)] + [("$inputs", k) for k in range(len(rows))]
    link = st.sampled_from(sources).map(list) if sources else st.nothing()
    found: dict[str, Any] = {}
    for node_id in ids:
        kind = draw(st.sampled_from([*known, "Foreign", "Reroute", "PrimitiveNode", *instances]))
        entry: dict[str, Any] = {"class_type": kind, "inputs": {}}
        shape = known.get(kind) or (VIRTUAL[kind] if kind in VIRTUAL else instances.get(kind))
        widgets = {w.name: w.wire for w in shape.widgets} if shape else {}
        for name, _ in shape.inputs if shape else (("x", ""), ("y", "")):
            if name in widgets and not (sources and draw(st.integers(0, 4)) == 0):
                entry["inputs"][name] = draw(VALUES.get(widgets[name], st.integers(0, 5) | WORDS_OF))
            elif sources and draw(st.booleans()):
                entry["inputs"][name] = draw(link)
        mode = draw(st.sampled_from([None, None, "mute", "bypass"]))
        title = draw(st.none() | WORDS_OF.filter(bool))
        sides = {"inputs": [["x", "*"], ["y", "MASK"]], "outputs": [["a", "IMAGE"], ["b", "*"]]}
        brought = {"sockets": sides if kind == "Foreign" else None}
        meta = {k: v for k, v in {"mode": mode, "title": title, **brought}.items() if v is not None}
        found[node_id] = entry | ({"_meta": meta} if meta else {})
    return found


@st.composite
def documents(draw):
    """A workflow with definitions in it, and what is known of its nodes."""
    known = draw(types())
    instances: dict[str, Sockets] = {}
    definitions = {}
    for k in range(draw(st.integers(0, 2))):
        rows = [{"name": f"r{j}", "type": draw(st.sampled_from(WIRES))} for j in range(draw(st.integers(0, 2)))]
        rows = [row | ({"default": "x", "widget": True} if row["type"] == "STRING" else {}) for row in rows]
        graph = draw(graphs(known, rows, dict(instances)))
        places = [[i, 0] for i in graph] + [["$inputs", j] for j in range(len(rows))]
        outputs = [{"name": f"o{j}", "type": "IMAGE", "from": p} for j, p in enumerate(places[:2])]
        definitions[f"D{k}"] = {"name": f"D{k}", "inputs": rows, "outputs": outputs, "graph": graph}
        instances[f"D{k}"] = Sockets(
            tuple((r["name"], r["type"]) for r in rows), ("IMAGE",) * len(outputs),
            tuple(Widget(r["name"], r["type"], r["default"]) for r in rows if "default" in r),
        )  # fmt: skip
    return Document(draw(graphs(known, [], instances)), definitions), known.get


def meaning(document, known):
    return exact(filled(live(lower(document, known)), known))


SLOW = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=400)


@given(documents())
@SLOW
def test_whatever_a_workflow_is_it_means_the_same_after_the_editors_format(drawn):
    document, known = drawn
    try:
        before = meaning(document, known)
    except WorkflowError:
        return
    file = forms(document, known)["workflow"]
    again = parse(json.dumps(file), "it", known)
    assert meaning(again, known) == before
    file = forms(again, known)["workflow"]  # by now every value is said
    assert exact(forms(parse(json.dumps(file), "it", known), known)["workflow"]) == exact(file)


NAMES = ["id", "name", "type", "comfy", "0"]
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-20, 2**70) | st.floats(allow_nan=False, allow_infinity=False) | WORDS_OF
    | st.sampled_from(["-10", "$inputs", "$outputs", "Reroute", "PrimitiveNode", "Note", "", "*", "1", "__proto__"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS_OF | st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Every list and object in `data`, with each of its keys."""
    waiting = [data]
    while waiting:
        part = waiting.pop()
        keys = part.keys() if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ()
        for key in list(keys):
            yield part, key
            waiting.append(part[key])


@given(st.data())
@settings(SLOW, max_examples=12000)
@pytest.mark.parametrize("what", ["file", "document"])
def test_whatever_is_changed_in_a_file_it_is_a_workflow_or_a_sentence(what, data):
    case = data.draw(st.sampled_from([param.values[0] for param in cases(what, "lowered")]))
    known = kinds(case["types"])
    changed = copy.deepcopy(case[what])
    for _ in range(data.draw(st.integers(1, 4))):
        part, key = data.draw(st.sampled_from(list(places(changed))))
        if data.draw(st.booleans()):
            part[key] = data.draw(JUNK)
        else:
            del part[key]
        if not changed:
            return
    for sockets_of in (known, lambda _: None):
        try:
            document = parse(json.dumps(changed), "the file", sockets_of)
        except WorkflowError as error:
            assert str(error).startswith("the file")  # noqa: PT017
            continue
        try:
            lower(document, sockets_of)
            written = json.dumps(forms(document, sockets_of)["workflow"])
        except WorkflowError:
            continue
        parse(written, "the file", sockets_of)


@pytest.mark.parametrize("case", cases("file", "document"))
def test_reading_changes_nothing_that_it_was_given(case):
    from limner.core.litegraph import reading, writing

    before, known = copy.deepcopy(case), kinds(case["types"])
    reading.document(case["file"], known, "it")
    writing.workflow(case["document"], known)
    assert case == before


# ------------------------------------------------------------------------------------------------- very much of it


def chain(count):
    """Nodes in a row, in the editor's format."""
    nodes = [
        {"id": k, "type": "Blur", "pos": [k, 0], "inputs": [{"name": "image", "type": "IMAGE", "link": k}],
         "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [k + 1]}], "widgets_values": [k]}
        for k in range(count)
    ]  # fmt: skip
    return {"nodes": nodes, "links": [[k, k - 1, 0, k, 0, "IMAGE"] for k in range(1, count)], "version": 0.4}


BLUR = Sockets((("image", "IMAGE"), ("radius", "FLOAT")), ("IMAGE",), (Widget("radius", "FLOAT", 1.0),))


def definition(name, **parts):
    return {"id": name, "nodes": [], "links": [], "inputs": [], **parts}


def without_places(count):
    file = chain(count)
    return {**file, "nodes": [{k: v for k, v in node.items() if k != "pos"} for node in file["nodes"]]}


def into_one_node(count):
    rows = [{"name": f"i{k}", "type": "IMAGE", "link": k} for k in range(count)]
    nodes = [{"id": 1, "type": "Blur", "outputs": [{"name": "IMAGE"}]}, {"id": 2, "type": "Any", "inputs": rows}]
    return {"nodes": nodes, "links": [[k, 1, 0, 2, k, "IMAGE"] for k in range(count)]}


def definitions_in_each_other(count):
    inner = [definition(f"d{k}", nodes=[{"id": 1, "type": f"d{k + 1}"}]) for k in range(count)]
    return {"nodes": [{"id": 1, "type": "d0"}], "definitions": {"subgraphs": inner}}


def shown_widgets(count):
    properties = {"proxyWidgets": [["1", f"w{k}"] for k in range(count)]}
    inner = [definition("d", nodes=[{"id": 1, "type": "Any"}])]
    return {"nodes": [{"id": 1, "type": "d", "properties": properties}], "definitions": {"subgraphs": inner}}


def points(count):
    links = [dict(zip(KEYS, row, strict=False)) | {"parentId": count - 1} for row in chain(count)["links"]]
    rows = [{"id": k, "parentId": k - 1, "pos": [0, 0]} for k in range(1, count)]
    return {**chain(count), "version": 1, "links": links, "reroutes": rows}


def values(count):
    held = {"widgets_values": [1] * count}
    named = {"widgets_values_named": {str(k): k for k in range(count)}}
    return {
        "nodes": [{"id": 1, "type": "Blur", **held}, {"id": 2, "type": "Any", **held}, {"id": 3, "type": "B", **named}]
    }


def inputs_of_one_name(count):
    inner = [definition("d", inputs=[{"name": "x", "type": "INT"}] * count)]
    return {"nodes": [{"id": 1, "type": "d"}], "definitions": {"subgraphs": inner}}


def reroutes(count):
    row = [{"id": k, "type": "Reroute", "inputs": [{"name": "", "link": k}]} for k in range(count)]
    return {"nodes": row, "links": [[k, k - 1, 0, k, 0, "*"] for k in range(1, count)]}


KEYS = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
BLUR = Sockets((("image", "IMAGE"), ("radius", "FLOAT")), ("IMAGE",), (Widget("radius", "FLOAT", 1.0),))
MANY = [
    chain, without_places, into_one_node, definitions_in_each_other, shown_widgets, points, values, inputs_of_one_name,
    reroutes,
]  # fmt: skip


@pytest.mark.parametrize("many", MANY, ids=lambda many: many.__name__)
def test_ten_thousand_of_anything_take_time_in_proportion(many):
    took = []
    for count in (1_000, 10_000):
        content = json.dumps(many(count))
        began = time.process_time()
        document = parse(content, "it", {"Blur": BLUR}.get)
        forms_or_sentence(document)
        took.append(time.process_time() - began)
    assert took[1] < max(30 * took[0], 3), took


def forms_or_sentence(document):
    try:
        assert forms(document, {"Blur": BLUR}.get)
    except WorkflowError as error:
        assert "deep" in str(error)  # noqa: PT017


def test_a_link_to_the_billionth_output_makes_no_billion_outputs():
    far = {"class_type": "Foreign", "inputs": {"x": ["2", 10**9], "y": ["2", 5]}}
    file = forms(Document({"1": far, "2": {"class_type": "Foreign", "inputs": {}}}))["workflow"]
    assert [len(node["outputs"]) for node in file["nodes"]] == [0, 6]
    assert [link[:5] for link in file["links"]] == [[1, 2, 5, 1, 1]]


def test_nothing_is_read_recursively():
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(300)
    try:
        document = parse(json.dumps(chain(5_000)), "it", {"Blur": BLUR}.get)
        assert len(forms(document, {"Blur": BLUR}.get)["workflow"]["nodes"]) == 5_000
    finally:
        sys.setrecursionlimit(limit)


# -------------------------------------------------------------------------------------- the files of ComfyUI's own


@pytest.fixture(scope="module")
def templates(tmp_path_factory):
    """ComfyUI's workflow templates (MIT), if they can be had."""
    folder = tmp_path_factory.mktemp("templates")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", folder, TEMPLATES]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{TEMPLATES} cannot be downloaded here: {done.stderr.strip().splitlines()[-1:]}")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist() if name.endswith(".json")}
    files = {Path(name).stem: json.loads(content) for name, content in held.items()}
    return {name: file for name, file in files.items() if isinstance(file, dict) and "nodes" in file}


def graphs_of(file: dict[str, Any]) -> Iterator[dict[str, Any]]:
    waiting = [file]
    while waiting:
        part = waiting.pop()
        yield part
        waiting += (part.get("definitions") or {}).get("subgraphs") or []


def learned(files):
    """Node types, as the files that hold values by name tell of them."""
    shapes: dict[str, set[tuple[str, ...]]] = {}
    held: dict[str, list[dict[str, Any]]] = {}
    drawn: dict[str, dict[str, str]] = {}
    outputs: dict[str, list[str]] = {}
    for file in files:
        own = {part["id"] for one in graphs_of(file) for part in (one.get("definitions") or {}).get("subgraphs", [])}
        for node in (node for one in graphs_of(file) for node in one["nodes"]):
            kind = node["type"]
            if kind in own or kind in VIRTUAL or kind in NOTES:
                continue
            named = node.get("widgets_values_named")
            if node.get("widgets_values"):
                shapes.setdefault(kind, set()).add(tuple(named) if isinstance(named, dict) else ())
            held.setdefault(kind, []).append(named if isinstance(named, dict) else {})
            for row in node.get("inputs") or []:
                drawn.setdefault(kind, {}).setdefault(row["name"], row["type"])
            found = [row["type"] for row in node.get("outputs") or []]
            outputs[kind] = max(outputs.get(kind, []), found, key=len)
    return {
        kind: shape
        for kind in outputs
        if (shape := described(shapes.get(kind, set()), held[kind], drawn.get(kind, {}), outputs[kind])) is not None
    }


def described(shapes, held, drawn, outputs):
    names = [shape for shape in shapes if shape]
    if len(names) > 1 or (shapes and not names):
        return None  # of several versions, or nowhere named
    order = names[0] if names else ()
    widgets = []
    for name, behind in zip(order, [*order[1:], ""], strict=False):
        if name not in (CONTROL, "upload", "audioUI", *WORDS) and "#" not in name:
            kinds_ = {type(row[name]) for row in held if row.get(name) is not None}
            wire = {frozenset([bool]): "BOOLEAN", frozenset([str]): "STRING"}.get(frozenset(kinds_), "*")
            wire = "INT" if name in SEEDS else wire
            wire = drawn[name] if isinstance(drawn.get(name), str) else wire
            widgets.append(
                Widget(
                    name, wire, None, (), behind == CONTROL or behind in WORDS, "image" if behind == "upload" else ""
                )
            )
    typed = {widget.name for widget in widgets}
    rows = [
        (name, wire if isinstance(wire, str) else "*")
        for name, wire in drawn.items()
        if name not in (*typed, "upload", "audioUI")
    ]
    return Sockets(
        (*rows, *((w.name, w.wire) for w in widgets)),
        tuple(w if isinstance(w, str) else "*" for w in outputs),
        tuple(widgets),
    )


@pytest.mark.long
def test_every_template_of_comfyui_is_read_lowered_and_written_without_loss(templates):
    assert len(templates) > 600
    for name, file in templates.items():
        document = parse(json.dumps(file), name)
        written = forms(document)["workflow"]
        again = parse(json.dumps(written), name)
        assert lower(again) == lower(document), name
        assert forms(again)["workflow"] == written, name
        assert links_of(written) == links_of(file), name
        before, after = ({str(n["id"]): n for n in part["nodes"]} for part in (file, written))
        assert before.keys() == after.keys(), name
        for node_id, node in before.items():
            for key in ("type", "pos", "size", "mode", "color", "bgcolor", "title"):
                assert after[node_id].get(key) == node.get(key), (name, node_id, key)


def links_of(file):
    """Links by what they are plugged into, as far as both ends are there."""
    nodes = {node["id"]: node for node in file["nodes"]}
    found = set()
    for node in nodes.values():
        rows = {row["link"]: row["name"] for row in node.get("inputs") or [] if row.get("link") is not None}
        for link in file["links"]:
            if link[0] in rows and link[3] == node["id"] and link[1] in nodes:
                found.add((link[1], link[2], node["id"], rows[link[0]]))
    return found


@pytest.mark.long
def test_values_counted_by_place_are_those_that_the_templates_name(templates):
    known = learned(templates.values())
    assert len(known) > 250
    agreed = doubted = 0
    for name, file in templates.items():
        bare = copy.deepcopy(file)
        for node in (node for one in graphs_of(bare) for node in one["nodes"]):
            node.pop("widgets_values_named", None)
        named, counted = (lower(parse(json.dumps(f), name, known.get), known.get) for f in (file, bare))
        for node_id, entry in named.items():
            if entry["class_type"] in known and entry["inputs"]:
                agreed += counted[node_id] == entry
                doubted += counted[node_id] != entry
    assert agreed > 1500
    assert doubted < 0.01 * agreed, (agreed, doubted)  # a few files contradict themselves


@pytest.mark.long
def test_a_template_whose_nodes_all_come_along_is_right_but_for_its_models(templates):
    def known(kind):
        return sockets(ALL[kind]) if kind in ALL else None

    whole = 0
    for name, file in templates.items():
        document = parse(json.dumps(file), name, known)
        nodes = graph(lower(document, known))
        if all(node.type in ALL for node in nodes.values()):
            whole += 1
            assert document.warnings == (), name
            assert list(problems(nodes, ALL)) == [], name
    assert whole >= 1


def test_a_random_file_of_bytes_is_refused_with_a_sentence():
    rng = random.Random(0)
    for length in range(0, 300, 7):
        with pytest.raises(WorkflowError):
            parse(bytes(rng.randrange(256) for _ in range(length)), "the file")
