"""A class of the V1 protocol is a node: what it declares, how it is called, and what becomes of its results."""

import asyncio
import inspect
import math
from contextvars import copy_context

import pytest
import torch
from limner.core.call import CALLING, Calling
from limner.core.catalogue import v1_inputs
from limner.core.errors import Interrupted
from limner.core.graph import Link, fits
from limner.core.packs import v1
from limner.core.schema import REQUIRED, Multiline, Range
from limner.core.values import Blocked, Conditioning, Image, Latent, Mask, Progress, Returned, Sigmas


def made(**members):
    """A node of a class with these members."""
    members = {"INPUT_TYPES": classmethod(lambda cls: {}), "FUNCTION": "run", **members}
    return v1.node("Made", type("Made", (), members), pack="tests", version="1")


def returning(value, *wires, **members):
    return made(RETURN_TYPES=wires, run=lambda self: value, **members)()


def taking(run, wires, **members):
    types = classmethod(lambda cls: {"optional": {name: (wire, {}) for name, wire in wires.items()}})
    return made(**{"INPUT_TYPES": types, "RETURN_TYPES": ("*",), "run": run, **members})


def during(calling, function, **arguments):
    """Call something as the runner does."""
    variables = copy_context()
    variables.run(CALLING.set, calling)
    return variables.run(lambda: function(**arguments))


# --------------------------------------------------------------------------------------------------- what it declares


def test_a_class_says_what_it_is(good):
    glue = good.nodes["Toy Glue"]
    assert (glue.id, glue.title, glue.category, glue.doc) == (
        "Toy Glue",
        "Glue 🔗",
        "toys/words",
        "Put one text behind another.",
    )
    assert (glue.pack, glue.deprecated, glue.experimental) == ("plain-nodes v1.2", True, False)
    assert [(o.name, o.wire, o.doc) for o in glue.outputs] == [
        ("text", "STRING", "Both."),
        ("length", "INT", "How long it is."),
    ]
    assert good.nodes["ToyShow"].delivers
    assert good.nodes["ToyNumbers"].outputs[0].many
    assert good.nodes["ToySum"].takes_lists
    assert good.nodes["ToyShout"].doc == ""


def test_inputs_have_their_types_defaults_and_hints(good):
    first, second, times, gap = good.nodes["Toy Glue"].inputs
    assert (first.type, first.wire, first.default, first.hint, first.doc) == (
        str,
        "STRING",
        REQUIRED,
        Multiline(),
        "What comes first.",
    )
    assert (second.default, times.default) == (REQUIRED, None)
    assert times.hint == Range(1, 4, 1)
    assert (gap.type, gap.wire, gap.hint) == (str, "COMBO", ("", "-", 7, 2.5))


def test_what_editors_are_told_is_what_the_class_said(good):
    described = v1_inputs(good.nodes["Toy Glue"], lambda hint: [])
    assert described["required"]["first"] == [
        "STRING",
        {"default": "a", "multiline": True, "tooltip": "What comes first."},
    ]
    assert described["required"]["second"] == ["STRING", {"forceInput": True}]
    assert described["optional"]["gap"] == [["", "-", 7, 2.5], {"default": "-"}]
    hidden = v1_inputs(good.nodes["ToyHidden"], lambda hint: [])["hidden"]
    assert hidden == {"me": "UNIQUE_ID", "all": "PROMPT", "extra": "EXTRA_PNGINFO", "graph": "DYNPROMPT"}


def test_one_bound_alone_is_a_range():
    spec = taking(lambda self: None, {}).inputs
    types = classmethod(lambda cls: {"required": {"a": ("INT", {"min": 1}), "b": ("FLOAT", {"max": 2})}})
    low, high = made(INPUT_TYPES=types, run=print).inputs
    assert spec == ()
    assert (low.hint, high.hint) == (Range(1, math.inf), Range(-math.inf, 2))


