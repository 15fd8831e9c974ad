"""The modules that packs import from their host do what packs expect of them."""

import asyncio
import importlib
import io
import json

import pytest
import torch
from limner.core.call import CALLING, Calling
from limner.core.errors import Interrupted
from limner.core.packs.finder import SHIMS
from limner.core.values import Progress


@pytest.fixture
def module(good):
    """Import one of the host's modules."""
    return importlib.import_module


@pytest.fixture
def calling():
    """What a node reports while it is called."""
    reported = []
    token = CALLING.set(Calling("7", 1, reported.append))
    yield reported
    CALLING.reset(token)


@pytest.mark.parametrize("name", SHIMS)
def test_every_module_can_be_imported(module, name):
    assert module(name).__name__ == name


# ------------------------------------------------------------------------------------------------ comfy_execution


def test_a_graph_is_built_with_ids_that_are_the_same_from_run_to_run(module):
    utils = module("comfy_execution.graph_utils")

    def built():
        graph = utils.GraphBuilder(prefix="p.")
        one = graph.node("A", x=1, nothing=None)
        two = graph.node("B", "two", a=one.out(0))
        two.set_override_display_id("9")
        return graph, two

    graph, two = built()
    assert graph.finalize() == {
        "p.1": {"class_type": "A", "inputs": {"x": 1}},
        "p.two": {"class_type": "B", "inputs": {"a": ["p.1", 0]}, "override_display_id": "9"},
    }
    assert built()[0].finalize() == graph.finalize()
    assert graph.lookup_node("two") is two
    assert graph.lookup_node("three") is None
    assert two.get_input("a") == ["p.1", 0]
    graph.replace_node_output("1", 0, 5)
    assert two.get_input("a") == 5
    two.set_input("a", None)
    graph.remove_node("1")
    assert graph.finalize() == {"p.two": {"class_type": "B", "inputs": {}, "override_display_id": "9"}}


def test_two_graphs_of_one_call_share_no_ids(module, calling):
    utils = module("comfy_execution.graph_utils")
    assert utils.GraphBuilder().node("A").id.startswith("7.1.")


def test_a_graph_and_links_into_it_get_a_prefix(module):
    utils = module("comfy_execution.graph_utils")
    graph = {"a": {"class_type": "A", "inputs": {"x": ["b", 1], "y": ["outside", 0], "z": 3}}, "b": {"class_type": "B"}}
    moved, outputs = utils.add_graph_prefix(graph, (["a", 0], 5), "q.")
    assert moved["q.a"]["inputs"] == {"x": ["q.b", 1], "y": ["outside", 0], "z": 3}
    assert moved["q.b"] == {"class_type": "B", "inputs": {}}
    assert outputs == (["q.a", 0], 5)


def test_links_are_told_from_other_values(module):
    is_link = module("comfy_execution.graph_utils").is_link
    assert is_link(["1", 0])
    assert not any(map(is_link, ([1, 0], ["1", 0, 0], "1", ["1", "0"], None)))


def test_there_is_one_blocker(module):
    utils, graph = module("comfy_execution.graph_utils"), module("comfy_execution.graph")
    assert utils.ExecutionBlocker is graph.ExecutionBlocker
    assert graph.ExecutionBlocker("why").message == "why"


# ---------------------------------------------------------------------------------------------------- comfy.utils


def test_the_bar_tells_how_far_a_node_is(module, calling):
    bar = module("comfy.utils").ProgressBar(10)
    bar.update(3)
    bar.update_absolute(12, 11, preview=("JPEG", "picture", None))
    assert calling == [Progress(3, 10), Progress(11, 11, ("JPEG", "picture", None))]


def test_the_bar_is_silent_where_no_node_is_called(module):
    module("comfy.utils").ProgressBar(10).update(1)


def test_set_progress_does_the_same_in_async_and_plain_nodes(module, calling):
    api = module("comfy_api.latest")
    api.ComfyAPISync().execution.set_progress(1, 4)
    asyncio.run(api.ComfyAPI().execution.set_progress(value=0.5, max_value=1.0, preview_image=torch.ones(1, 2, 2, 3)))
    assert calling[0] == Progress(1, 4)
    assert (calling[1].done, calling[1].total) == (1, 2) or (calling[1].done, calling[1].total) == (500, 1000)
    assert calling[1].preview[1].size == (2, 2)


