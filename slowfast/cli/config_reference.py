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
    from slowfast.utils.paths import prepare_outputs

    get_cfg()
    clone = Path(__file__).resolve().parents[2]
    out = args.out or clone / "docs" / "configuration.md"
    prepare_outputs([out])
    write_text_atomic(out, reference_page())
