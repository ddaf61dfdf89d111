"""Parameters, GFLOPs x views and activations of the networks of one or all configurations.

A Markdown table; GFLOPs are multiply-adds, as the field counts.
"""

from __future__ import annotations

import argparse

from slowfast.cli.options import override_words, split_files
from slowfast.config.plugins import add_import_option

EXAMPLES = "example: {prog} configs/Kinetics/*.yaml DATA.NUM_FRAMES 16"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add_import_option(parser)
    parser.add_argument(
        "words",
        nargs="*",
        metavar="FILE or KEY VALUE",
        help="files (default: all of configs/), then overrides",
    )


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from slowfast.analysis.table import as_markdown, model_rows
    from slowfast.config.yaml_file import published_folder

    files, words = split_files(args.words)
    if not files:
        root = published_folder()
        parts = ("data.yaml", "stress.yaml")  # no networks of their own
        paths = sorted((root / "configs").glob("[!_]*/*.yaml")) if root else []
        files = [str(p.relative_to(root)) for p in paths if p.name not in parts]
    print(as_markdown(model_rows(files, override_words(args.imports, words))))