@pytest.mark.parametrize("method", ["nearest-exact", "bilinear", "area", "bicubic", "lanczos", "bislerp"])
def test_pictures_are_scaled_by_every_method(module, method):
    upscale = module("comfy.utils").common_upscale
    plain = torch.full((2, 3, 8, 6), 0.25)
    scaled = upscale(plain, 12, 4, method, "disabled")
    assert scaled.shape == (2, 3, 4, 12)
    torch.testing.assert_close(scaled, torch.full((2, 3, 4, 12), 0.25), rtol=0, atol=1e-5)


def test_the_middle_is_kept_where_the_shape_changes(module):
    upscale = module("comfy.utils").common_upscale
    picture = torch.zeros(1, 1, 4, 8)
    picture[..., 2:6] = 1
    assert upscale(picture, 4, 4, "nearest-exact", "center").equal(torch.ones(1, 1, 4, 4))
    assert upscale(picture.mT, 4, 4, "nearest-exact", "center").equal(torch.ones(1, 1, 4, 4))
    assert upscale(picture, 4, 4, "nearest-exact", "disabled").mean() == 0.5


def test_frames_are_scaled_one_by_one(module):
    film = torch.rand(2, 3, 5, 4, 4)
    scaled = module("comfy.utils").common_upscale(film, 8, 8, "bilinear", "disabled")
    assert scaled.shape == (2, 3, 5, 8, 8)
    frame = module("comfy.utils").common_upscale(film[:, :, 3], 8, 8, "bilinear", "disabled")
    torch.testing.assert_close(scaled[:, :, 3], frame)


def test_great_circles_keep_lengths(module):
    latents = torch.nn.functional.normalize(torch.randn(1, 4, 6, 6), dim=1)
    scaled = module("comfy.utils").bislerp(latents, 11, 9)
    torch.testing.assert_close(scaled.norm(dim=1), torch.ones(1, 9, 11), rtol=1e-4, atol=1e-4)


def test_halfway_round_a_quarter_circle_is_the_diagonal(module):
    ends = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).reshape(1, 2, 1, 2)  # (1, 0) on the left, (0, 1) on the right
    middle = module("comfy.utils").bislerp(ends, 1, 1).flatten()
    torch.testing.assert_close(middle, torch.tensor([0.5, 0.5]).sqrt())


def test_tiles_give_what_the_whole_gives(module):
    utils = module("comfy.utils")
    picture = torch.rand(1, 3, 70, 45)
    steps = []

    def enlarged(tile):
        return torch.nn.functional.interpolate(tile, scale_factor=2, mode="nearest")

    class Bar:
        update = staticmethod(steps.append)

    tiled = utils.tiled_scale(picture, enlarged, 32, 32, 8, upscale_amount=2, pbar=Bar)
    torch.testing.assert_close(tiled, enlarged(picture))
    assert sum(steps) == utils.get_tiled_scale_steps(45, 70, 32, 32, 8) == 6


def test_batches_are_filled_up_and_cut_off(module):
    repeat = module("comfy.utils").repeat_to_batch_size
    assert repeat(torch.arange(3), 5).tolist() == [0, 1, 2, 0, 1]
    assert repeat(torch.arange(3), 2).tolist() == [0, 1]


def test_safetensors_are_read_and_pickles_are_not(module, tmp_path):
    utils = module("comfy.utils")
    utils.save_torch_file({"a": torch.ones(2)}, str(tmp_path / "a.safetensors"), {"by": "us"})
    tensors, said = utils.load_torch_file(str(tmp_path / "a.safetensors"), return_metadata=True)
    assert (tensors["a"].tolist(), said) == ([1, 1], {"by": "us"})
    with pytest.raises(ValueError, match="no pickles"):
        utils.load_torch_file(str(tmp_path / "a.pt"))


# -------------------------------------------------------------------------------------------- devices and samplers


