"""Finding and running parity cases."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from slowfast.analysis.parity import tables_engine, tables_multigrid, tables_video  # noqa: F401  (fill TABLES)
from slowfast.analysis.parity.fill import read_case
from slowfast.analysis.parity.networks import compute_outputs
from slowfast.analysis.parity.tables import TABLES, run_table
from slowfast.utils.errors import UserError

GRADIENT_TOLERANCE = 1e-2
# Absolute tolerance for gradients that are zero but for rounding, such as that of a bias before
# batch normalisation.
ROUNDING = 1e-6
_NO_FUNCTION = "no function for this table"
_REQUIRED = {
    "logits",
    "zero_shot_logits",
    "text_aug_logits",
    "global_logits_mean",
    "episode_scores",
    "episode_scores_mean",
    "similarity",
    "loss",
    "loss_global",
    "loss_episode",
    "similar_loss",
    "frame_features",
    "text_features",
    "video_features",
}


@dataclass(frozen=True)
class CaseResult:
    """Outcome of one case; a case that is not ``required`` does not fail the run."""

    name: str
    passed: bool
    required: bool = True
    detail: str = ""

    def __str__(self) -> str:
        word = "PASS" if self.passed else "FAIL"
        if not self.required:
            word = f"({'not run' if self.detail == _NO_FUNCTION else word.lower()}, not required)"
        return f"{word} {self.name}  {self.detail}".rstrip()


def find_cases(paths: Iterable[str | Path]) -> Iterator[Path]:
    """The JSON files under ``paths`` that contain parity cases."""
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(f"there is no {path}", "name a case file or a folder of them")
        files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
        for file in files:
            try:
                content = json.loads(file.read_text())
            except ValueError as error:
                raise UserError(
                    f"{file} is not valid JSON: {error}", "name a case or a folder"
                ) from None
            if isinstance(content, Mapping) and ("manifest" in content or "table" in content):
                yield file


def run_file(path: Path) -> CaseResult:
    """Run one case; an exception is a failure with its message."""
    content = json.loads(path.read_text())
    name = f"{path.parent.name}/{path.stem}"
    required = content.get("required", True)
    try:
        if "table" in content:
            return _run_table(name, content)
        detail, passed = _run_network(path)
        return CaseResult(name, passed, detail=detail)
    except Exception as error:  # noqa: BLE001  (a case that crashes is a failed case)
        first = (str(error).splitlines() or [""])[0]
        return CaseResult(name, False, required, f"{type(error).__name__}: {first}")


def _run_table(name: str, content: dict) -> CaseResult:
    required = content.get("required", True)
    if content["table"] not in TABLES:
        return CaseResult(name, False, required, _NO_FUNCTION)
    wrong, rows = run_table(content)
    detail = f"{rows} rows" if not wrong else f"{len(wrong)} of {rows} rows differ: {wrong[0]}"
    return CaseResult(name, not wrong, required, detail)


def is_required(output: str) -> bool:
    """Whether an expected output must agree; the others help to locate a difference."""
    return output in _REQUIRED or output.startswith("grad_norm:")


def _run_network(path: Path) -> tuple[str, bool]:
    record, inputs, state, expected = read_case(path)
    ours = compute_outputs(record, inputs, state, expected)
    worst, bad = 0.0, []
    for name in filter(is_required, expected):
        if name not in ours:
            bad.append(f"{name} is not computed")
            continue
        error, limit = _difference(name, ours[name], expected[name], record)
        worst = max(worst, error / limit)
        if not error <= limit:
            bad.append(f"{name} differs by {error:.3g}, allowed {limit:.3g}")
    return "; ".join(bad) or f"{worst:.1%} of the tolerance", not bad


def _difference(
    name: str, ours: torch.Tensor, expected: torch.Tensor, record: dict
) -> tuple[float, float]:
    expected = expected.float()
    if ours.numel() != expected.numel():
        return float("inf"), 1.0
    error = (ours.float().reshape(expected.shape) - expected).abs().max().item()
    scale = expected.abs().max().item()
    if name.startswith("grad_norm:"):
        return error, max(GRADIENT_TOLERANCE * scale, ROUNDING)
    return error, record["rtol"] * scale + record["atol"]
