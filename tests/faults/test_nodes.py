"""Nodes that go wrong, in every way and on a real server: their job fails, with a reason, and nothing else happens."""

import threading

import pytest
from server_process import entry, picture, until

pytestmark = pytest.mark.long

RAISES = {
    "Exception": ("failed", "Exception: it went wrong"),
    "SystemExit": ("failed", "SystemExit: 1"),
    "KeyboardInterrupt": ("failed", "KeyboardInterrupt"),
    "GeneratorExit": ("failed", "GeneratorExit"),
    "StopIteration": ("failed", "StopIteration"),
    "BaseException": ("failed", "OfItsOwn: of its own kind"),
    "no words": ("failed", "Unspeakable"),
    "path": ("failed", "…/x.bin"),
    "surrogate": ("failed", "half a pair: "),
    "endless": ("failed", "x" * 1000),
    "memory": ("out_of_memory", "MemoryError"),
    "device memory": ("out_of_memory", "CUDA out of memory"),
    "recursion": ("failed", "RecursionError"),
}


@pytest.mark.parametrize("kind", RAISES)
def test_whatever_a_node_raises_its_job_fails_with_a_code_a_node_and_a_sentence(server, kind):
    code, words = RAISES[kind]
    job = server.run({"1": entry("FaultyRaise", kind=kind)})
    error = job["error"]
    assert (job["state"], error["code"], error["node"]) == ("failed", code, "1")
    assert words in error["message"]
    assert len(error["message"]) <= 10_000
    assert "secret place" not in error["message"]
    status, history = server.ask(f"/history/{job['id']}")
    assert status == 200
    last, said = history[job["id"]]["status"]["messages"][-1]
    assert (last, said["node_id"], said["node_type"]) == ("execution_error", "1", "FaultyRaise")


NOWHERE = pytest.param("an expansion of nothing", marks=pytest.mark.xfail(reason="told as KeyError", strict=True))


@pytest.mark.parametrize("kind", [NOWHERE, "an expansion of nonsense", "an ui of nonsense"])
def test_whatever_a_node_returns_that_it_does_not_declare_its_job_fails_and_says_which_node(server, kind):
    job = server.run({"1": entry("FaultyReturn", kind=kind), "2": entry("FaultyTake", first=["1", 0], second=["1", 1])})
    assert job["state"] == "failed", job
    assert job["error"]["node"] == "1", job["error"]
    assert job["error"]["code"] == "bad_return", job["error"]
    assert "FaultyReturn" in job["error"]["message"]


@pytest.mark.parametrize("kind", ["nothing", "a result of nothing"])
def test_a_node_that_returns_nothing_at_all_fails_its_job_and_says_what_it_declares(server, kind):
    job = server.run({"1": entry("FaultyReturn", kind=kind), "2": entry("FaultyTake", first=["1", 0], second=["1", 1])})
    assert (job["error"]["node"], job["error"]["code"]) == ("1", "bad_return")
    assert job["error"]["message"] == "FaultyReturn declares 2 outputs, and returned 0"


@pytest.mark.parametrize("kind", ["an empty tuple", "a generator", "a number", "too little", "text", "a set"])
def test_a_node_that_returns_too_little_blocks_what_needs_more_and_that_is_told(server, kind):
    """Packs count on it: what nobody needs need not be returned."""
    job = server.run({"1": entry("FaultyReturn", kind=kind), "2": entry("FaultyTake", first=["1", 0], second=["1", 1])})
    assert job["state"] == "done"
    (refused,) = server.messages(job["id"], "refused")
    assert (refused["node"], refused["message"]) == ("2", "FaultyReturn returned no INT")
    assert job["outputs"] == {}


FINGERPRINTS = ("raises", "exits", "NaN", "a dictionary", "incomparable", "100 MB", "a tensor")


@pytest.mark.parametrize("kind", FINGERPRINTS)
def test_a_fingerprint_of_any_kind_lets_its_node_run(server, kind):
    prompt = {"1": entry("FaultyFingerprint", kind=kind), "2": entry("FaultyTake", first=["1", 0], second=["1", 0])}
    for _ in range(2):
        job = server.run(prompt)
        assert job["state"] == "done", job["error"]
        assert job["outputs"]["2"] == {"text": ["(1, 1)"]}


