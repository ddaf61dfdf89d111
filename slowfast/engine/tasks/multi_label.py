"""Recognition of videos with any number of labels each (DATA.MULTI_LABEL)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from slowfast.engine.result_files import ScoreTable, write_multi_label
from slowfast.engine.tasks.base import TestRun
from slowfast.engine.tasks.recognition import RecognitionModule, RecognitionReport, RecognitionTask
from slowfast.metrics.evaluators import EvalResult, MultiLabelEvaluator


class MultiLabelModule(RecognitionModule):
    """Clips -> a logit for each class, which may be present or absent by itself."""

    def figures(self, logits: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        return {}  # mean average precision is none of a batch


class MultiLabelReport(RecognitionReport):
    """Mean average precision over videos, average precision of each class, scores."""

    def evaluator(self, split: str) -> MultiLabelEvaluator:
        method = self.cfg.DATA.ENSEMBLE_METHOD if split == "test" else "sum"
        return MultiLabelEvaluator(method, tuple(self.cfg.TEST.METRICS))

    def figures(self, result: EvalResult, unreadable: int, total: int) -> dict[str, float]:
        """``map``, between 0 and 1, and the chosen metrics."""
        return dict(result.metrics)

    def describe(
        self, result: EvalResult, unreadable: int, total: int
    ) -> tuple[str, dict[str, Any]]:
        figures = dict(result.metrics)
        precision = figures.pop("map")
        text = f"mean average precision {100 * precision:.2f} % of {result.items} videos"
        text += "".join(f", {name} {value:.2f}" for name, value in figures.items())
        if unreadable:
            text += f"; {unreadable} could not be read and do not count"
        entries = {"map": f"{precision:.5f}"}
        entries |= {name: f"{value:.2f}" for name, value in figures.items()}
        return text, entries | {"videos": result.items}

    def write(self, test: TestRun, evaluator: MultiLabelEvaluator, folder: Path) -> dict[str, Any]:
        """Predictions, average precision of each class, scores, and the file that
        TEST.SAVE_RESULTS_PATH names."""
        names = self.data.class_names("test")
        table = ScoreTable.collect(evaluator, names, self.cfg.MODEL.HEAD_ACT)
        write_multi_label(table, folder)
        self.save_scores(table, test)
        return {"multi_label": True, "scores": table.facts(), "classes": table.names}


class MultiLabelTask(RecognitionTask):
    """Recognition of videos with any number of labels; see
    :class:`slowfast.engine.tasks.base.Task`."""

    module_class = MultiLabelModule
    report_class = MultiLabelReport
