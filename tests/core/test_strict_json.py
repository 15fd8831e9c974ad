"""One reader of JSON: what all programs read alike is read, and of all else it is said why not."""

import json
import threading

import pytest
from limner.core import strict_json
from limner.core.strict_json import DEEPEST, LONGEST_NUMBER, loads

GOOD = {
    "an object": (b'{"a": [1, 2.5, -3e2, null, true, "x"]}', {"a": [1, 2.5, -300.0, None, True, "x"]}),
    "a value": (b"7", 7),
    "text": ('"\u82f9"', "\u82f9"),
    "UTF-8": ('"\U0001f34e"'.encode(), "\U0001f34e"),
    "a pair of surrogates": (b'"\\ud83c\\udf4e"', "\U0001f34e"),
    "a byte order mark": (b"\xef\xbb\xbf{}", {}),
    "numbers that are names": (b'{"1": 1, "01": 2}', {"1": 1, "01": 2}),
    "the longest number": (b"9" * LONGEST_NUMBER, int("9" * LONGEST_NUMBER)),
    "the deepest": (b"[" * DEEPEST + b"]" * DEEPEST, json.loads("[" * DEEPEST + "]" * DEEPEST)),
    "names that JavaScript has": (b'{"__proto__": 1}', {"__proto__": 1}),
}
BAD = {
    "nothing": (b"", "is not JSON: line 1, column 1"),
    "half": (b'{"a": [1,', "is not JSON: line 1"),
    "two": (b"{} {}", "is not JSON: line 1, column 4: Extra data"),
    "a second line": (b'{\n"a": x}', "is not JSON: line 2, column 6"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "is not text in UTF-8"),
    "UTF-16 without a mark": ('{"a": 1}'.encode("utf-16-le"), "is not JSON"),
    "no text": (b'{"a": "\xff"}', "is not text in UTF-8"),
    "NaN": (b'{"a": NaN}', "NaN is not a number that JSON has"),
    "Infinity": (b"[-Infinity]", "-Infinity is not a number that JSON has"),
    "1e999": (b"[1e999]", "1e999 is too large a number"),
    "a long large number": (b"[1" + b"0" * 500 + b".0]", "000... is too large a number"),
    "a name twice": (b'{"a": 1, "b": {"c": 1, "c": 2}}', "'c' stands twice in one object"),
    "too many digits": (b"[" + b"9" * (LONGEST_NUMBER + 1) + b"]", f"{LONGEST_NUMBER + 1} digits"),
    "half a pair": (b'{"a": "\\ud800"}', "is not text in UTF-8"),
    "half a pair in a name": (b'{"\\udc00": 1}', "is not text in UTF-8"),
    "too deep": (b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1), "is nested too deeply"),
    "far too deep": (b"[" * 100_000 + b"]" * 100_000, "is nested too deeply"),
    "far too deep objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "is nested too deeply"),
}


@pytest.mark.parametrize("what", GOOD)
def test_json_is_read(what):
    text, data = GOOD[what]
    assert loads(text) == data


@pytest.mark.parametrize("what", BAD)
def test_what_programs_would_read_differently_is_refused_with_the_reason(what):
    text, reason = BAD[what]
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - its text is looked at
        loads(text)
    assert reason in str(caught.value)
    assert str(caught.value).startswith("is ")


def test_too_much_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(strict_json.json, "loads", None)
    with pytest.raises(ValueError, match="is larger than 10 bytes"):
        loads(b"x" * 11, 10)
    with pytest.raises(ValueError, match="is larger than 64 MB"):
        loads("x" * ((64 << 20) + 1))


def test_a_thread_of_a_server_survives_the_deepest_text():
    found = []

    def read():
        try:
            loads(b"[" * 1_000_000)
        except ValueError as error:
            found.append(str(error))

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert found == ["is nested too deeply"]
