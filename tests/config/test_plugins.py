"""Modules of other projects: where they are found, what they may register, how they fail."""

from __future__ import annotations

import shutil
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

from slowfast.config import plugins
from slowfast.config.defaults import get_cfg
from slowfast.config.load import load_config
from slowfast.config.schema import SECTIONS
from slowfast.engine import launch
from slowfast.engine.losses import LOSS_REGISTRY
from slowfast.engine.run import main
from slowfast.utils.distributed import ProcessInfo
from slowfast.utils.errors import UserError

PLUGIN = """
from slowfast.config.schema import Key, Section, register_section
from slowfast.engine.losses import LOSS_REGISTRY, CrossEntropy

register_section(Section("MYNET", "A network of my own", {"WIDTH": Key(3, "Channels.", ge=1)}))


@LOSS_REGISTRY.register("mine")
class MyLoss(CrossEntropy):
    pass
"""


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """The current folder, and everything that an import changes put back."""
    get_cfg()
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setattr(sys, "path", list(sys.path))
    sections, losses, modules = dict(SECTIONS), dict(LOSS_REGISTRY._objects), set(sys.modules)
    yield tmp_path / "cwd"
    SECTIONS.clear()
    SECTIONS.update(sections)
    LOSS_REGISTRY._objects.clear()
    LOSS_REGISTRY._objects.update(losses)
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def write(path: Path, text: str = PLUGIN) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def message(*args, **kwargs) -> str:
    with pytest.raises(UserError) as caught:
        load_config(*args, **kwargs)
    return str(caught.value)


def test_current_folder(project):
    write(project / "my_lib/loss.py")
    write(project / "my_lib/__init__.py", "")
    cfg = load_config(
        overrides={"MYNET.WIDTH": 5, "MODEL.LOSS_FUNC": "mine"}, imports=["my_lib.loss"]
    )
    assert cfg.MYNET.WIDTH == 5 and [str(project / "my_lib.loss")] == cfg.IMPORTS


def test_folder_of_the_file_and_its_base(project, tmp_path):
    """The lists of a file and of its base are joined; each is looked for beside its own file."""
    write(tmp_path / "base/lib_a.py", "NAME = 'a'\n")
    write(tmp_path / "base/base.yaml", "IMPORTS: [lib_a]\nLOG_PERIOD: 3\n")
    write(tmp_path / "top/lib_b.py")
    top = write(
        tmp_path / "top/top.yaml", "_BASE_: ../base/base.yaml\nIMPORTS: lib_b\nMYNET: {WIDTH: 0}\n"
    )
    assert "MYNET.WIDTH: must be at least 1" in message([top])
    cfg = load_config([top], ["MYNET.WIDTH", "4"])
    assert [str(tmp_path / "base/lib_a"), str(tmp_path / "top/lib_b")] == cfg.IMPORTS
    assert cfg.LOG_PERIOD == 3 and sys.modules["lib_a"].NAME == "a"


def test_configuration_of_a_run_works_elsewhere(project, tmp_path, monkeypatch):
    write(project / "lib_run.py")
    cfg = load_config(overrides=["IMPORTS", "lib_run", "MODEL.LOSS_FUNC", "mine"])
    saved = write(tmp_path / "out/config.yaml", cfg.dump())
    monkeypatch.chdir(tmp_path)
    for changed in (SECTIONS, LOSS_REGISTRY._objects, sys.modules):
        for name in ("MYNET", "mine", "lib_run"):
            changed.pop(name, None)
    again = load_config([saved])
    assert again.MODEL.LOSS_FUNC == "mine" and again.IMPORTS == cfg.IMPORTS


def test_folder_in_the_name(project, tmp_path):
    write(tmp_path / "other/lib_path.py")
    write(project / "c.yaml", "IMPORTS: [../other/lib_path.py]\n")
    assert [str(tmp_path / "other/lib_path")] == load_config([project / "c.yaml"]).IMPORTS
    # A run that was copied: its folder is gone, the module stands in the current one.
    del sys.modules["lib_path"], SECTIONS["MYNET"], LOSS_REGISTRY._objects["mine"]
    (tmp_path / "other/lib_path.py").rename(project / "lib_path.py")
    shutil.rmtree(tmp_path / "other")
    cfg = load_config(overrides={"IMPORTS": [str(tmp_path / "other/lib_path")]})
    assert [str(project / "lib_path")] == cfg.IMPORTS


