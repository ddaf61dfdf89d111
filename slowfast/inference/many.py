"""Answers for many videos: on several processes or machines, with a journal of what is done."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from slowfast.inference.answers import Request, Summary
from slowfast.inference.network import Network
from slowfast.inference.output import Lines
from slowfast.inference.prediction import Prediction
from slowfast.inference.predictor import Predictor
from slowfast.utils.addresses import is_address
from slowfast.utils.errors import UserError, VideoError
from slowfast.utils.files import write_text_atomic
from slowfast.utils.map import Result, Where, Work, file_stamp, map_items


class Answers(Work):
    """What a network says of videos: ``answers`` of each, one for a video or one for each window of
    it (:class:`Request`)."""

    parcel = 16
    has_network = True

    def __init__(self, network: Network, request: Request):
        self.network, self.request = network, replace(request, videos=())

    def prepare(self) -> None:
        _ = self.predictor

    @cached_property
    def predictor(self) -> Predictor:
        """Loaded once in each worker."""
        return self.network.load()

    def results(self, keys: Sequence[str]) -> Iterator[Result]:
        request, predictor = self.request, self.predictor
        if not request.has_spans:
            for answer in predictor.stream(keys, request.top, request.fps):
                yield {"answers": [_facts(answer)]}
            return
        for key in keys:
            try:
                stride = request.stride or request.window
                answers = predictor.windows(key, request.window, stride, request.top, request.fps)
                yield {"answers": [_facts(answer) for answer in answers]}
            except VideoError as error:
                yield {"answers": [{"error": error.cause}]}


def _facts(answer: Prediction) -> dict[str, Any]:
    if answer.error:
        return {"error": answer.error, "span": answer.span}
    facts = {"labels": answer.labels, "probabilities": answer.probabilities}
    return facts | {"kind": answer.kind, "span": answer.span}


def answer_many(
    out: str | Path, network: Network, request: Request, format_name: str, where: Where
) -> Summary:
    """Answers for the videos of a request, in their order, in the file ``out``; a share of them
    leaves its answers for the call that joins all.

    What is done stands in the folder ``<out>.journal``. UserError for what is no work over many
    videos: cameras and pictures.
    """
    if request.is_live or request.timeline or request.annotate:
        raise UserError("is for files, without pictures of them", "leave it out", "--journal")
    started = time.monotonic()
    options = network.options() | {"top": request.top, "window": request.window}
    results = map_items(
        Answers(network, request),
        request.videos,
        Path(f"{out}.journal", "journal.jsonl"),
        where=where,
        options=options | {"stride": request.stride, "fps": request.fps},
        title="answering",
        stamp=lambda video: "" if is_address(video) else file_stamp(video),
        # An address that could not be read may be read the next time.
        is_valid=lambda video, result: not is_address(video) or not _is_bad(result),
    )
    found = {video: _answers(video, result) for video, result in results.items()}
    videos = [video for video in request.videos if video in found]
    if where.share is None:
        write_text_atomic(out, "".join(_lines(videos, found, request, format_name)))
    windows = sum(len(found[video]) for video in videos)
    bad = [video for video, answers in found.items() if any(a.error for a in answers)]
    return Summary(len(videos), windows, bad, seconds=time.monotonic() - started)


def _is_bad(result: Result) -> bool:
    return any("error" in answer for answer in result.get("answers", [{"error": ""}]))


def _answers(video: str, result: Result) -> list[Prediction]:
    answers = result.get("answers", [{"error": "crashes the decoder"}])
    return [Prediction(video, **{**a, "span": _span(a.get("span"))}) for a in answers]


def _span(times: Sequence[float] | None) -> tuple[float, float] | None:
    return None if times is None else (times[0], times[1])


def _lines(
    videos: Sequence[str], found: Mapping[str, list[Prediction]], request: Request, format_name: str
) -> Iterator[str]:
    good = [answer for video in videos for answer in found[video] if not answer.error]
    kind = good[0].kind if good else "probability"
    count = len(good[0].labels) if good else request.top
    lines = Lines(format_name, count, kind, request.has_spans)
    yield lines.head()
    for video in videos:
        yield from map(lines.line, found[video])
