"""What a network says of a video, and a video on its way to the network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from slowfast.utils.errors import VideoError

FPS = 30.0  # of frames that come without a rate


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says of one video.

    ``path``: of the video, or what it is; ``labels``: names of the most probable classes, the best
    first; ``probabilities``: theirs; ``scores`` ``K``: of all classes, in the order of
    :attr:`Predictor.classes`. ``kind`` says what these numbers are: ``probability`` (they sum to
    one), ``independent`` (each class may be there or not) or ``logit`` (only their order counts).
    ``error``: why the video could not be read; the rest is empty then. ``span``: of a window, its
    start and end in seconds; None: the whole video. ``features`` ``D``: those before the
    classifier, the mean over the views, where they were asked for.
    """

    path: str
    labels: list[str] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    scores: torch.Tensor = field(default_factory=lambda: torch.empty(0), repr=False)
    kind: str = "probability"
    error: str = ""
    span: tuple[float, float] | None = None
    features: torch.Tensor | None = field(default=None, repr=False)


class Clips(NamedTuple):
    """A video that was read, uint8 ``V 3 T H W``, or why it could not be (``error``)."""

    name: str
    video: torch.Tensor | None
    error: VideoError | None = None
    span: tuple[float, float] | None = None
