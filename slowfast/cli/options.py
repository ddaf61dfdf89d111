"""What several commands share: options, what they name, and the words of a run in a process of
its own."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slowfast.config.plugins import IMPORTS, add_import_option
from slowfast.config.yaml_file import find_config

if TYPE_CHECKING:
    from slowfast.config.node import CfgNode
    from slowfast.datasets.lists import ItemList
    from slowfast.inference.collect import Found
    from slowfast.inference.network import Network
    from slowfast.utils.map import Where

_MOST_NAMES = 10


def add_overrides(parser: argparse.ArgumentParser, text: str = "overrides") -> None:
    """``KEY VALUE`` words and ``--import``, for a command that reads a configuration."""
    add_import_option(parser)
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help=text)


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """CHECKPOINT and ``--cfg``: the network that a command takes."""
    parser.add_argument("checkpoint", help="file of a trained network, or the folder of a run")
    parser.add_argument("--cfg", help="configuration of weights that come without one")


def add_device(parser: argparse.ArgumentParser) -> None:
    """``--device``, as ``slowfast.load`` takes it."""
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (a GPU where there is one)")


def add_classes(parser: argparse.ArgumentParser) -> None:
    """``--classes``, for :func:`class_names`."""
    parser.add_argument("--classes", help="CLIP: names, separated by commas, or a file of names")


def add_network(parser: argparse.ArgumentParser) -> None:
    """All that names a network, but for CHECKPOINT. Read by :func:`network`."""
    add_classes(parser)
    parser.add_argument("--support", help="few-shot: folder with a folder of clips per class")
    add_device(parser)
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY VALUE", help="overrides")
    add_import_option(parser)


def network(args: argparse.Namespace) -> Network:
    """What :func:`add_checkpoint` and :func:`add_network` ask for; UserError if a folder holds no
    support clips."""
    from slowfast.inference.network import Network

    return Network(
        args.checkpoint,
        args.device,
        args.cfg,
        class_names(args.classes),
        _support(args.support),
        override_words(args.imports, args.opts),
    )


def _support(folder: str | None) -> dict[str, list[str]] | None:
    """Class -> its clips, of a folder with a folder for each class."""
    from slowfast.datasets.class_folders import read_class_folders

    if folder is None:
        return None
    found = read_class_folders(os.path.expanduser(folder), "--support")
    return {
        name: [item.path for item in found.items if item.label == label]
        for label, name in enumerate(found.class_names)
    }


def say_ignored(found: Found) -> None:
    """Name files of folders that are no videos."""
    if found.ignored:
        names = ", ".join(os.path.basename(name) for name in found.ignored[:_MOST_NAMES])
        more = len(found.ignored) - _MOST_NAMES
        rest = f" and {more} more" if more > 0 else ""
        files = "1 file" if len(found.ignored) == 1 else f"{len(found.ignored)} files"
        sys.stderr.write(f"ignored {files}: {names}{rest}\n")


def class_names(text: str | None) -> str | list[str] | None:
    """``--classes`` for ``slowfast.load``: a file as it is, names separated by commas as a list."""
    if text is None or os.path.isfile(os.path.expanduser(text)):
        return text
    return [name.strip() for name in text.split(",") if name.strip()]


def add_lists(parser: argparse.ArgumentParser) -> None:
    """Lists of videos: files, or those of a configuration. Read by :func:`read_lists`."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="LIST",
        help="lists of 'path label' lines; with --cfg KEY VALUE words",
    )
    add_import_option(parser)
    parser.add_argument("--cfg", help="a configuration: its own lists, whatever their form")
    parser.add_argument("--prefix", default="", help="put in front of the paths of LIST")


def read_lists(args: argparse.Namespace) -> tuple[dict[str, ItemList], CfgNode | None]:
    """The lists that :func:`add_lists` asks for, by name, and the configuration, if one is given.
    UserError if there are none."""
    from slowfast.config.load import load_config
    from slowfast.datasets.lists import read_named_lists
    from slowfast.engine.tasks import read_configured_lists
    from slowfast.utils.errors import UserError

    if args.cfg:
        cfg = load_config([args.cfg], override_words(args.imports, args.words))
        return read_configured_lists(cfg), cfg
    if not args.words:
        raise UserError("no list is given", "see --help", "LIST")
    return read_named_lists(args.words, args.prefix), None


def add_where(parser: argparse.ArgumentParser, workers: str = "all cores") -> None:
    """Where the work over many videos is done, and which part of it. Read by :func:`where`."""
    parser.add_argument("--workers", type=int, help=f"processes ({workers})")
    parser.add_argument("--ray", default="", metavar="ADDRESS", help="Ray cluster, or auto")
    parser.add_argument(
        "--shard", metavar="I/N", help="only this part, as 1/8 to 8/8 of a job array"
    )
    parser.add_argument("--merge", action="store_true", help="join what all shards have done")
    parser.add_argument("--anew", action="store_true", help="forget what has been done so far")


def where(args: argparse.Namespace) -> Where:
    """What :func:`add_where` asks for; UserError if that contradicts itself."""
    from slowfast.utils.errors import UserError
    from slowfast.utils.map import Share, Where

    if args.workers is not None and args.workers < 1:
        raise UserError(f"is {args.workers}", "1 or more", "--workers")
    if args.shard and args.merge:
        raise UserError("a shard cannot join all of them", "leave out --shard", "--merge")
    if args.anew and args.merge:
        raise UserError("there would be nothing to join", "leave out --anew", "--merge")
    share = Share.parse(args.shard) if args.shard else None
    return Where(args.workers, args.ray, share, args.merge, args.anew)


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