def test_installed_modules_keep_their_names():
    assert load_config(imports=["json", "yaml"]).IMPORTS == ["json", "yaml"]


def test_files_of_a_project_hide_no_installed_package(project):
    write(project / "lib_first.py", "import lib_second\n")
    write(project / "lib_second.py", "")
    write(project / "simplejson.py", "raise RuntimeError\n")
    load_config(imports=["lib_first"])
    assert sys.path[-1] == str(project) and sys.path[0] != str(project)


def test_merging_into_a_tree(project):
    """What PySlowFast users call."""
    write(project / "lib_tree.py")
    cfg = get_cfg()
    assert "MYNET" not in cfg
    cfg.merge_from_list(["IMPORTS", "['lib_tree']", "MYNET.WIDTH", 8])
    assert cfg.MYNET.WIDTH == 8 and cfg.DATA.NUM_FRAMES == get_cfg().DATA.NUM_FRAMES


def test_module_that_does_not_exist(project):
    text = message(imports=["no_such_lib.part"])
    assert "there is no module no_such_lib" in text and f"searched: {project}" in text
    write(project / "lib_dir/__init__.py", "")
    assert "there is no module lib_dir.absent" in message(imports=["lib_dir.absent"])


@pytest.mark.parametrize(
    "code, text, line",
    [
        ("import torch\n\ntorch.no_such_thing\n", "AttributeError: module 'torch'", 3),
        ("x = 1\nx = = 2\n", "SyntaxError: invalid syntax", 2),
        ("\nimport absent_library_of_mine\n", "install absent_library_of_mine", 2),
        ("from slowfast.models import NoSuchName\n", "ImportError", 1),
        ("import torch\ntorch.zeros(2) @ torch.zeros(3)\n", "RuntimeError", 2),
    ],
)
def test_error_inside_a_module_shows_its_line(project, code, text, line):
    file = write(project / "lib_broken.py", code)
    problem = message(imports=["lib_broken"])
    assert text in problem and f"{file}:{line}" in problem
    assert "there is no module" not in problem


def test_not_a_list_of_modules():
    assert "must be a list of modules" in message(overrides=["IMPORTS", "3"])


def test_command_line(project, capsys):
    write(project / "lib_command.py")
    words = ["--import", "lib_command", "--explain", "MODEL.LOSS_FUNC"]
    assert main(words) == 0 and "'mine'" in capsys.readouterr().out
    write(project / "c.yaml", "IMPORTS: [lib_command]\n")
    assert main(["--cfg", "c.yaml", "--explain", "MYNET.WIDTH"]) == 0
    assert "Channels." in capsys.readouterr().out


def job_of_child(cfg, runtime) -> None:
    """Runs in a process that was spawned: the plugin's names must be known there."""
    known = "mine" in LOSS_REGISTRY and "MYNET" in SECTIONS
    (Path(cfg.OUTPUT_DIR) / "known.txt").write_text(str(known))


def test_child_processes_import_them_too(project):
    write(project / "lib_child.py")
    cfg = load_config(overrides={"OUTPUT_DIR": "out", "NUM_GPUS": 0}, imports=["lib_child"])
    torch.multiprocessing.spawn(
        launch._run_child, (cfg, job_of_child, [ProcessInfo()]), 1, join=False
    ).join()
    assert (project / "out/known.txt").read_text() == "True"


class FakeEntry:
    """An entry point of an installed package."""

    name, value, dist = "fake", "fake_pkg:load", None

    def load(self):
        raise RuntimeError("half installed")


def test_entry_points(monkeypatch):
    groups = []

    def entry_points(group):
        groups.append(group)
        return [FakeEntry()]

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    with pytest.raises(
        UserError, match="'fake' of fake_pkg:load cannot be imported.*half installed"
    ):
        plugins.import_entry_points()
    assert groups == ["slowfast.plugins"]
