"""JSON without numbers that JSON does not have."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from slowfast.utils.json_text import json_text


def refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float64("nan")])
def test_numbers_that_are_not_finite_are_texts(value):
    text = json_text({"loss": value, "rows": [1.5, (2, {"x": value})]}, indent=1)
    read = json.loads(text, parse_constant=refuse)
    assert read["rows"][:1] == [1.5] and read["rows"][1][0] == 2
    for found in (read["loss"], read["rows"][1][1]["x"]):
        assert isinstance(found, str)
        assert float(found) == value or math.isnan(float(found)) and math.isnan(value)


def test_all_else_is_plain_json():
    value = {"a": [1, 2.5, None, True, "nan"], "b": {}}
    assert json_text(value) == json.dumps(value)