def test_unions_wildcards_and_types_that_compare_in_their_own_way_are_kept(good):
    value, number, kind = good.nodes["ToyTyped"].inputs
    assert not value.wire != "MODEL"  # noqa: SIM202
    assert fits("LATENT", value.wire)
    assert fits("INT", number.wire)
    assert not fits("STRING", number.wire)
    assert (kind.wire, kind.hint) == ("COMBO", ("a", "b"))
    show = good.nodes["ToyShow"].inputs[0]
    assert (show.wire, type(show.wire)) == ("*", str)  # of an enum


def test_a_type_that_equals_everything_does_not_become_a_number():
    class Equal(str):
        __slots__ = ()

        def __eq__(self, other):
            return True

        def __ne__(self, other):
            return False

        __hash__ = str.__hash__

    (spec,) = taking(lambda self, x: x, {"x": Equal("*")}).inputs
    assert (spec.type, spec.hint) == (object, None)


def test_a_type_that_cannot_stand_in_a_table_becomes_a_plain_string():
    class Unhashable(str):  # noqa: PLW1641 - some are like this
        __slots__ = ()

        def __eq__(self, other):
            return True

        def __ne__(self, other):
            return False

    made_of_it = taking(lambda self, x: x, {"x": Unhashable("*")}, RETURN_TYPES=(Unhashable("*"),))
    assert {made_of_it.inputs[0].wire, made_of_it.outputs[0].wire} == {"*"}


def test_return_types_without_a_comma_mean_one(good):
    assert [o.wire for o in good.nodes["ToyShout"].outputs] == ["STRING"]


def test_choices_are_asked_for_again_when_a_file_has_come(good, loaded, tmp_path):
    folder = tmp_path / "packs"
    folder.mkdir()
    (folder / "files.py").write_text(f"""
import os

class Files:
    RETURN_TYPES, FUNCTION = ("STRING",), "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {{"required": {{"file": (sorted(os.listdir({str(tmp_path)!r})), {{}})}}}}

    def run(self, file):
        return (file,)

NODE_CLASS_MAPPINGS = {{"ToyFiles": Files}}
""")
    packs = loaded(folder)
    offered = packs.nodes["ToyFiles"].inputs[0].hint
    (tmp_path / "new.png").touch()
    assert "new.png" in offered
    assert "newer.png" not in offered
    assert "new.png" not in list(offered)
    packs.refresh()
    assert "new.png" in list(packs.nodes["ToyFiles"].inputs[0].hint)
    assert packs.registry["ToyFiles"] is packs.nodes["ToyFiles"]


def test_a_node_with_an_identity_shares_no_results(good):
    assert good.nodes["ToyRemembers"].by_id
    assert good.nodes["ToyHidden"].by_id
    assert not good.nodes["ToyAdd"].by_id


def test_only_a_function_that_takes_more_than_is_declared_gets_more(good):
    assert good.nodes["ToyOpen"].open
    assert not good.nodes["ToyAdd"].open


def test_results_of_packs_are_not_taken_for_those_of_our_own_code(good):
    assert not good.nodes["ToyAdd"].function.__module__.startswith("limner.")


# ----------------------------------------------------------------------------------------------------- how it is called


def test_what_is_not_given_has_the_functions_own_default(good):
    assert good.nodes["Toy Glue"](first="a", second="b").outputs == ("abbb", 4)
    assert good.nodes["Toy Glue"](first="a", second="b", times=1, gap=7).outputs == ("a7b", 3)


def test_raw_values_go_in_and_frozen_ones_come_out(good):
    image, mask, latent, sigmas, conditioning = good.nodes["ToyPicture"]().outputs
    assert isinstance(image, Image)
    assert isinstance(mask, Mask)
    assert isinstance(latent, Latent)
    assert isinstance(sigmas, Sigmas)
    assert isinstance(conditioning, Conditioning)
    given = {"image": image, "mask": mask, "latent": latent, "sigmas": sigmas, "conditioning": conditioning}
    assert good.nodes["ToyLook"](**given).outputs == (
        "image:float32[1, 8, 8, 3] mask:float32[1, 8, 8] latent:dict(samples) "
        "sigmas:float32[2] conditioning:list(pooled_output)",
    )


