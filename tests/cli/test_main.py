"""The `slowfast` command: every tool under one name, and the files in tools/ that are the same."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest

from slowfast.cli import main as cli
from slowfast.cli import options
from slowfast.utils.errors import UserError
from slowfast.version import __version__
from tests.conftest import ROOT

TOOLS = {path.stem for path in (ROOT / "tools").glob("[a-z]*.py")}
READ_CONFIGURATIONS = (
    "train",
    "test",
    "run",
    "predict",
    "embed",
    "search",
    "check-data",
    "show-data",
    "visualize",
    "model-table",
    "convert",
    "export",
    "make-shards",
    "probe",
    "sweep",
    "benchmark",
    "stress",
)


def test_every_tool_is_a_command_and_holds_no_code_of_its_own():
    by_tool = {command.tool: name for name, command in cli.COMMANDS.items() if command.tool}
    assert set(by_tool) == TOOLS
    for tool, name in by_tool.items():
        lines = (ROOT / "tools" / f"{tool}.py").read_text().splitlines()
        assert len(lines) <= 10 and lines[-1].strip() == f'run_tool("{name}")'


def test_overview(capsys):
    assert cli.dispatch([]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in cli.COMMANDS)
    assert cli.dispatch(["--version"]) == 0 and capsys.readouterr().out.strip() == __version__


def test_unknown_command():
    with pytest.raises(UserError, match="did you mean train"):
        cli.dispatch(["trian"])


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_names_the_command(name, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.dispatch([name, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0 and f"usage: slowfast {name} " in text
    assert f"slowfast {name}" in text.partition("example")[2] and "{prog}" not in text
    assert ("--import MODULE" in text) == (name in READ_CONFIGURATIONS)


def test_help_is_quick():
    """The modules of the commands import nothing heavy before they run."""
    code = (
        "import sys\nfrom slowfast.cli import main\nmain.overview()\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize(
    "name, train, test",
    [("train", "True", "False"), ("test", "False", "True"), ("run", "True", "True")],
)
def test_train_and_test_are_halves_of_run(name, train, test, capsys):
    assert cli.dispatch([name, "--cfg", "quickstart/stfm", "--print-config"]) == 0
    values = dict(line.split()[:2] for line in capsys.readouterr().out.splitlines())
    assert (values["TRAIN.ENABLE"], values["TEST.ENABLE"]) == (train, test)


def test_own_words_win_over_those_of_the_command(capsys):
    words = ["train", "--cfg", "quickstart/stfm", "--print-config", "TEST.ENABLE", "True"]
    assert cli.dispatch(words) == 0
    values = dict(line.split()[:2] for line in capsys.readouterr().out.splitlines())
    assert values["TEST.ENABLE"] == "True"


def test_files_and_words():
    words = ["quickstart/stfm", "configs/Kinetics/UNIFORMER_S.yaml", "NUM_GPUS", "0"]
    assert options.split_files(words) == (words[:2], words[2:])
    assert options.split_files(["NUM_GPUS", "0"]) == ([], ["NUM_GPUS", "0"])


def test_a_run_of_its_own_process_imports_this_package(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    words = options.words_of_run()
    assert os.environ["PYTHONPATH"].split(os.pathsep) == [str(ROOT), str(tmp_path)]
    command = [sys.executable, *words, "--explain", "NUM_GPUS"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "Number of GPUs" in done.stdout


def test_a_tool_knows_a_plugin(tmp_path, monkeypatch, capsys):
    (tmp_path / "lib_tool.py").write_text(
        "from slowfast.config.schema import Key, Section, register_section\n"
        "register_section(Section('TOOLED', 'Keys of a plugin', {'A': Key(1, 'One of mine.')}))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    schema = importlib.import_module("slowfast.config.schema")
    try:
        words = ["--import", "lib_tool", "quickstart/frame_average", "TOOLED.A", "2"]
        assert cli.dispatch(["model-table", *words]) == 0
        assert "| quickstart/frame_average |" in capsys.readouterr().out
        with pytest.raises(UserError, match="must be a whole number"):
            cli.dispatch(["model-table", *words[:-1], "two"])
    finally:
        schema.SECTIONS.pop("TOOLED", None)
        sys.modules.pop("lib_tool", None)
