"""Report versions, decoders and devices, what is missing, and which extra brings it.

Exit code: 0 ready, 1 something required is missing. Paste the output into bug reports.
"""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = "example: {prog}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options."""


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from slowfast.analysis.environment import examine, is_ready

    findings = examine(Path(__file__).resolve().parents[2])
    for finding in findings:
        print(finding)
    return 0 if is_ready(findings) else 1