def test_what_our_values_cannot_hold_stays_as_it_is(good):
    image, _, latent, _, conditioning = good.nodes["ToyPicture"](odd=True).outputs
    assert image.shape[-1] == 4
    assert latent.keys() == {"samples", "downscale_ratio_spacial"}
    assert conditioning[0][1]["strength"] == 0.5
    seen = good.nodes["ToyLook"](image=image, latent=latent, conditioning=conditioning).outputs[0]
    assert seen == (
        "image:float32[1, 8, 8, 4] latent:dict(downscale_ratio_spacial,samples) "
        "conditioning:list(pooled_output,strength)"
    )


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        ("IMAGE", torch.rand(8, 8, 3)),
        ("IMAGE", torch.rand(1, 8, 8, 3).half()),
        ("IMAGE", [1, 2]),
        ("MASK", torch.rand(1, 1, 8, 8)),
        ("LATENT", {"samples": torch.rand(1, 4, 8, 8), "noise_mask": torch.rand(1, 64, 64)}),
        ("LATENT", {"samples": torch.rand(1, 4, 2, 8, 8)}),
        ("LATENT", {"samples": torch.rand(1, 4, 8, 8), "batch_index": [0.5]}),
        ("CONDITIONING", [[torch.rand(1, 5, 3), {}], [torch.rand(1, 5, 3), {}]]),
        ("CONDITIONING", [[torch.rand(2, 5, 3), {}]]),
        ("CONDITIONING", [[torch.rand(1, 5, 3), {"pooled_output": None}]]),
        ("CONDITIONING", [[torch.rand(1, 5, 3), {"attention_mask": torch.ones(1, 5)}]]),
        ("SIGMAS", torch.rand(1, 5)),
        ("MODEL", object()),
        ("*", torch.rand(1, 8, 8, 3)),
    ],
)
def test_values_that_would_not_come_back_as_they_were_are_not_wrapped(wire, value):
    assert returning((value,), wire).outputs[0] is value


def test_containers_are_the_nodes_own_to_change():
    def spoil(self, latent, conditioning):
        latent["noise_mask"] = 1
        conditioning[0][1]["strength"] = 2
        conditioning.append(0)
        return (0,)

    latent = {"samples": torch.zeros(1), "other": 1}
    conditioning = [[torch.zeros(1), {"area": 1}]]
    taking(spoil, {"latent": "LATENT", "conditioning": "CONDITIONING"})(latent=latent, conditioning=conditioning)
    assert latent.keys() == {"samples", "other"}
    assert conditioning[0][1] == {"area": 1}
    assert len(conditioning) == 1


def test_a_raw_link_is_a_list():
    seen = taking(lambda self, x: (repr(x),), {"x": "INT"})(x=Link("5", 1))
    assert seen.outputs == ("['5', 1]",)


def test_each_node_of_a_graph_has_an_instance_of_its_own_that_stays(good):
    remembers = good.nodes["ToyRemembers"]
    calls = [during(Calling(n, 0, lambda progress: None), remembers).outputs[0] for n in ("a", "a", "b", "a")]
    assert calls == [1, 2, 1, 3]


def test_static_functions_will_do(good):
    assert good.nodes["ToyAdder"](a=1, b=2).outputs == (3,)


def test_lists_are_given_as_lists(good):
    assert good.nodes["ToySum"](values=[1, 2, 3], times=[2]).outputs == (12,)


def test_no_gradients_are_kept_while_a_class_works(good):
    assert good.nodes["ToySlow"](steps=1).outputs == (False,)
    assert torch.is_grad_enabled()


def test_async_functions_keep_none_either_whoever_runs_between_their_steps():
    async def run(self):
        before = torch.is_grad_enabled()
        await asyncio.sleep(0)
        return (before, torch.is_grad_enabled())

    async def both():
        work = made(run=run, RETURN_TYPES=("*", "*"))
        first, second = work(), work()
        assert inspect.iscoroutine(first)
        results = await asyncio.gather(first, second)
        return [r.outputs for r in results], torch.is_grad_enabled()

    assert asyncio.run(both()) == ([(False, False)] * 2, True)


