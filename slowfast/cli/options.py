"""What several commands share: options, and the words of a run in a process of its own."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from slowfast.config.plugins import IMPORTS, add_import_option
from slowfast.config.yaml_file import find_config


def add_overrides(parser: argparse.ArgumentParser, text: str = "overrides") -> None:
    """``KEY VALUE`` words and ``--import``, for a command that reads a configuration."""
    add_import_option(parser)
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help=text)


def split_files(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words -> (configuration files at their beginning, ``KEY VALUE`` words)."""
    count = 0
    for word in words:
        if not (word.endswith((".yaml", ".yml")) or find_config(word).is_file()):
            break
        count += 1
    return list(words[:count]), list(words[count:])


def override_words(imports: Sequence[str], words: Sequence[str]) -> list[str]:
    """``KEY VALUE`` words for ``load_config`` that also import the modules of ``--import``."""
    return [*([IMPORTS, repr(list(imports))] if imports else []), *words]


def words_of_run() -> list[str]:
    """Words after the interpreter that start the run command in a process of its own.

    Sets PYTHONPATH, so that the process imports this very package, installed or not.
    """
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    return ["-m", "slowfast", "run"]
