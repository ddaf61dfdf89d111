"""What a file of embeddings says of the network that made them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from slowfast.inference.predictor import Predictor
from slowfast.inference.trained import affects_features
from slowfast.models.weights.safetensors import digest_of
from slowfast.utils.files import short_hash

FORMAT = 1
UNIT_LENGTH = "unit length"
# IMPORTS: a file of data has no say in which code runs.
_OF_THE_CALL = ("IMPORTS", "OUTPUT_DIR", "DATA.CLASS_NAMES", "TEST.CHECKPOINT_FILE_PATH")
_MOST_NUMBERS = 1 << 31  # of a list of fixed size in Arrow
_PRECISION = ("TRAIN.", "GPU.")  # by which vectors differ by rounding


@dataclass(frozen=True)
class Facts:
    """The same in all files of one space.

    ``network``: MODEL.MODEL_NAME; ``weights``: SHA-256 of its tensors; ``checkpoint``: their file
    when they were used; ``configuration``: its values by key; ``dimension`` D of
    the vectors; ``classes``, to which the scores belong, and the ``kind`` of the scores
    (:class:`slowfast.inference.prediction.Prediction`); ``window`` and ``stride`` in seconds (0:
    whole videos); ``normalisation`` of the vectors.
    """

    network: str
    weights: str
    checkpoint: str
    configuration: dict[str, Any]
    dimension: int
    classes: list[str]
    kind: str
    window: float = 0.0
    stride: float = 0.0
    normalisation: str = UNIT_LENGTH
    format: int = FORMAT

    @classmethod
    def of(
        cls, predictor: Predictor, checkpoint: str, window: float = 0.0, stride: float = 0.0
    ) -> Facts:
        """Those of a network; it embeds a black clip to learn the dimension."""
        (vector,) = predictor.embed(np.zeros((8, 64, 64, 3), np.uint8))
        values = {k: v for k, v in predictor.cfg.flat().items() if k not in _OF_THE_CALL}
        return cls(
            values["MODEL.MODEL_NAME"],
            digest_of(predictor.model.state_dict()),
            checkpoint,
            json.loads(json.dumps(values, default=str)),
            len(vector),
            predictor.classes,
            predictor.kind,
            float(window),
            float(stride),
        )

    @property
    def knows_classes(self) -> bool:
        """Whether the network has classes of its own; one that compares with support clips has
        none."""
        return self.configuration.get("TASK") != "fewshot"

    @classmethod
    def read(cls, text: str | bytes) -> Facts:
        """What :meth:`text` wrote. ValueError if it is something else."""
        found = json.loads(text)
        if not isinstance(found, Mapping) or set(found) != {field.name for field in fields(cls)}:
            raise ValueError("says nothing of a network")
        if found["format"] != FORMAT:
            raise ValueError(f"has the format {found['format']}, this version reads {FORMAT}")
        _check(found)
        return cls(**found)

    def text(self) -> str:
        """As JSON, the same for the same facts."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def settings(self) -> str:
        """Changes with the configuration and the classes, as far as rows depend on them."""
        kept = {k: v for k, v in self.configuration.items() if affects_features(k)}
        return short_hash(json.dumps([kept, self.classes], sort_keys=True))

    def difference(self, other: Facts) -> str:
        """In what another network differs, so that vectors of both cannot be compared; empty if
        they can."""
        for name in ("network", "dimension", "normalisation"):
            one, two = getattr(self, name), getattr(other, name)
            if one != two:
                return f"{name} {one} and {two}"
        if self.weights != other.weights:
            return f"weights {self.weights[:12]} and {other.weights[:12]}"
        keys = sorted(self.configuration.keys() | other.configuration.keys())
        for key in keys:
            one, two = (facts.configuration.get(key) for facts in (self, other))
            if one != two and affects_features(key) and not key.startswith(_PRECISION):
                return f"{key} {one!r} and {two!r}"
        return ""


def _check(found: Mapping[str, Any]) -> None:
    """ValueError unless the values of a file, which may be a stranger's, are of their kinds."""
    kinds = {
        **dict.fromkeys(("network", "weights", "checkpoint", "kind", "normalisation"), str),
        **{"configuration": dict, "classes": list, "dimension": int},
    }
    for name, kind in kinds.items():
        if type(found[name]) is not kind:
            raise ValueError(f"{name}: {found[name]!r:.80}")
    for name in ("window", "stride"):
        if type(found[name]) not in (int, float) or not 0 <= found[name] < math.inf:
            raise ValueError(f"{name}: {found[name]!r:.80}")
    if not 0 < found["dimension"] < _MOST_NUMBERS:
        raise ValueError(f"its vectors have {found['dimension']} numbers")
    if not all(isinstance(name, str) for name in found["classes"]):
        raise ValueError("the name of a class is no text")
    refused = [key for key in _OF_THE_CALL if key in found["configuration"]]
    if refused:
        raise ValueError(f"its configuration has {refused[0]}, which a file may not set")
