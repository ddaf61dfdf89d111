"""Modules of other projects that register models, losses or keys: IMPORTS and entry points."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from slowfast.config.schema import load_registered
from slowfast.config.yaml_file import Entry
from slowfast.utils.errors import Problem, UserError
from slowfast.utils.text import shorten, shown

IMPORTS = "IMPORTS"
ENTRY_POINTS = "slowfast.plugins"
_LONGEST_NAME = 255  # bytes of a file's name
_LIBRARIES = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))
_PACKAGE = f"{Path(__file__).parent.parent}{os.sep}"


def import_entry_points() -> None:
    """Import the plugins of installed packages; UserError that names a package that fails."""
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        owner = entry.dist.name if entry.dist else entry.value
        try:
            entry.load()
        except Exception as error:
            raise UserError(
                f"the installed plugin {entry.name!r} of {owner} cannot be imported: "
                f"{_cause(error)}",
                f"repair it, or remove it: pip uninstall {owner}",
                ENTRY_POINTS,
            ) from error


def import_plugins(names: Iterable[str], folder: Path | None = None, origin: str = "") -> list[str]:
    """Import modules by name, so that what they register is known here.

    A module is looked for in the current folder, in ``folder`` (that of the file which names it),
    then among the installed packages; a name may begin with a folder of its own
    (``../plugins/mine.model``). Gives the names with the folders in which they were found, so that
    another process or a later run finds the same files. Raises UserError.
    """
    load_registered()
    return [_import_plugin(name, folder, origin) for name in names]


def take_imports(entries: Iterable[Entry]) -> tuple[list[str], list[Entry]]:
    """Import what the IMPORTS entries name, all of them in order: (their names, other entries)."""
    names: list[str] = []
    others: list[Entry] = []
    for entry in entries:
        if entry.key != IMPORTS:
            others.append(entry)
            continue
        listed = [entry.value] if isinstance(entry.value, str) else entry.value
        if not isinstance(listed, (list, tuple)) or not all(isinstance(n, str) for n in listed):
            problem = f"must be a list of modules, is {shown(listed)}"
            raise UserError(Problem(problem, "", IMPORTS, entry.origin))
        folder = entry.file.parent if entry.file else None
        listed = [] if entry.value == "" else listed
        names += import_plugins(listed, folder, entry.origin)
    return list(dict.fromkeys(names)), others


def add_import_option(parser: argparse.ArgumentParser) -> None:
    """The option ``--import MODULE`` of every command that reads a configuration."""
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module that registers models, data sets, ...; may be repeated (IMPORTS)",
    )


def _import_plugin(name: str, folder: Path | None, origin: str) -> str:
    head, module = os.path.split(name.removesuffix(".py"))
    is_module = all(part.isidentifier() for part in module.split("."))
    if not is_module or "\0" in name or max(map(len, name.split(os.sep))) > _LONGEST_NAME:
        problem = f"{shorten(name) or 'an empty text'} is not the name of a module"
        raise UserError(Problem(problem, "write package.module", IMPORTS, origin))
    bases = [Path.cwd(), *([folder.absolute()] if folder else [])]
    # A run that was copied to another machine brings the name of a folder that is not there.
    named = [base / head for base in bases if head and (base / head).is_dir()]
    searched = named or bases
    home = _home_of(module.split(".")[0], searched)
    with _first_on_path(home):
        _import(module, origin, searched)
    return str(Path(os.path.normpath(home)) / module) if home else module


def _home_of(package: str, folders: Iterable[Path]) -> Path | None:
    """The folder that holds the package or module; None if it is an installed one, or nowhere."""
    for folder in folders:
        if (folder / f"{package}.py").is_file() or (folder / package / "__init__.py").is_file():
            return folder
    if package and importlib.util.find_spec(package) is None:
        return next((folder for folder in folders if (folder / package).is_dir()), None)
    return None


@contextmanager
def _first_on_path(folder: Path | None) -> Iterator[None]:
    """``folder`` before everything else while its module is imported, then at the end, where its
    files hide no installed package."""
    if folder is None:
        yield
        return
    text = os.path.normpath(folder)
    sys.path.insert(0, text)
    try:
        yield
    finally:
        if text in sys.path:
            sys.path.remove(text)
        if text not in sys.path:
            sys.path.append(text)


def _import(module: str, origin: str, searched: Iterable[Path]) -> None:
    importlib.invalidate_caches()  # the file may be younger than the interpreter
    try:
        importlib.import_module(module)
    except Exception as error:
        absent = error.name if isinstance(error, ModuleNotFoundError) else None
        message, remedy = f"{module} cannot be imported: {_cause(error)}", "repair that line"
        if absent and f"{module}.".startswith(f"{absent}."):
            message = f"there is no module {absent}"
            folders = ", ".join(dict.fromkeys(map(str, searched)))
            remedy = f"install it, or start in the folder that holds it (searched: {folders})"
        elif absent:
            remedy = f"install {absent}, or repair that line"
        raise UserError(Problem(message, remedy, IMPORTS, origin)) from error


def _cause(error: Exception) -> str:
    """Kind and text of an error, and the file and line of the plugin where it arose."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename[0] != "<"]
    outside = [f for f in frames if not f.filename.startswith((_PACKAGE, importlib.__path__[0]))]
    # The plugin's own line says more than the one of a library that it called.
    own = [f for f in outside if not f.filename.startswith(_LIBRARIES)] or outside
    return f"{text} ({own[-1].filename}:{own[-1].lineno})" if own else text
