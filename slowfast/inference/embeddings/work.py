"""A list of videos becomes a folder of Parquet files, one for each part of the list."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from slowfast.inference.embeddings.facts import Facts
from slowfast.inference.embeddings.parquet import Row, require, write_file
from slowfast.inference.embeddings.space import ENDING
from slowfast.inference.network import Network
from slowfast.inference.prediction import Prediction
from slowfast.inference.predictor import Predictor
from slowfast.inference.trained import read_trained
from slowfast.utils.addresses import is_address
from slowfast.utils.errors import RunFailure, UserError
from slowfast.utils.files import make_dirs, remove_leftovers, write_text_atomic
from slowfast.utils.map import CRASHED, Result, Where, Work, file_stamp, map_items, write_failures
from slowfast.utils.text import name_problem, read_text

VIDEOS, JOURNAL, FAILED = "videos.txt", "journal.jsonl", "failed.tsv"


@dataclass(frozen=True)
class Plan:
    """What is embedded: of each ``window`` seconds of the ``videos``, one every ``stride`` seconds
    (window 0: of each whole video), ``per_file`` videos in a file of the folder ``out``."""

    videos: Sequence[str]
    out: Path
    window: float
    stride: float
    per_file: int

    @property
    def parts(self) -> list[str]:
        """Names of the files, without their ending."""
        return [f"part-{number:05d}" for number in range(-(-len(self.videos) // self.per_file))]

    def videos_of(self, part: str) -> Sequence[str]:
        """The videos of a file."""
        first = int(part.rpartition("-")[2]) * self.per_file
        return self.videos[first : first + self.per_file]

    def stamp(self, part: str) -> str:
        """Changes when a video of the part does."""
        digest = hashlib.sha256()
        for video in self.videos_of(part):
            digest.update(f"{video}\t{file_stamp(video)}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()[:16]


@dataclass
class Summary:
    """``videos`` of which ``windows`` were embedded into ``files``; ``failed``: path -> why it, or
    a part of it, could not be read."""

    videos: int = 0
    windows: int = 0
    files: int = 0
    failed: dict[str, str] = field(default_factory=dict)


def embed(network: Network, plan: Plan, where: Where) -> Summary:
    """Embed the videos of a plan, or of the share of it that ``where`` names.

    The folder holds the files, the list of all videos, a journal by which a stopped call goes on,
    and ``failed.tsv``. UserError if it holds embeddings of something else.
    """
    require("pyarrow.parquet")
    work = Embed(network, plan.out, plan.window, plan.stride, plan.per_file)
    _check_list(plan, where)
    facts = work.facts
    options = {
        "network": facts.network,
        "weights": facts.weights[:12],
        "window": facts.window,
        "stride": facts.stride,
        "videos per file": plan.per_file,
        "configuration and classes": facts.settings,
    }
    results = map_items(
        work,
        plan.parts,
        plan.out / JOURNAL,
        where=where,
        options=options,
        title="embedding",
        stamp=plan.stamp,
        is_valid=lambda part, result: (
            result != CRASHED and (plan.out / f"{part}{ENDING}").is_file()
        ),
        begin=lambda _: _prepare_folder(plan, where),
    )
    summary = Summary()
    for part, result in results.items():
        if result == CRASHED:
            videos = plan.videos_of(part)
            cause = f"one of the {len(videos)} videos from {videos[0]} on ends the process"
            summary.failed[f"{part}{ENDING}"] = cause
            continue
        summary.files += 1
        summary.videos += result["videos"]
        summary.windows += result["windows"]
        summary.failed |= result["failed"]
    causes = {path: {"cause": cause} for path, cause in summary.failed.items()}
    write_failures(causes, "windows", where.folder(plan.out) / FAILED)
    return summary


def _check_list(plan: Plan, where: Where) -> None:
    """UserError if the folder holds what another list has become, or a video has no name."""
    path = make_dirs(plan.out, "--out") / VIDEOS
    for video in plan.videos:
        problem = name_problem(video)
        if problem:
            raise UserError(f"the path {video!r} {problem}", "rename the video", "VIDEO")
    if not path.is_file():
        old = list(plan.out.glob(f"part-*{ENDING}"))
        if old:
            raise UserError(
                f"{plan.out} holds {old[0].name}, which did not come from here",
                "another folder",
                "--out",
            )
    elif not where.anew and read_text(path) != _list_of(plan):
        raise UserError(
            f"{plan.out} holds embeddings of other videos ({path})",
            "name another folder (search reads several at once), or --anew to replace them",
            "--out",
        )


def _list_of(plan: Plan) -> str:
    return "".join(f"{video}\n" for video in plan.videos)


def _prepare_folder(plan: Plan, where: Where) -> None:
    """Write the list by which workers anywhere know what a part is, and remove files that are not
    of this plan. The journal is locked: what another call works on stays."""
    path = plan.out / VIDEOS
    is_other = not path.is_file() or read_text(path) != _list_of(plan)
    own = {f"{part}{ENDING}" for part in where.part(plan.parts)}
    remove_leftovers(plan.out / name for name in own)
    # Files of the other shares stay, unless they are of other videos.
    others = set() if is_other else {f"{part}{ENDING}" for part in plan.parts} - own
    for file in plan.out.glob(f"part-*{ENDING}") if where.anew else ():
        if file.name not in others:
            file.unlink()
    if is_other:
        write_text_atomic(path, _list_of(plan))


class Embed(Work):
    """Writes the file of a part of the list that stands in the folder ``out``."""

    has_network = True

    def __init__(self, network: Network, out: Path, window: float, stride: float, per_file: int):
        self._network, self._out = network, out
        self._window, self._stride, self._per_file = window, stride, per_file

    def __getstate__(self) -> dict[str, Any]:
        made = ("predictor", "facts", "plan")
        return {name: value for name, value in self.__dict__.items() if name not in made}

    def prepare(self) -> None:
        _ = self.predictor

    @functools.cached_property
    def predictor(self) -> Predictor:
        """The network of this worker."""
        return self._network.load()

    @functools.cached_property
    def facts(self) -> Facts:
        """What the files say of it."""
        path = str(read_trained(self._network.checkpoint).path)
        path = path if is_address(path) else os.path.abspath(path)
        return Facts.of(self.predictor, path, self._window, self._stride)

    @functools.cached_property
    def plan(self) -> Plan:
        """What is embedded, by the list in the folder."""
        videos = read_text(self._out / VIDEOS).splitlines()
        return Plan(videos, self._out, self._window, self._stride, self._per_file)

    def results(self, keys: Sequence[str]) -> Iterator[Result]:
        """``videos``, ``windows`` and ``failed`` (path -> cause) of each part."""
        for part in keys:
            failed: dict[str, str] = {}
            videos = self.plan.videos_of(part)
            rows = _rows(self._answers(videos), failed)
            windows = write_file(self._out / f"{part}{ENDING}", self.facts, rows)
            yield {"videos": len(videos), "windows": windows, "failed": failed}

    def _answers(self, videos: Sequence[str]) -> Iterator[Prediction]:
        if not self._window:
            return self.predictor.stream(videos, 1, features=True)
        stride = self._stride or self._window
        return self.predictor.stream_windows(videos, self._window, stride, 1, features=True)


def _rows(answers: Iterator[Prediction], failed: dict[str, str]) -> Iterator[Row]:
    """Rows of what could be read; the first cause of what could not goes to ``failed``."""
    for answer in answers:
        start, end = answer.span or (None, None)
        if answer.error:
            part = "" if start is None else f"from {start:.2f} to {end:.2f} s: "
            failed.setdefault(answer.path, " ".join(f"{part}{answer.error}".split()))
            continue
        length = float(answer.features.norm())
        if not torch.isfinite(answer.features).all():
            raise RunFailure(
                f"the features of {answer.path} are not finite",
                "is the network whole? Compute in float32: --opts TRAIN.MIXED_PRECISION False",
            )
        vector = answer.features / (length or 1.0)
        yield Row(answer.path, start, end, vector.numpy(), length, answer.scores.numpy())
