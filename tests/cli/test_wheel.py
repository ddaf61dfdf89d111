"""What is installed is the whole package with its recipes, and nothing else; it works anywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

KINDS = ("*.py", "*.json", "*.txt", "*.csv", "*.yml", "*.html", "*.css", "*.js", "*.yaml")


def run(*words: object, cwd: Path, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | env,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of what a build reads: a build leaves files in its folder, which the next would pack."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("source")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("slowfast", "configs", "exp"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md", "MANIFEST.in"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def site(source, tmp_path_factory) -> Path:
    """The folder into which the wheel is installed."""
    folder = tmp_path_factory.mktemp("site")
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--disable-pip-version-check"]
    done = run("-m", "pip", "install", *options, "--target", folder, source, cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def recipes() -> set[str]:
    files = [p for folder in ("configs", "exp") for p in (ROOT / folder).rglob("*.yaml")]
    return {f"slowfast/{p.relative_to(ROOT)}" for p in files}


def test_wheel_holds_the_package(site):
    files = {p.relative_to(site).as_posix() for p in site.rglob("*") if p.is_file()}
    ours = {f for f in files if ".dist-info/" not in f and "__pycache__" not in f}
    expected = {str(p.relative_to(ROOT)) for k in KINDS for p in (ROOT / "slowfast").rglob(k)}
    assert ours == expected | recipes() | {"bin/slowfast"}


def test_source_distribution_holds_the_recipes(source, tmp_path):
    done = run("setup.py", "--quiet", "sdist", "--dist-dir", tmp_path, cwd=source)
    assert done.returncode == 0, done.stderr[-2000:]
    (archive,) = tmp_path.glob("slowfast-*.tar.gz")
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {name.removeprefix("slowfast/") for name in recipes()} <= names


def test_every_module_imports_from_there(site, tmp_path):
    code = (
        "import importlib, pkgutil, slowfast\n"
        "for m in pkgutil.walk_packages(slowfast.__path__, 'slowfast.'): "
        "importlib.import_module(m.name)\n"
        "print(slowfast.__file__)"
    )
    done = run("-c", code, cwd=tmp_path, PYTHONPATH=str(site))
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().startswith(str(site))


def test_command_finds_the_recipes(site, tmp_path):
    """From any folder: by name, by path; bases inside the package; a file of one's own first."""
    (tmp_path / "mine.yaml").write_text("_BASE_: Kinetics/UNIFORMER_S\nLOG_PERIOD: 77\n")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "own.yaml").write_text("LOG_PERIOD: 78\n")
    names = {
        "Kinetics/UNIFORMER_S": "[3, 4, 8, 3]",
        "configs/Kinetics/UNIFORMER_S.yaml": "[3, 4, 8, 3]",
        "uniformer_b16x4_k400": "[5, 8, 20, 7]",
        "mine.yaml": "LOG_PERIOD",
        "configs/own": "LOG_PERIOD",
    }
    command = [site / "bin/slowfast", "train", "--cfg", *names, "--print-config", "NUM_GPUS", "0"]
    done = run(*command, cwd=tmp_path, PYTHONPATH=str(site))
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split() for line in done.stdout.splitlines()]
    depths = [" ".join(line[1:5]) for line in lines if line[0] == "UNIFORMER.DEPTH"]
    assert depths[:4] == ["[3, 4, 8, 3]"] * 2 + ["[5, 8, 20, 7]", "[3, 4, 8, 3]"]
    periods = [line[1] for line in lines if line[0] == "LOG_PERIOD"]
    assert periods[3:] == ["77", "78"]
    assert [line[1] for line in lines if line[0] == "TEST.ENABLE"] == ["False"] * 5
    assert str(site / "slowfast" / "configs" / "Kinetics" / "UNIFORMER_S.yaml") in done.stdout


def test_command_without_a_clone(site, tmp_path):
    """`python -m slowfast` trains nothing here, but finds tools, data and configurations."""
    shapes = tmp_path / "shapes"
    sizes = ["--classes", "2", "--train", "2", "--val", "1", "--test", "1"]
    overrides = ["DATA.PATH_TO_DATA_DIR", shapes, "MODEL.NUM_CLASSES", "2"]
    for command in (
        ["make-moving-shapes", shapes, "--workers", "1", *sizes],
        ["show-data", "--cfg", "quickstart/stfm", "--videos", "2", *overrides],
        ["make-lists", "folder", "mine", "--out", "lists", "--val", "0", "--test", "0"],
        ["test", "--cfg", "lists/config.yaml", "--print-config"],
    ):
        for video in shapes.glob("videos/train/*.mp4"):
            target = tmp_path / "mine" / video.name.split("_")[0] / video.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(video, target)
        done = run("-m", "slowfast", *command, cwd=tmp_path, PYTHONPATH=str(site))
        assert done.returncode == 0, f"{command}\n{done.stdout[-500:]}{done.stderr[-2000:]}"
    assert (tmp_path / "data_sheet.png").is_file()
