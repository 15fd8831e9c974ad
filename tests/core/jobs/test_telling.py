"""The teller: events of nodes that stand in others' places, that are blocked, and that are ahead of their clients."""

from types import SimpleNamespace

from limner.core.errors import Interrupted
from limner.core.event import Failed, Finished, Moved, Place, Refused, Started, Stopped
from limner.core.jobs import story, telling
from limner.core.jobs.job import Job
from limner.core.jobs.telling import Teller
from limner.core.values import Progress
from PIL import Image

PROMPT = {"1": {"class_type": "Loop", "inputs": {"model": ["0", 0], "steps": 3, "text": "x" * 500}}}
JOB = Job(
    "a", 1, 1, 0, "me", PROMPT, ("1",), {}, None, "running", 1, 0, 0, None, {}, {}, (), None, (), (), None
)  # fmt: skip
INSIDE = Place(display="1", parent="1.0")


def teller(**options):
    said = []
    return Teller(JOB, said.append, **options), said


def test_a_node_in_another_s_place_is_shown_there_and_kept_under_its_own_id():
    telling_, said = teller()
    telling_.event(Started("1.0.5", place=INSIDE))
    telling_.event(Finished("1.0.5", (), False, 0.5, ui={"text": ["x"]}, place=INSIDE))
    result = telling_.end()
    assert {"node": "1.0.5", "display": "1", "parent": "1.0"}.items() <= said[0].items()
    assert result.outputs == {"1.0.5": {"text": ["x"]}}
    assert result.meta["1.0.5"] == {
        "node_id": "1.0.5", "display_node": "1", "parent_node": "1.0", "real_node_id": "1",
    }  # fmt: skip


def test_a_blocked_node_is_told_of_and_the_run_goes_on():
    telling_, said = teller()
    telling_.event(Refused("1", "not today"))
    assert {"event": "refused", "node": "1", "message": "not today"}.items() <= said[0].items()
    assert telling_.end().state == "done"
    name, message = story.refused(JOB, "1", "not today", ["0"])
    assert name == "execution_error"
    assert {"exception_type": "ExecutionBlocked", "exception_message": "not today"}.items() <= message.items()
    assert message["executed"] == ["0"]


def test_an_error_quotes_constants_briefly_and_no_links():
    _, said = story.ended(JOB, "failed", story.error("failed", "ValueError", "no", "1"), ["0"], ["9"])
    assert said["current_inputs"] == {"steps": ["3"], "text": ["x" * 200]}
    assert said["executed"] == ["9", "0"]
    assert (said["node_type"], said["exception_type"]) == ("Loop", "ValueError")


def test_the_last_progress_of_a_node_is_told_when_another_moves_or_anything_happens():
    telling_, said = teller()
    for node in ("a", "b"):
        for k in range(5):
            telling_.event(Moved(node, Progress(k + 1, 5)))
    telling_.event(Stopped("b"))
    values = [(event["node"], event["value"]) for event in said if event["event"] == "progress"]
    assert values == [("a", 1), ("a", 5), ("b", 1), ("b", 5)]


def test_a_picture_that_is_a_result_is_told_at_once_and_to_whoever_wants_previews_or_not():
    telling_, said = teller()
    for k in range(3):
        telling_.event(Moved("1", Progress(k + 1, 3, ("PNG", Image.new("RGB", (4, 4)), None))))
    assert [event["png"][:4] for event in said if event["event"] == "preview"] == [b"\x89PNG"] * 3
    telling_, said = teller()
    telling_.event(Moved("1", Progress(1, 3, ("JPEG", Image.new("RGB", (4, 4)), None))))
    assert [event["event"] for event in said] == ["progress"]


def test_the_end_is_told_once():
    telling_, said = teller()
    telling_.event(Failed("1", ValueError("no")))
    first = telling_.end()
    assert telling_.end(RuntimeError("later")) is first
    assert [event["event"] for event in said] == ["ended"]
    assert (first.state, first.error["message"]) == ("failed", "no")
    assert "ValueError: no" in first.trace


def test_a_stop_that_a_node_raises_itself_is_a_stop():
    telling_, _ = teller()
    telling_.event(Failed("1", Interrupted("by a foreign node")))
    assert telling_.end().state == "interrupted"


def test_what_cannot_be_json_is_left_out_and_fails_nothing():
    loop = {}
    loop["images"] = [loop]

    class Sulking:
        def __str__(self):
            raise RuntimeError("no")

    telling_, said = teller()
    for ui in (loop, {"text": [Sulking()]}):
        telling_.event(Finished("1", (), False, ui=ui))
    assert [event["output"] for event in said] == [{}, {}]


def test_a_network_is_told_with_its_job_only_if_there_is_no_doubt():
    recipe = SimpleNamespace(kind="text_encoder")
    loaded = type("Loaded", (), {"recipe": recipe, "bytes": 2e6, "reason": "first use"})()
    alone = telling.of_network(loaded, [JOB])
    assert (alone["job"], alone["client"], alone["text"]) == ("a", "me", "loaded text encoder, 2.0 MB: first use")
    assert telling.of_network(loaded, [JOB, JOB])["job"] == ""
    assert telling.of_network(loaded, [])["job"] == ""