@pytest.mark.parametrize("kind", ["exits", "base", "no words"])
def test_a_check_of_a_nodes_own_that_ends_programs_is_not_passed_and_ends_none(server, kind):
    prompt = {"1": entry("FaultyCheck", kind=kind)}
    status, answer = server.ask("/prompt", {"prompt": prompt})
    assert status == 400
    assert "1" in answer["node_errors"]
    for path in ("/limner/validate", "/limner/plan"):
        assert server.ask(path, {"graph": prompt, "limner": 1})[0] == 200
    assert server.run({"1": entry("FaultyCheck", kind="sound")})["state"] == "done"


def test_a_fingerprint_that_ends_programs_ends_no_plan(server):
    prompt = {"1": entry("FaultyFingerprint", kind="exits"), "2": entry("FaultyTake", first=["1", 0], second=["1", 0])}
    status, plan = server.ask("/limner/plan", {"graph": prompt, "limner": 1})
    assert status == 200, plan


def test_a_class_that_can_no_longer_say_what_it_takes_harms_no_other(server):
    prompt = {"1": entry("FaultyOffers", kind="a")}
    assert server.run(prompt)["outputs"]["1"] == {"text": ["a"]}
    gone = server.base / "input" / "offers-no-more"
    gone.parent.mkdir(exist_ok=True)
    gone.touch()
    try:
        assert "FaultyTake" in server.ask("/object_info")[1]
        assert server.ask("/object_info/FaultyOffers")[0] == 200
        status, answer = server.ask("/prompt", {"prompt": prompt})
        assert status in (200, 400)
        if status == 200:
            server.ended(answer["prompt_id"])
        assert server.ask("/limner/plan", {"graph": prompt, "limner": 1})[0] == 200
    finally:
        gone.unlink()


def test_a_node_that_cannot_say_what_it_needs_fails_its_job(server):
    prompt = {"1": entry("PrimitiveInt", value=1), "2": entry("FaultyLazy", value=["1", 0])}
    job = server.run(prompt)
    assert (job["state"], job["error"]["node"], job["error"]["type"]) == ("failed", "2", "SystemExit")


@pytest.mark.parametrize("how", ["exits", "stops"])
def test_a_route_of_a_pack_that_raises_what_ends_programs_is_an_error_and_ends_none(server, how):
    status, answer = server.ask(f"/faulty/{how}")
    assert (status, answer["error"]["type"]) == (500, "internal")


def test_a_route_of_a_pack_that_raises_what_is_no_exception_harms_its_caller_alone(server):
    try:
        status, answer = server.ask("/faulty/base")
    except OSError:  # the server has hung up
        return
    assert (status, answer["error"]["type"]) == (500, "internal")


def test_a_prompt_handler_that_raises_what_ends_programs_stops_no_prompt(server):
    assert server.run(picture(), extra_data={"handler": "exits"})["state"] == "done"


def test_what_a_node_writes_into_is_not_taken_for_what_it_was(server):
    image = {"1": entry("EmptyImage", width=16, height=16, batch_size=1, color=0x102030)}
    spoilt = {**image, "2": entry("FaultyWriter", image=["1", 0]), "3": save(["2", 0], "spoilt")}
    assert server.run(spoilt)["state"] == "done"
    job = server.run({**image, "3": save(["1", 0], "clean")})
    assert pixel(server, job, "3") == (0x10, 0x20, 0x30)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_picture_that_is_no_number_is_saved_told_of_and_not_kept(server, value):
    prompt = {"1": entry("FaultyImage", value=value, seed=0), "2": save(["1", 0], "blank")}
    for _ in range(2):
        job = server.run(prompt)
        assert job["state"] == "done"
        assert job["executed"] == ["1", "2"], "it was not taken from the cache"
        (warning,) = server.messages(job["id"], "warning")
        assert warning["node"] == "1"
        assert "NaN" in warning["text"]
        assert pixel(server, job, "2") == ((0, 0, 0) if value == "nan" else (255, 255, 255))


def test_a_latent_that_is_no_number_is_decoded_saved_told_of_and_not_kept(server):
    prompt = {
        "0": entry("CheckpointLoaderSimple", ckpt_name="limner-64"),
        "1": entry("FaultyLatent", seed=0),
        "2": entry("VAEDecode", samples=["1", 0], vae=["0", 2]),
        "3": save(["2", 0], "blank"),
    }
    for _ in range(2):
        job = server.run(prompt)
        assert job["state"] == "done", job["error"]
        assert {"1", "2", "3"} <= set(job["executed"])
        assert "1" in {warning["node"] for warning in server.messages(job["id"], "warning")}