def test_a_node_learns_its_device_and_whether_it_is_stopped(module):
    management = module("comfy.model_management")
    assert management.get_torch_device() == torch.device("cpu")
    assert management.intermediate_device() == torch.device("cpu")
    management.throw_exception_if_processing_interrupted()
    management.soft_empty_cache()

    def pressed(progress):
        raise Interrupted("stopped")

    token = CALLING.set(Calling("7", 1, pressed))
    try:
        with pytest.raises(management.InterruptProcessingException):
            management.throw_exception_if_processing_interrupted()
    finally:
        CALLING.reset(token)


def test_samplers_and_schedulers_are_lists_of_names(module):
    sampler = module("comfy.samplers").KSampler
    assert "euler" in sampler.SAMPLERS
    assert "karras" in sampler.SCHEDULERS
    assert isinstance(sampler.SAMPLERS, list)


def test_types_are_strings(module):
    kinds = module("comfy.comfy_types").IO
    assert module("comfy.comfy_types.node_typing").IO is kinds
    assert (kinds.ANY, kinds.IMAGE, f"{kinds.NUMBER}") == ("*", "IMAGE", "FLOAT,INT")
    assert json.dumps(kinds.MASK) == '"MASK"'


# ------------------------------------------------------------------------------------------- folders, nodes, server


def test_folders_are_the_hosts(module, host):
    paths = module("folder_paths")
    base = host.folders.base
    assert paths.get_output_directory() == str(base / "output")
    assert paths.get_input_directory() == str(base / "input")
    assert paths.get_temp_directory() == str(base / "temp")
    assert paths.get_directory_by_type("temp") == str(base / "temp")
    assert paths.models_dir == str(base / "models")
    assert paths.base_path == str(base)
    assert (base / "input").is_dir()


def test_models_are_listed_under_comfyuis_names_of_their_folders_and_ours(module, host):
    paths = module("folder_paths")
    folder = host.folders.base / "models" / "upscale_models" / "deep"
    folder.mkdir(parents=True)
    (folder / "a.pth").touch()
    (folder / "readme.md").touch()
    assert paths.get_filename_list("upscale_models") == ["deep/a.pth"]
    assert paths.get_full_path("upscale_models", "deep/a.pth") == str(folder / "a.pth")
    assert paths.get_full_path("upscale_models", "b.pth") is None
    assert paths.get_full_path("upscale_models", "../../../etc/passwd") is None
    assert "limner-64" in paths.get_filename_list("checkpoints")
    assert paths.get_filename_list("clip") == paths.get_filename_list("text_encoders")
    with pytest.raises(FileNotFoundError):
        paths.get_full_path_or_raise("loras", "none.safetensors")
    with pytest.raises(KeyError):
        paths.get_filename_list("unheard_of")


def test_packs_may_add_folders_of_models(module, tmp_path):
    paths = module("folder_paths")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a.bin").touch()
    paths.add_model_folder_path("toys", str(tmp_path / "own"))
    assert paths.get_folder_paths("toys") == [str(tmp_path / "own")]
    assert paths.get_filename_list("toys") == ["a.bin"]
    paths.folder_names_and_paths["other"] = ([str(tmp_path / "own")], {".txt"})
    assert paths.get_filename_list("other") == []


def test_pictures_may_be_named_with_their_folder(module, host):
    paths = module("folder_paths")
    (host.folders.base / "output").mkdir(parents=True)
    (host.folders.base / "output" / "a.png").touch()
    assert paths.get_annotated_filepath("a.png [output]") == str(host.folders.base / "output" / "a.png")
    assert paths.exists_annotated_filepath("a.png [output]")
    assert not paths.exists_annotated_filepath("a.png")
    assert not paths.exists_annotated_filepath("../base/output/a.png")


def test_saved_pictures_get_the_next_number(module, tmp_path):
    paths = module("folder_paths")
    assert paths.get_save_image_path("sub/a_%width%x%height%", str(tmp_path), 64, 32) == (
        str(tmp_path / "sub"), "a_64x32", 1, "sub", "sub/a_64x32",
    )  # fmt: skip
    (tmp_path / "sub" / "a_64x32_00007_.png").touch()
    assert paths.get_save_image_path("sub/a_64x32", str(tmp_path))[2] == 8
    assert paths.get_save_image_path("b", str(tmp_path))[3] == ""
    with pytest.raises(Exception, match="no file name"):
        paths.get_save_image_path("../b", str(tmp_path))


