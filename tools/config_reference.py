#!/usr/bin/env python3
"""Write docs/configuration.md: every configuration key, its default and meaning."""

import argparse

import _path

from slowfast.utils.cli import run_command


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: python tools/config_reference.py"
    )
    parser.parse_args()
    from slowfast.config.defaults import get_cfg
    from slowfast.config.load import reference_page
    from slowfast.utils.files import write_text_atomic

    get_cfg()
    write_text_atomic(_path.ROOT / "docs" / "configuration.md", reference_page())


if __name__ == "__main__":
    run_command(main)
