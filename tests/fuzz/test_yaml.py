"""YAML: whatever a text holds, it is read or refused in one line; configurations as well."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from slowfast.config.load import load_config
from slowfast.config.node import parse_overrides
from slowfast.utils.errors import UserError
from slowfast.utils.yaml_text import BadYaml, load_yaml
from tests.fuzz.conftest import bounded, found_cases

PIECES = st.sampled_from(
    ["a", "b", ": ", ":", "- ", "? ", "[", "]", "{", "}", ", ", "\n", "\n  ", "'", '"', "&a ", "*a"]
    + [
        "!!int ",
        "!!python/none ",
        "!x ",
        "<<",
        "|\n ",
        ">\n ",
        "#",
        "%YAML 1.1\n",
        "---\n",
        "...\n",
    ]
    + ["1", "-1", "1.5", ".nan", ".inf", "0x1f", "1:30", "1e9", "null", "yes", "~", "=", "\t", "\0"]
    + ["9" * 500, "2024-01-01", "@", "`", "\ufeff", "\\", "DATA", "NUM_FRAMES", "_BASE_", "IMPORTS"]
)
TEXTS = st.one_of(st.lists(PIECES, max_size=25).map("".join), st.text(max_size=60))


def read(text: str) -> None:
    """The values of PyYAML, or one line that says why not."""
    try:
        found = load_yaml(text)
    except BadYaml as error:
        assert str(error) and "\n" not in str(error) and len(str(error)) < 400
        return
    try:
        expected = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return  # dates of no calendar, "=": texts here
    if not any(word in text for word in ("2024", "=", ".nan")) and text.isascii():
        assert found == expected or repr(found) == repr(expected) or "-" in text


@bounded(200)
@given(text=TEXTS)
def test_any_text(text):
    read(text)


@bounded(80)
@given(
    data=st.one_of(TEXTS.map(lambda t: t.encode("utf-8", "surrogatepass")), st.binary(max_size=60))
)
def test_any_file(data, tmp_path_factory):
    file = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    file.write_bytes(data)
    try:
        load_config([file], {"NUM_GPUS": 0})
    except UserError as error:
        assert str(error).strip() and len(str(error)) < 5000


VALUES = st.one_of(
    TEXTS, st.sampled_from(["nan", "inf", "1e999", "[1, nan]", "(" * 500, "-" * 5000])
)
NAMES = ["DATA.NUM_FRAMES", "DATA.MEAN", "SOLVER.BASE_LR", "OUTPUT_DIR", "TRAIN.ENABLE"]
NAMES += [
    "MVIT.DIM_MUL",
    "SOLVER.CLIP_GRAD_VAL",
    "MODEL.MODEL_NAME",
    "TASK",
    "IMPORTS",
    "NONE.SUCH",
]


@bounded(80)
@given(name=st.sampled_from(NAMES), value=VALUES)
def test_any_override(name, value):
    parse_overrides([name, value])
    try:
        load_config(overrides=["NUM_GPUS", "0", name, value])
    except UserError as error:
        assert str(error).strip() and len(str(error)) < 7000


@pytest.mark.parametrize("case", found_cases("yaml"), ids=lambda path: path.name)
def test_found_cases(case, tmp_path):
    read(case.read_text(encoding="utf-8", errors="replace"))
    with pytest.raises(UserError) as caught:
        load_config([case])
    assert len(str(caught.value)) < 5000
