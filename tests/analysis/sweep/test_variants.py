"""Rows of a sweep."""

from __future__ import annotations

import pytest

from slowfast.analysis.sweep.variants import make_variants, read_variants, select_variants
from slowfast.utils.errors import UserError

ROWS = """
- {name: "plain, 3 x 3", cfg: mine.yaml}
- {name: wide, cfg: configs/quickstart/mvit.yaml, group: MViT,
   words: "MODEL.NUM_CLASSES 4 DATA.CLASS_NAMES \\"['a b', 'c']\\""}
"""


def test_a_file_of_rows(tmp_path):
    (tmp_path / "mine.yaml").write_text("MODEL: {NUM_CLASSES: 3}\n")
    (tmp_path / "rows.yaml").write_text(ROWS)
    plain, wide = read_variants(tmp_path / "rows.yaml")
    assert (plain.config, plain.words, plain.group) == (tmp_path / "mine.yaml", (), "")
    assert plain.folder == "plain_3_x_3"
    assert wide.config.is_file() and wide.config.name == "mvit.yaml" and wide.group == "MViT"
    assert wide.words == ("MODEL.NUM_CLASSES", "4", "DATA.CLASS_NAMES", "['a b', 'c']")
    assert select_variants([plain, wide], ["wide"]) == [wide]
    with pytest.raises(UserError, match="did you mean wide"):
        select_variants([plain, wide], ["wid"])


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is not a list of rows"),
        ("name: a", "is not a list of rows"),
        ("- a", "row 1 is no mapping"),
        ("- {name: a, cfg: b}\n- {cfg: b}", "row 2 lacks name"),
        ("- {name: a, cfg: b, word: c}", "knows no word"),
        ("- {name: a, cfg: b, words: [c, d]}", "wants a text as words"),
        ('- {name: a, cfg: b, words: "c \'d"}', "close the quotation marks"),
        ("- {name: a b, cfg: c}\n- {name: a/b, cfg: c}", "equal names: a b, a/b"),
        ("- {name: a", "cannot be read"),
    ],
)
def test_mistakes_are_named(text, message, tmp_path):
    (tmp_path / "rows.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_variants(tmp_path / "rows.yaml")
    with pytest.raises(UserError, match="--variants"):
        read_variants(tmp_path / "none.yaml")


def test_configurations_and_values():
    rows = make_variants(["a.yaml", "b.yaml"], "KEY", ["1", "2"])
    assert [row.name for row in rows] == ["a 1", "a 2", "b 1", "b 2"]
    with pytest.raises(UserError, match="equal names"):
        make_variants(["x/a.yaml", "y/a.yaml"])
