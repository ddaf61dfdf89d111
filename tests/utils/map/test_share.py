"""Parts of a list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slowfast.utils.errors import UserError
from slowfast.utils.map.share import Share, check_complete, shares_below


@given(st.integers(1, 9), st.integers(0, 40))
def test_every_item_is_in_one_share(count, length):
    items = list(range(length))
    parts = [Share(number, count).of(items) for number in range(1, count + 1)]
    assert sorted(item for part in parts for item in part) == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_text():
    assert Share.parse("2/8") == Share(2, 8) and str(Share(2, 8)) == "2/8"
    for text in ("0/8", "9/8", "2", "-1/3", "1/0", "a/b", "1/2/3", ""):
        with pytest.raises(UserError, match="--shard 2/8"):
            Share.parse(text)


def test_what_is_missing_is_said(tmp_path):
    (tmp_path / "shares/2-of-3").mkdir(parents=True)
    (tmp_path / "shares/1-of-3").mkdir()
    (tmp_path / "shares/notes-of-me").mkdir()
    assert list(shares_below(tmp_path)) == [Share(1, 3), Share(2, 3)]
    check_complete([], ["a"], tmp_path)
    with pytest.raises(
        UserError, match=r"2 of 5 are not done, e.g. c(.|\n)*--shard 2/3, 3/3 again"
    ):
        check_complete(["c", "e"], ["a", "b", "c", "d", "e"], tmp_path)