def test_an_async_function_hears_that_it_is_stopped():
    heard = []

    async def run(self):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            heard.append("stop")
            raise

    async def stopped():
        task = asyncio.ensure_future(made(run=run)())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(stopped())
    assert heard == ["stop"]


# ----------------------------------------------------------------------------------------------------- what it returns


def test_results_come_as_tuples_lists_or_with_more_to_say():
    assert returning((1, 2), "INT", "INT") == Returned((1, 2))
    assert returning([1, 2], "INT", "INT") == Returned((1, 2))
    assert returning(5, "INT") == Returned((5,))  # a forgotten comma
    assert returning(None) == Returned(())
    shown = {"text": ["a"]}
    assert returning({"ui": shown}) == Returned((), shown)
    assert returning({"ui": shown, "result": (1,)}, "INT") == Returned((1,), shown)
    assert returning({"samples": 1}, "LATENT") == Returned(({"samples": 1},))


def test_a_result_that_is_missing_blocks_what_needs_it_and_nothing_else(good):
    assert good.nodes["ToyShort"]().outputs == (1, Blocked("Short returned no INT"))


def test_lists_stay_lists_where_a_class_says_so():
    assert returning(([1, 2], [3]), "INT", "INT", OUTPUT_IS_LIST=(True, False)).outputs == ([1, 2], [3])
    ((first, second),) = returning((torch.rand(2, 4, 4, 3),), "IMAGE", OUTPUT_IS_LIST=[True]).outputs
    assert first.shape == second.shape == (4, 4, 3)


def test_blockers_are_converted_both_ways(good, module):
    blocker = module.ExecutionBlocker
    assert returning((blocker(None), 1), "INT", "INT").outputs == (Blocked(), 1)
    assert returning(blocker("no"), "INT", "INT").outputs == (Blocked("no"), Blocked("no"))
    assert returning(([1, blocker("no")],), "INT", OUTPUT_IS_LIST=(True,)).outputs == ([1, Blocked("no")],)
    seen = taking(lambda self, x: ((type(x) is blocker, x.message),), {"x": "INT"})(x=Blocked("why"))
    assert seen.outputs == ((True, "why"),)


def test_an_expansion_names_its_nodes_and_links_into_them(good):
    found = during(Calling("9", 2, lambda progress: None), good.nodes["ToyTwice"], value=4)
    assert found.outputs == (Link("9.2.0.last", 0),)
    assert found.expand == {
        "9.2.0.1": {"class_type": "ToyAdd", "inputs": {"a": 4, "b": 1}},
        "9.2.0.last": {"class_type": "ToyAdd", "inputs": {"a": ["9.2.0.1", 0], "b": ["9.2.0.1", 0]}},
    }
    assert during(Calling("9", 2, lambda progress: None), good.nodes["ToyTwice"], value=4) == found


def test_a_pair_that_looks_like_a_link_is_a_value_where_nothing_is_expanded():
    assert returning((["a", 1],), "*").outputs == (["a", 1],)


# --------------------------------------------------------------------------------------------- what it is asked beside


def test_lazy_inputs_are_named(good):
    either = good.nodes["ToyEither"]
    assert [spec.lazy for spec in either.inputs] == [False, True, True]
    assert either.asks(first=True, a=None, b=None) == ["a"]
    assert either.asks(first=True, a=1, b=None) == []
    assert asyncio.run(good.nodes["ToyEitherLater"].asks(first=False, a=None, b=None)) == ["b"]
    assert good.nodes["ToyAdd"].asks is None


