"""Parity: comparison of networks and functions with the published implementations.

A case is a JSON file: a network with expected outputs (``manifest``), or a table of arguments and
results (``table``). :func:`run_file` runs either.
"""

from slowfast.analysis.parity.cases import CaseResult, find_cases, run_file

__all__ = ["CaseResult", "find_cases", "run_file"]