@pytest.mark.xfail(reason="what is made of it is kept", strict=True)
def test_what_is_made_of_a_result_that_is_no_number_is_not_kept_either(server):
    """It is black where it should not be, and looks sound."""
    prompt = {
        "1": entry("FaultyImage", value="nan", seed=1),
        "2": entry("FaultyClean", image=["1", 0]),
        "3": save(["2", 0], "black"),
    }
    for _ in range(2):
        job = server.run(prompt)
        assert job["executed"] == ["1", "2", "3"]
        assert server.messages(job["id"], "warning")


def test_a_black_picture_on_purpose_is_a_picture(server):
    prompt = {"1": entry("FaultyImage", value="0", seed=0), "2": save(["1", 0], "black")}
    server.run(prompt)
    job = server.run(prompt)
    assert (job["executed"], job["cached"]) == (["2"], ["1"])
    assert not server.messages(job["id"], "warning")


@pytest.mark.parametrize("how", ["sleep", "compute", "lock"])
def test_a_node_that_hears_no_stop_keeps_nobody_from_the_server(server, tmp_path, how):
    """A process would kill it after half a minute; here it goes on before that."""
    name = server.post({"1": entry("FaultyHang", folder=str(tmp_path), how=how)})
    until((tmp_path / "begun").exists)
    assert server.ask("/interrupt", {"prompt_id": name})[0] == 200
    following = server.post(picture())
    assert server.health()["status"] == "ok"
    assert server.job(name)["state"] == "running"
    (tmp_path / "go").touch()
    assert server.ended(name)["state"] in ("interrupted", "done")  # it was the last node, and has done its work
    assert server.ended(following)["state"] == "done"


def test_the_same_from_two_at_once_is_two_equal_results(server):
    noise = {"1": entry("FaultyNoise", size=64, seed=5), "2": save(["1", 0], "twice")}
    names: list[str] = []
    threads = [threading.Thread(target=lambda: names.append(server.post(noise))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    jobs = [server.ended(name) for name in names]
    assert {job["state"] for job in jobs} == {"done"}
    files = {job["outputs"]["2"]["images"][0]["filename"] for job in jobs}
    assert len(files) == 8
    assert len({(server.base / "output" / file).read_bytes()[-1000:] for file in files}) == 1


def test_a_stop_for_a_job_that_has_just_ended_hits_no_other(server, tmp_path):
    """Stops are sent at every moment around the end of a job, and each job behind it runs to its own end."""
    for k in range(20):
        first = server.post(
            {"1": entry("FaultyWalk", folder=str(tmp_path), name=f"a{k}", steps=1, pause=k / 400, fails=False)}
        )
        second = server.post(
            {"1": entry("FaultyWalk", folder=str(tmp_path), name=f"b{k}", steps=1, pause=0.001, fails=False)}
        )
        until(lambda first=first: server.job(first)["state"] != "pending")
        server.ask("/interrupt", {"prompt_id": first})
        assert server.ended(first)["state"] in ("done", "interrupted")
        assert server.ended(second)["state"] == "done"
        assert server.ask("/interrupt", {"prompt_id": first})[0] == 200


def test_a_picture_that_changes_with_the_same_size_and_time_is_seen(server):
    import os

    from PIL import Image

    path = server.base / "input" / "same.png"
    path.parent.mkdir(exist_ok=True)
    found = []
    for colour in ((1, 2, 3), (3, 2, 1)):
        Image.new("RGB", (8, 8), colour).save(path, compress_level=0)
        os.utime(path, (1_000_000_000, 1_000_000_000))
        job = server.run({"1": entry("LoadImage", image="same.png"), "2": save(["1", 0], "seen")})
        found.append((path.stat().st_size, pixel(server, job, "2")))
    assert found[0][0] == found[1][0]
    assert [colour for _, colour in found] == [(1, 2, 3), (3, 2, 1)]


def save(link, prefix):
    return entry("SaveImage", images=link, filename_prefix=prefix)


def pixel(server, job, node):
    from PIL import Image

    (shown,) = job["outputs"][node]["images"]
    with Image.open(server.base / "output" / shown["filename"]) as opened:
        return opened.convert("RGB").getpixel((0, 0))