@pytest.mark.parametrize(
    ("value", "same"),
    [
        (1, 1),
        ("1", "1"),
        (None, None),
        (math.inf, math.inf),
        ([1, "a"], [1, "a"]),
        ({"b": 1, "a": 2}, {"a": 2, "b": 1}),
    ],
)
def test_a_fingerprint_is_the_same_text_for_the_same_value(value, same):
    def said(value):
        return made(run=print, IS_CHANGED=classmethod(lambda cls: value)).fingerprint()

    assert said(value) is not None
    assert said(value) == said(same)


def test_fingerprints_of_different_values_differ():
    values = [1, 1.5, "1", True, None, [1], [[1]], b"1", {1, 2}]
    texts = {made(run=print, IS_CHANGED=classmethod(lambda cls, v=v: v)).fingerprint() for v in values}
    assert len(texts) == len(values)


@pytest.mark.parametrize("value", [math.nan, [1, math.nan], {"a": math.nan}, object(), torch.zeros(2)])
def test_what_never_equals_itself_runs_every_time(value):
    assert made(run=print, IS_CHANGED=classmethod(lambda cls: value)).fingerprint() is None


def test_a_fingerprint_that_fails_runs_every_time_and_is_told_of(good, caplog):
    v1._log_once.cache_clear()
    assert good.nodes["ToyAlwaysByMistake"].fingerprint(value=1) is None
    assert "AlwaysByMistake runs every time: its IS_CHANGED failed with TypeError" in caplog.text
    assert good.nodes["ToyAdd"].fingerprint is None


def test_a_fingerprint_sees_nothing_of_what_is_linked(good, tmp_path):
    (tmp_path / "a.txt").write_text("abc")
    changing = good.nodes["ToyChanging"]
    assert changing.fingerprint(path=str(tmp_path / "a.txt")) == "3"
    assert changing.fingerprint(path=None) == "null"


def test_async_fingerprints_are_waited_for_where_a_loop_is_running_too():
    async def changed(cls):
        await asyncio.sleep(0)
        return 5

    waits = made(run=print, IS_CHANGED=classmethod(changed))
    assert waits.fingerprint() == "5"

    async def inside():
        return waits.fingerprint()

    assert asyncio.run(inside()) == "5"


def test_a_class_checks_its_own_inputs(good):
    for name in ("ToyEven", "ToyEvenLater"):
        even = good.nodes[name]
        assert even.checks({"value": 2}, {}) == {}
        assert even.checks({"value": 3}, {}) == {"value": "3 is odd"}
        assert even.checks({}, {"value": "INT"}) == {}
        assert even.unchecked() == {"value"}
    assert good.nodes["ToyAdd"].checks is None


def test_a_class_that_looks_at_types_checks_everything_itself(good):
    tolerant = good.nodes["ToyTolerant"]
    assert tolerant.unchecked() == {"*"}
    assert tolerant.checks({"word": "seven"}, {"value": "STRING"}) == {}
    found = tolerant.checks({"word": "seven"}, {"value": "MODEL"})
    assert list(found.values()) == ["no MODEL please"]


def test_a_check_that_fails_is_not_passed():
    def check(cls, value):
        raise KeyError("gone")

    types = classmethod(lambda cls: {"required": {"value": ("INT", {})}})
    broken = made(INPUT_TYPES=types, run=print, VALIDATE_INPUTS=classmethod(check))
    assert broken.checks({"value": 1}, {}) == {None: "its own check failed with KeyError: 'gone'"}
    refusing = made(INPUT_TYPES=types, run=print, VALIDATE_INPUTS=classmethod(lambda cls, value: False))
    assert refusing.checks({"value": 1}, {}) == {"value": "the node does not accept this"}


# ------------------------------------------------------------------------------------------------- progress and stops


def test_progress_reaches_the_run_that_is_calling(good):
    moved = []
    during(Calling("1", 0, moved.append), good.nodes["ToySlow"], steps=3)
    assert moved == [Progress(k, 3) for k in (1, 2, 3)]


def test_a_stop_is_raised_at_the_progress_bar(good):
    def pressed(progress):
        raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        during(Calling("1", 0, pressed), good.nodes["ToySlow"], steps=3)
