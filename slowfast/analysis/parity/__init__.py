"""Parity: do our networks and tables give the published numbers?

A case is a json file: a network with expected outputs (``manifest``), or a table of arguments
and results (``table``). :func:`run_file` tells them apart by their content.
"""

from slowfast.analysis.parity.cases import CaseResult, find_cases, run_file

__all__ = ["CaseResult", "find_cases", "run_file"]
