"""``tools/scale.py`` as it is called."""

from __future__ import annotations

from slowfast.cli.main import dispatch


def test_tables_of_own_numbers(capsys):
    words = ["--gpus", "2", "--videos", "1000"]
    words += ["--set", "gpu_clips_per_second", "50", "--set", "gpus_per_node", "2"]
    assert dispatch(["scale", "--simulate", *words]) == 0
    tables = capsys.readouterr().out.strip().split("\n\n")
    assert len(tables) == 5 and all(table.startswith("| ") for table in tables)
    assert tables[0].splitlines()[-1].startswith("| 2 | 100 | 6 | 3.1 |")
    assert tables[3].splitlines()[2].startswith("| 2 | 4 | 0.640 | 0.640 (1.00×) |")
