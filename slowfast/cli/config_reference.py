"""Write docs/configuration.md: every configuration key, its default and meaning."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = "example: {prog}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--out", default="", help="file to write (docs/configuration.md)")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from slowfast.config.defaults import get_cfg
    from slowfast.config.load import reference_page
    from slowfast.utils.files import write_text_atomic

    get_cfg()
    clone = Path(__file__).resolve().parents[2]
    write_text_atomic(args.out or clone / "docs" / "configuration.md", reference_page())
