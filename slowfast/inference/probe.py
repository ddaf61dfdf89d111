"""A probe: how well the features of a frozen network tell the classes of other videos apart.

The features of all videos are computed once; a linear classifier, or nearest neighbours, then take
seconds. A linear probe is saved as a network with a new classifier.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import torch

import slowfast
from slowfast.config.node import CfgNode
from slowfast.datasets.batch import Batch
from slowfast.datasets.classnames import DEFAULT_NAME, read_class_names
from slowfast.datasets.folder_lists import from_folder
from slowfast.datasets.items import Item, ItemList
from slowfast.datasets.lists import read_path_list
from slowfast.engine.initial import TestedWeights
from slowfast.engine.network import build_network
from slowfast.engine.results import FinishedTest, save_test
from slowfast.engine.tasks.base import TestRun
from slowfast.engine.tasks.recognition import RecognitionReport
from slowfast.inference.classifiers import LinearClassifier, fit_linear, neighbour_probabilities
from slowfast.inference.predictor import Predictor
from slowfast.inference.trained import affects_features
from slowfast.metrics.evaluators import EvalResult
from slowfast.metrics.intervals import Estimate, mean_interval
from slowfast.models.weights.files import write_weights
from slowfast.models.weights.read import Checkpoint, read_checkpoint
from slowfast.models.weights.safetensors import digest_of, write_safetensors
from slowfast.utils.errors import UserError, VideoError
from slowfast.utils.files import make_dirs, remove_leftovers, short_hash, write_atomic
from slowfast.utils.logging import get_logger
from slowfast.utils.map import file_stamp
from slowfast.utils.progress import ProgressBar

logger = get_logger(__name__)

METHODS = ("linear", "knn")
PROBE = "probe.pyth"
_FEATURES = "features"
_CHECKED = 3  # videos on which the saved network is compared with the probe
_CLOSE = 1e-3


@dataclass(frozen=True)
class ProbeData:
    """Videos that train the probe, and those that test it, with labels of the same classes."""

    train: ItemList
    test: ItemList


@dataclass(frozen=True)
class _Videos:
    """What the results of a test read of a data set."""

    item_list: ItemList

    def __len__(self) -> int:
        return len(self.item_list.items)


@dataclass(frozen=True)
class Features:
    """Features ``N D`` of the videos that could be read, and their numbers ``N`` in the list."""

    values: torch.Tensor
    rows: list[int]


@dataclass(frozen=True)
class ProbeResult:
    """``accuracy`` in percent with its 95 % interval, of ``videos`` test videos of which
    ``unreadable`` were not read; ``details`` of the method; the ``folder`` of the test; the network
    with the new classifier (``saved``), where there is one."""

    accuracy: Estimate
    videos: int
    unreadable: int
    details: str
    folder: Path
    saved: Path | None


def read_data(folder: str | Path, prefix: str = "", share: float = 0.3, seed: int = 0) -> ProbeData:
    """The videos of a folder of lists (``train.csv``, ``test.csv``, ``classes.txt``), of
    ``train/<class>`` and ``test/<class>``, or of class folders, of which a ``share`` tests.

    UserError if there are none, or a class has no training video.
    """
    folder = Path(folder)
    if (folder / "train.csv").is_file():
        names_file = folder / DEFAULT_NAME
        names = read_class_names(names_file, "DATA") if names_file.is_file() else []
        lists = {
            split: read_path_list(folder / f"{split}.csv", " ", prefix, "DATA")
            for split in ("train", "test")
        }
        count = 1 + max(item.label for items in lists.values() for item in items)
        names = names or [str(number) for number in range(count)]
        if len(names) < count:
            raise UserError(
                f"{names_file} has {len(names)} names, labels go to {count - 1}", "", "DATA"
            )
        source = {split: str(folder / f"{split}.csv") for split in lists}
    else:
        made = from_folder(folder, 0.0, share, seed, required=("test",))
        lists, names = made.splits, made.class_names
        source = {split: str(folder / split) for split in lists}
        for note in made.notes:
            logger.info("%s", note)
    if len(names) < 2:
        raise UserError(f"{folder} has videos of one class only", "two classes or more", "DATA")
    missing = sorted(set(range(len(names))) - {item.label for item in lists["train"]})
    if missing:
        raise UserError(
            f"no training video is of {names[missing[0]]!r}",
            "give one, or remove the class",
            "DATA",
        )
    return ProbeData(*(ItemList(lists[s], source[s], names) for s in ("train", "test")))


def probe(
    predictor: Predictor,
    checkpoint: str | Path,
    data: ProbeData,
    out: str | Path,
    method: str = "linear",
    neighbours: int = 5,
) -> ProbeResult:
    """Fit and test a probe on the features that ``predictor`` gives; write into the folder ``out``.

    ``checkpoint``: the file of its weights, for the results. UserError if nothing can be read.
    """
    out = make_dirs(out, "--out")
    train, test = (features_of(predictor, items, out) for items in (data.train, data.test))
    names = data.train.class_names
    labels = torch.tensor([data.train.items[row].label for row in train.rows])
    started, clock = datetime.now().astimezone(), perf_counter()
    saved = None
    cfg = probe_configuration(predictor.cfg, names, out)
    if method == "linear":
        classifier = fit_linear(train.values, labels, len(names))
        logits = classifier.logits(test.values)
        details = f"linear, penalty {classifier.penalty:g}"
        if classifier.accuracy is not None:
            details += f", chosen at {classifier.accuracy:.2f} % in cross-validation"
        saved = save_linear(predictor, classifier, cfg, names, out / PROBE)
        if saved and not is_same(saved, [item.path for item in data.test.items], test, logits):
            saved.unlink()
            saved = None
        if saved is None:
            logger.warning(
                "%s has no linear classifier over its features: "
                "the probe is not saved as a network",
                cfg.MODEL.MODEL_NAME,
            )
    else:
        votes = neighbour_probabilities(test.values, train.values, labels, len(names), neighbours)
        logits = votes.clamp_min(1e-12).log()
        details = f"{min(neighbours, len(labels))} nearest neighbours by cosine"
    weights = TestedWeights(Checkpoint.read(saved or checkpoint, "checkpoint", mapped=True))
    folder, correct = _save_results(
        cfg, weights, data.test, test, logits, method, started, perf_counter() - clock
    )
    unreadable = len(data.test.items) - len(test.rows)
    accuracy = mean_interval([100.0 * hit for hit in correct])
    return ProbeResult(accuracy, len(test.rows), unreadable, details, folder, saved)


# -- features ------------------------------------------------------------------------------------


def features_of(predictor: Predictor, item_list: ItemList, out: Path) -> Features:
    """Features of the videos of a list, from ``out/features`` if they were computed before.

    UserError if none of the videos can be read.
    """
    folder = make_dirs(out / _FEATURES, "--out")
    path = folder / f"{_key(predictor, item_list)}.safetensors"
    remove_leftovers([path])
    found = _read_features(path)
    if found is not None:
        logger.info("features of %d videos from %s", len(found.rows), path)
        return found
    items = item_list.items
    bar = ProgressBar(f"features of {item_list.source}", len(items), max(len(items) // 10, 1))
    values, rows = [], []
    for row, value in enumerate(predictor.embed_stream(item.path for item in items)):
        if isinstance(value, VideoError):
            logger.warning("%s", value)
        else:
            values.append(value)
            rows.append(row)
        bar.update(row + 1, "")
    bar.close()
    if not rows:
        raise UserError(f"none of {len(items)} videos can be read", "see above", item_list.source)
    content = {"values": torch.stack(values), "rows": torch.tensor(rows)}
    write_atomic(path, lambda temporary: write_safetensors(content, temporary))
    return Features(content["values"], rows)


def _read_features(path: Path) -> Features | None:
    if not path.is_file():
        return None
    try:
        content = read_checkpoint(path, "--out")["model_state"]
        return Features(content["values"], content["rows"].tolist())
    except (UserError, KeyError) as error:
        logger.warning("%s: the features are computed again", error)
        return None


def _key(predictor: Predictor, item_list: ItemList) -> str:
    """Changes with whatever changes features: weights, configuration, device, videos."""
    videos = [f"{item.path}\t{file_stamp(item.path)}" for item in item_list.items]
    cfg = {key: value for key, value in predictor.cfg.flat().items() if affects_features(key)}
    parts = [cfg, str(predictor.device), digest_of(predictor.model.state_dict()), videos]
    return short_hash(json.dumps(parts, sort_keys=True, default=str))


# -- the probe as a network, and its results -----------------------------------------------------


def probe_configuration(cfg: CfgNode, names: Sequence[str], out: Path) -> CfgNode:
    """``cfg`` for other classes. Views are merged before the softmax, so that a network with the
    probe's classifier gives the logits of the mean of the features."""
    values = {
        "MODEL.NUM_CLASSES": len(names),
        "MODEL.HEAD_ACT": "none",
        "DATA.ENSEMBLE_METHOD": "sum",
        "DATA.CLASS_NAMES": list(names),
        "OUTPUT_DIR": str(out),
        "TEST.SAVE_RESULTS_PATH": "",
        "TEST.CHECKPOINT_FILE_PATH": "",
    }
    return cfg.with_values(values, "probe")


