"""A loss, a metric and a logger."""

from pathlib import Path

from slowfast.engine.loggers import LOGGER_REGISTRY
from slowfast.engine.losses import LOSS_REGISTRY, CrossEntropy
from slowfast.metrics.evaluators import METRIC_REGISTRY


@LOSS_REGISTRY.register("confidence_penalty")
class ConfidencePenalty(CrossEntropy):
    """Cross entropy minus a tenth of the entropy of the prediction (arXiv 1701.06548)."""

    def compute(self, logits, targets):
        log_probabilities = logits.log_softmax(-1)
        entropy = -(log_probabilities.exp() * log_probabilities).sum(-1).mean()
        return super().compute(logits, targets) - 0.1 * entropy


@METRIC_REGISTRY.register("worst_class_accuracy")
def worst_class_accuracy(scores, labels):
    """Scores ``N classes``, labels ``N`` -> accuracy of the worst class, in percent."""
    hits = (scores.argmax(1) == labels).float()
    return min(100 * float(hits[labels == label].mean()) for label in labels.unique())


@LOGGER_REGISTRY.register("csv")
class CsvLogger:
    """``curve.csv``: a line per validation."""

    def __init__(self, cfg, first_step=0):
        self.file = Path(cfg.OUTPUT_DIR) / "curve.csv"

    def log(self, kind, figures, step):
        if kind == "val_epoch":
            with open(self.file, "a") as file:
                file.write(f"{step},{figures['top1_err']:.2f}\n")

    def close(self):
        pass
