"""Configurations that nobody should write: one clear error each, wherever the value comes from."""

from __future__ import annotations

import math

import pytest

from slowfast.config.defaults import get_cfg
from slowfast.config.load import load_config
from slowfast.config.schema import Key, WrongType, all_keys
from slowfast.utils.errors import UserError

get_cfg()
KEYS = all_keys()


@pytest.mark.parametrize(
    "data, said",
    [
        ("LOG_PERIOD: 3\n".encode("utf-16"), "UTF-16 text: save it as UTF-8"),
        (b"LOG_PERIOD: \xff", "line 1 is not UTF-8"),
        (b"LOG_PERIOD: 3\n\0", "line 2 holds a NUL byte"),
        (b"LOG_PERIOD: 3\nLOG_PERIOD: 4", "the key 'LOG_PERIOD' stands in lines 1 and 2"),
        (b"DATA: {NUM_FRAMES: 4}\nDATA: {NUM_FRAMES: 4}", "the key 'DATA' stands in lines 1 and 2"),
        (b"DATA: {NUM_FRAMES: 4, NUM_FRAMES: 8}", "the key 'NUM_FRAMES' stands in lines 1 and 1"),
        (b"LOG_PERIOD: &a [*a]", "an alias contains itself"),
        (b"[" * 100_000, "nested more than 32 deep"),
        (b"a: 1\n" * 100_000, "more than 262144 bytes"),
        (b"".join(b"K%d: 1\n" % n for n in range(3000)), "more than 2000 keys"),
        (b"- 1", "must hold KEY: VALUE lines"),
        (b"_BASE_: 3", "must name one or several files, is 3"),
        (b"_BASE_: []", "must name one or several files"),
        (b"_BASE_: [[x]]", "must name one or several files"),
        (b"_BASE_: {x: 1}", "no such key"),
        (b"_BASE_: c.yaml", "includes itself"),
        (b"_BASE_: sub/../c.yaml", "includes itself"),
        (b"_BASE_: link.yaml", "includes itself"),
        (b"_BASE_: wide0.yaml", "includes more than 100 files"),
        (b"_BASE_: " + b"a" * 5000, "there is no configuration file aaa|cannot be read"),
        (b'_BASE_: "a\\0b"', "there is no configuration file"),
        (b"_BASE_: sub", "cannot be read: Is a directory"),
        (b"IMPORTS: [1]", "must be a list of modules"),
        (b"IMPORTS: ['']", "an empty text is not the name of a module"),
        (b"IMPORTS: a b", "a b is not the name of a module"),
        (b"IMPORTS: ..", "is not the name of a module"),
        (b"IMPORTS: " + b"a" * 5000, "is not the name of a module"),
        (b'OUTPUT_DIR: "a\\0b"', "must be a text without control characters"),
        (b'OUTPUT_DIR: "a\\nb"', "must be a text without control characters"),
        (b"OUTPUT_DIR: " + b"a" * 5000, "at most 4096 characters"),
        (b"LOG_PERIOD: 1" + b"0" * 30, "whole number of at most 64 bits"),
        (b"SOLVER: {BASE_LR: 0x" + b"f" * 390 + b"}", "must be a number, is 404"),
        (b"LOG_PERIOD: true", "must be a whole number, is True"),
        (b"TRAIN: {ENABLE: 1}", "must be True or False, is 1"),
        (b"TRAIN: {ENABLE: .nan}", "must be True or False, is nan"),
        (b"DATA: {TRAIN_JITTER_SCALES: []}", "at least 2 entries"),
        (b"SOLVER: {BETAS: [0.9]}", "at least 2 entries"),
        (b"DATA: {STD: [0, 1, 1]}", "more than 0"),
        (b"MVIT: {DIM_MUL: [[1, .inf]]}", "must be a finite number"),
        (b"MVIT: {DIM_MUL: [[[[[[1]]]]]]}", "at most 4 in one another"),
    ],
)
def test_files(tmp_path, monkeypatch, data, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.yaml").symlink_to("c.yaml")
    for number in range(40):
        base = f"wide{number + 1}.yaml"
        (tmp_path / f"wide{number}.yaml").write_text(f"_BASE_: [{base}, {base}]")
    (tmp_path / "wide40.yaml").touch()
    (tmp_path / "c.yaml").write_bytes(data)
    with pytest.raises(UserError) as caught:
        load_config(["c.yaml"])
    text = str(caught.value)
    assert any(part in text for part in said.split("|")), text[:500]
    assert len(text) < 2000 and "Traceback" not in text


def test_pyslowfast_repeats_some_keys(tmp_path, caplog):
    """Its MViT files hold a key twice: with one value, and in one of them with two."""
    file = tmp_path / "MVIT_B_32x3_CONV.yaml"
    file.write_text(
        "NUM_GPUS: 0\nMVIT: {DEPTH: 16, SEP_POS_EMBED: True, DEPTH: 24, SEP_POS_EMBED: True}\n"
        "SOLVER:\n  COSINE_AFTER_WARMUP: True\n  COSINE_AFTER_WARMUP: True\n"
    )
    assert load_config([file]).MVIT.DEPTH == 24
    assert "COSINE_AFTER_WARMUP stands in lines 4 and 5; its value is True" in caplog.text


def test_byte_order_mark(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_bytes(b"\xef\xbb\xbfNUM_GPUS: 0\r\nLOG_PERIOD: 3\r\n")
    assert load_config([file]).LOG_PERIOD == 3


CYCLE: list = []
CYCLE.append(CYCLE)
NONSENSE = [math.nan, math.inf, -math.inf, "nan", "inf", "-inf", "1e999", 2**63, -(2**64), 10**400]
NONSENSE += [
    "9" * 5000,
    [math.nan],
    ["nan"],
    [[math.inf]],
    CYCLE,
    b"x",
    1j,
    object(),
    ...,
    {1},
    [None],
]
NONSENSE += ["\0", "\ud800", "x" * 100_000, "[" * 5000, "-" * 5000 + "1", [10**30], [[]], ["\0"]]


@pytest.mark.parametrize("number", range(len(NONSENSE)))
def test_no_key_takes_nonsense(number):
    """Each value is refused, or read as a text or a list that means it."""
    value = NONSENSE[number]
    for name, key in KEYS.items():
        try:
            read = key.coerce(value)
        except WrongType as error:
            assert len(str(error)) < 500
            continue
        flat = read if isinstance(read, list) else [read]
        assert not any(isinstance(v, float) and not math.isfinite(v) for v in flat), name
        assert isinstance(read, (str, list, float)), (name, value)


def test_overrides_are_checked_as_files_are():
    for words, said in (
        (["SOLVER.BASE_LR", "nan"], "must be a finite number, is 'nan'"),
        (["SOLVER.BASE_LR", "1e999"], "must be a finite number, is inf"),
        (["DATA.MEAN", "[]"], "must have at least 3 entries"),
        (["DATA.MEAN", "[nan, 1, 1]"], "must be a list of float"),
        (["LOG_PERIOD", "9" * 5000], "must be a whole number"),
        (["LOG_PERIOD", "(" * 10_000], "must be a whole number"),
        (["x" * 10_000, "1"], "there is no such key"),
    ):
        with pytest.raises(UserError) as caught:
            load_config(overrides=["NUM_GPUS", "0", *words])
        assert said in str(caught.value) and len(str(caught.value)) < 700
    tree: dict = {}
    tree["DATA"] = tree
    with pytest.raises(UserError, match="nested more than"):
        load_config(overrides=tree)
    with pytest.raises(UserError, match="an empty text is not the name of a module"):
        load_config(imports=[""])


def test_a_key_that_means_it_takes_inf():
    key = Key(math.inf, "Largest norm; inf: no limit.", finite=False)
    assert key.coerce("inf") == math.inf and key.coerce(3) == 3.0
    with pytest.raises(WrongType, match="must be a number, is nan"):
        key.coerce(math.nan)


def test_limits_of_a_list_are_those_of_its_entries():
    key = Key([1, 2], "", item=int, ge=1, min_length=1)
    assert (
        key.limits("K", [1, 5]) == "" and key.limits("K", [1, 0]) == "must be at least 1, is [1, 0]"
    )
    with pytest.raises(WrongType, match="at least 1 entry, is \\[\\]"):
        key.coerce([])
