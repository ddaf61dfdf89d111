"""``tools/scale.py`` as it is called."""

from __future__ import annotations

import re
import shlex

import pytest

from slowfast.cli.main import dispatch
from slowfast.utils.errors import UserError
from tests.conftest import ROOT


def test_tables_of_own_numbers(capsys):
    words = ["--gpus", "2", "--videos", "1000"]
    words += ["--set", "gpu_clips_per_second", "50", "--set", "gpus_per_node", "2"]
    assert dispatch(["scale", "--simulate", *words]) == 0
    tables = capsys.readouterr().out.strip().split("\n\n")
    assert len(tables) == 5 and all(table.startswith("| ") for table in tables)
    assert tables[0].splitlines()[-1].startswith("| 2 | 100 | 6 | 3.1 |")
    assert tables[3].splitlines()[2].startswith("| 2 | 4 | 0.640 | 0.640 (1.00×) |")


@pytest.mark.parametrize("words", [["--gpus", "8", "0"], ["--gpus", "-8"], ["--videos", "-5"]])
def test_numbers_that_are_none(words):
    with pytest.raises(UserError, match=f"{words[0]}: is {words[-1]}"):
        dispatch(["scale", *words])


def test_commands_of_the_page(capsys):
    """All but the check, which runs trainings."""
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    lines = re.findall(r"^python tools/scale.py (.*)$", page, re.M)
    assert "--check" in lines and len(lines) == 3
    for line in lines:
        if line != "--check":
            assert dispatch(["scale", *shlex.split(line)]) == 0
    assert "| 16 | 1,968 |" in capsys.readouterr().out
