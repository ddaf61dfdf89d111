#!/usr/bin/env python3
"""Report versions, decoders and devices, what is missing, and which extra brings it.

Exit code: 0 ready, 1 something required is missing. Paste the output into bug reports.
"""

import argparse

import _path

from slowfast.utils.cli import run_command


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python tools/check_env.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    from slowfast.analysis.environment import examine, is_ready

    findings = examine(_path.ROOT)
    for finding in findings:
        print(finding)
    return 0 if is_ready(findings) else 1


if __name__ == "__main__":
    run_command(main)
