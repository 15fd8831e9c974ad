"""Texts and primitives under ComfyUI's ids."""

from __future__ import annotations

import pytest
import torch
from limner.core.values import Image, Latent
from limner.nodes.comfy import COMFY


@pytest.mark.parametrize(
    ("node", "inputs", "found"),
    [
        ("StringConcatenate", {"string_a": "a", "string_b": "b", "delimiter": ", "}, "a, b"),
        ("StringConcatenate", {"string_a": "a", "string_b": ""}, "a"),
        ("StringSubstring", {"string": "abcdef", "start": 1, "end": -1}, "bcde"),
        ("StringLength", {"string": "süß"}, 3),
        ("CaseConverter", {"string": "a Red apple", "mode": "UPPERCASE"}, "A RED APPLE"),
        ("CaseConverter", {"string": "a Red apple", "mode": "lowercase"}, "a red apple"),
        ("CaseConverter", {"string": "a Red apple", "mode": "Capitalize"}, "A red apple"),
        ("CaseConverter", {"string": "a Red apple", "mode": "Title Case"}, "A Red Apple"),
        ("StringTrim", {"string": " a ", "mode": "Both"}, "a"),
        ("StringTrim", {"string": " a ", "mode": "Left"}, "a "),
        ("StringTrim", {"string": " a ", "mode": "Right"}, " a"),
        ("StringReplace", {"string": "a.b.c", "find": ".", "replace": "-"}, "a-b-c"),
        ("StringContains", {"string": "A frog", "substring": "FROG"}, False),
        ("StringContains", {"string": "A frog", "substring": "FROG", "case_sensitive": False}, True),
        ("StringCompare", {"string_a": "abc", "string_b": "ab", "mode": "Starts With"}, True),
        ("StringCompare", {"string_a": "abc", "string_b": "bc", "mode": "Ends With"}, True),
        ("StringCompare", {"string_a": "abc", "string_b": "ABC", "mode": "Equal"}, False),
        ("StringCompare", {"string_a": "abc", "string_b": "ABC", "mode": "Equal", "case_sensitive": False}, True),
        ("PrimitiveString", {"value": "a"}, "a"),
        ("PrimitiveStringMultiline", {"value": "a\nb"}, "a\nb"),
        ("PrimitiveInt", {"value": 2**63 - 1}, 2**63 - 1),
        ("PrimitiveFloat", {"value": 0.5}, 0.5),
        ("PrimitiveBoolean", {"value": True}, True),
    ],
)
def test_a_text_node_gives(node, inputs, found):
    assert COMFY[node](**inputs) == found


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("a frog", "a frog"),
        (3, "3"),
        (0.5, "0.5"),
        (True, "True"),
        (None, "None"),
        ([1, "ü"], '[1, "ü"]'),
        (torch.zeros(2, 3), "2 x 3 numbers"),
        (Image(torch.zeros(1, 4, 5, 3)), "Image: pixels 1 x 4 x 5 x 3 numbers"),
        (
            Latent(torch.zeros(1, 4, 2, 2), batch_index=(3,)),
            "Latent: samples 1 x 4 x 2 x 2 numbers, batch_index [3], cells 8",
        ),
        ({1}, "{1}"),
    ],
)
def test_anything_is_shown_as_text(source, text):
    said = COMFY["PreviewAny"](source=source)
    assert (said.ui, said.outputs) == ({"text": [text]}, ())
