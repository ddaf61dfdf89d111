"""YAML in bounded time and memory: plain values, every key once."""

from __future__ import annotations

import time

import pytest
import yaml

from slowfast.utils.yaml_text import BadYaml, compose_yaml, load_yaml

BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
)
CHAIN = "c0: &c0 x\n" + "".join(f"c{n}: &c{n} [*c{n - 1}]\n" for n in range(1, 100))

REFUSED = {
    BOMB: "has more than 200000 values",
    CHAIN: "nested more than 32 deep",
    "&a [*a]": "an alias contains itself",
    "x: &a {y: *a}": "an alias contains itself",
    "x: *a": "undefined alias",
    "[" * 50_000: "nested more than 32 deep",
    "{" * 50_000: "nested more than 32 deep",
    "- " * 50_000: "nested more than 32 deep",
    "? " * 50_000: "nested more than 32 deep",
    "a: 1\nb: 2\na: 1": "the key 'a' stands in lines 1 and 3",
    "x: {a: 1, a: 2}": "the key 'a' stands in lines 1 and 1",
    "x: {1: 1, '1': 2}": "the key '1' stands in lines",
    "<<: {a: 1}": "merge keys",
    "a: &a {x: 1}\nb: {<<: *a}": "merge keys (<<) are not supported (line 2)",
    "? [1]\n: 2": "a key must be a single text",
    "? {a: 1}\n: 2": "a key must be a single text",
    "a: !!python/object/apply:os.system [ls]": "tags are not supported: '!!python/object",
    "a: !!python/name:os.system": "tags are not supported",
    "a: !!python/tuple [1]": "tags are not supported: '!!python/tuple' (line 1)",
    "a: !!binary aGk=": "tags are not supported: '!!binary'",
    "a: !!set {x}": "tags are not supported",
    "a: !!omap [x: 1]": "tags are not supported",
    "a: !!timestamp 2024-01-01": "tags are not supported",
    "a: !mine 1": "tags are not supported: '!mine'",
    "a: !!str [1]": "tags are not supported",
    "a: !!map [1]": "tags are not supported",
    "!!python/none a: 1": "tags are not supported",
    "a: !!int x": "'x' is no valid int",
    "a: !!bool x": "'x' is no valid bool",
    "a: 0b_": "no valid int",
    "a: " + "1" * 5000: "a number has 5000 digits",
    "a: 0x" + "f" * 5000: "a number has 5002 digits",
    "a: " + "1:" * 1000 + "1": "a number has 2001 digits",
    "a: 'x": "unexpected end of stream (line 1)",
    "a: [1": "line 1",
    "a\0b": "special characters",
    "\ud800": "special characters",
    "--- a\n--- b": "another document",
    "%YAML 9.0\n---\na": "version",
    "\t- a": "cannot start any token",
    "x" * 2_000_000: "has 2000000 characters",
}


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_refused(text):
    start = time.process_time()
    with pytest.raises(BadYaml) as caught:
        load_yaml(text)
    said = str(caught.value)
    assert REFUSED[text] in said and "\n" not in said and len(said) < 300
    assert time.process_time() - start < 10  # some of these took hours


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: 1\nb: [1, 2.5, yes, null, 'x']\nc: {d: &x [1], e: *x}",
        "- 1_000\n- 0o7\n- 1:30\n- .inf",
    ]
    + ["a: !!str 5\nb: !!float 3\nc: !!seq [1]", "a: |\n  text\n  more\n", "? a\n: b"],
)
def test_plain_values_are_those_of_pyyaml(text):
    assert load_yaml(text) == yaml.safe_load(text)


def test_dates_are_texts():
    assert load_yaml("a: 2024-01-01\nb: =\n") == {"a": "2024-01-01", "b": "="}


def test_a_key_may_repeat_where_the_caller_says_so():
    found = []

    def may_repeat(first, second):
        found.append((first[0].value, first[1].value, second[1].value))
        return True

    assert compose_yaml("a: 1\na: 2", may_repeat) is not None and found == [("a", "1", "2")]
    with pytest.raises(BadYaml, match="stands in lines 1 and 3"):
        compose_yaml("a: 1\na: 2\na: 3", may_repeat)
