"""What is installed is the whole package, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.conftest import ROOT


def test_wheel_holds_the_package(tmp_path):
    pytest.importorskip("setuptools")
    source = tmp_path / "source"  # a build leaves files in its folder, which the next would pack
    shutil.copytree(
        ROOT / "slowfast", source / "slowfast", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(ROOT / name, source)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--no-deps",
            "--no-build-isolation",
            "--quiet",
            "--disable-pip-version-check",
            "--wheel-dir",
            tmp_path,
            source,
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = tmp_path.glob("slowfast-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        archive.extractall(tmp_path / "site")
    kinds = ("*.py", "*.json", "*.txt", "*.csv", "*.yml")
    expected = {str(p.relative_to(ROOT)) for k in kinds for p in (ROOT / "slowfast").rglob(k)}
    assert names == expected
    # every module imports from there, not from the clone
    code = (
        "import importlib, pkgutil, slowfast\n"
        "for m in pkgutil.walk_packages(slowfast.__path__, 'slowfast.'): "
        "importlib.import_module(m.name)\n"
        "print(slowfast.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "site", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().startswith(str(tmp_path))