def test_every_node_is_a_class_of_the_module_nodes(module, good):
    nodes = module("nodes")
    assert nodes.NODE_CLASS_MAPPINGS.keys() == good.registry.keys()
    assert nodes.NODE_CLASS_MAPPINGS["ToyAdd"] is good.kinds["ToyAdd"]
    assert nodes.NODE_DISPLAY_NAME_MAPPINGS["Toy Glue"] == "Glue 🔗"
    assert nodes.MAX_RESOLUTION == 16384
    ours = nodes.NODE_CLASS_MAPPINGS["limner.JoinText"]
    assert getattr(ours(), ours.FUNCTION)(first="a", second="b") == ("a, b",)
    assert nodes.NODE_CLASS_MAPPINGS["limner.Decode"].INPUT_TYPES()["required"]["vae"][0] == "VAE"


def test_packs_add_routes_look_at_prompts_and_push_messages(module, good):
    from aiohttp import web

    server = module("server").PromptServer.instance
    sent = []

    @server.routes.get("/toys")
    async def toys(request):
        return web.json_response([])

    server.add_on_prompt_handler(lambda body: body | {"seen": True})
    server.add_on_prompt_handler(lambda body: body["not there"])
    server.send_sync("early", {})
    good.attach(lambda event, data, sid: sent.append((event, data, sid)))
    server.send_sync("toy", {"a": 1}, "someone")
    asyncio.run(server.send("toy", {}))
    assert [route.path for route in good.routes] == ["/toys"]
    assert good.handled({"prompt": {}}) == {"prompt": {}, "seen": True}
    assert sent == [("toy", {"a": 1}, "someone"), ("toy", {}, None)]


def test_what_packs_push_is_made_fit_for_sending_and_fails_no_node(module, good, caplog):
    from PIL import Image

    server, kinds = module("server").PromptServer.instance, module("server").BinaryEventTypes
    sent = []
    good.attach(lambda event, data, sid: sent.append((event, data)))
    server.send_sync("toy", {"number": torch.tensor(2.5), "nan": float("nan"), "set": {1}, 3: "three"})
    server.send_sync(kinds.PREVIEW_IMAGE, bytearray(b"abc"))
    server.send_sync(kinds.UNENCODED_PREVIEW_IMAGE, ("JPEG", Image.new("RGBA", (64, 32)), 16))
    server.send_sync(kinds.UNENCODED_PREVIEW_IMAGE, ("PNG", Image.new("L", (4, 4)), None))
    server.send_progress_text("half done ✓", 7)
    asyncio.run(server.send_bytes(1, b"x"))
    ring = []
    ring.append(ring)
    server.send_sync("ring", ring)
    jpeg, png = sent[2][1], sent[3][1]
    assert sent[:2] == [("toy", {"number": 2.5, "nan": None, "set": "{1}", "3": "three"}), (1, b"abc")]
    assert (sent[2][0], jpeg[:4], Image.open(io.BytesIO(jpeg[4:])).size) == (1, b"\0\0\0\1", (16, 8))
    assert (sent[3][0], png[:8], Image.open(io.BytesIO(png[4:])).size) == (1, b"\0\0\0\2\x89PNG", (4, 4))
    assert sent[4:] == [(3, b"\0\0\0\x017" + "half done ✓".encode()), (1, b"x")]
    assert "'ring' cannot be sent" in caplog.text


def test_conditionings_are_told_more(module):
    helpers = module("node_helpers")
    plain = [[torch.zeros(1), {"a": 1, "list": [1]}]]
    assert helpers.conditioning_set_values(plain, {"b": 2})[0][1] == {"a": 1, "list": [1], "b": 2}
    assert helpers.conditioning_set_values(plain, {"list": [2]}, append=True)[0][1]["list"] == [1, 2]
    assert plain[0][1] == {"a": 1, "list": [1]}


def test_a_picture_that_is_cut_off_is_read_as_far_as_it_goes(module):
    from PIL import Image

    whole, part = io.BytesIO(), io.BytesIO()
    Image.effect_noise((64, 64), 50).save(whole, "PNG")
    part.write(whole.getvalue()[:2000])
    picture = module("node_helpers").pillow(lambda file: Image.open(file).convert("RGB"), part)
    assert picture.size == (64, 64)