def save_linear(
    predictor: Predictor,
    classifier: LinearClassifier,
    cfg: CfgNode,
    names: Sequence[str],
    path: Path,
) -> Path | None:
    """Write the network with the probe in place of its classifier; None if its classifier is not
    one linear layer over as many features."""
    model = predictor.model
    own = getattr(model, "spec", None)
    prefixes = own.classifier_of(model) if own and not own.open_vocabulary else ()
    network = build_network(cfg) if prefixes else None
    state = network.state_dict() if network else {}
    layer = {name for name in state if name.startswith(prefixes)} if prefixes else set()
    weight = [name for name in layer if state[name].shape == classifier.weight.shape]
    bias = [name for name in layer if state[name].shape == classifier.bias.shape]
    if len(layer) != 2 or len(weight) != 1 or len(bias) != 1:
        return None
    trained = model.state_dict()
    state = {name: trained[name] for name in state if name not in layer}
    state |= {weight[0]: classifier.weight, bias[0]: classifier.bias}
    write_weights(path, state, list(names), cfg.dump())
    return path


def is_same(path: Path, videos: Sequence[str], test: Features, logits: torch.Tensor) -> bool:
    """Whether the saved network says of a few test videos what the probe says."""
    network = slowfast.load(path, "cpu")
    chosen = range(min(_CHECKED, len(test.rows)))
    found = network.predict([videos[test.rows[number]] for number in chosen])
    scores = torch.stack([prediction.scores for prediction in found])
    return bool((scores - logits[: len(scores)].softmax(1)).abs().max() < _CLOSE)


def _save_results(
    cfg: CfgNode,
    weights: TestedWeights,
    item_list: ItemList,
    test: Features,
    logits: torch.Tensor,
    method: str,
    started: datetime,
    seconds: float,
) -> tuple[Path, list[bool]]:
    """The folder of the test, and which of its videos are right."""
    items: list[Item] = [item_list.items[row] for row in test.rows]
    labels = torch.tensor([item.label for item in items])
    data: Any = SimpleNamespace(class_names=lambda split: item_list.class_names)
    report = RecognitionReport(cfg, data)
    evaluator = report.evaluator("test")
    batch = Batch(None, labels, torch.tensor(test.rows), [item.path for item in items])
    evaluator.update(logits[:, None], batch)
    result: EvalResult = evaluator.compute()
    loader: Any = SimpleNamespace(dataset=_Videos(item_list))
    run = TestRun(f"{method} probe", loader, f"{method}-probe")
    unreadable = len(item_list.items) - len(items)
    finished = FinishedTest(run, evaluator, result, weights, unreadable, started, seconds)
    return save_test(cfg, report, finished), (logits.argmax(1) == labels).tolist()
