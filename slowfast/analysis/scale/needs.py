"""What a training on many GPUs, over many videos, needs of processors, storage and checkpoints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from slowfast.analysis.markdown import table
from slowfast.utils.errors import UserError
from slowfast.utils.registry import did_you_mean
from slowfast.utils.text import read_text
from slowfast.utils.yaml_text import load_yaml

GPUS = (8, 64, 512)
VIDEOS = (1_000_000, 10_000_000, 100_000_000)


@dataclass(frozen=True)
class Constants:
    """What one part does. ``constants.yaml`` has values; docs/scale.md says where each
    comes from."""

    gpu_clips_per_second: float
    """Training clips that one GPU takes per second."""
    read_seconds: float
    """Seconds of one core to read, decode and crop a training clip."""
    megabytes_per_clip: float
    """Bytes fetched for a training clip, in MB."""
    requests_per_clip: float
    megabytes_per_video: float
    list_bytes_per_video: float
    """Memory of a list, per video and process that holds it."""
    checkpoint_megabytes: float
    """Weights and the state of the optimizer."""
    checkpoint_megabytes_per_second: float
    """One process writing to its storage."""
    copy_megabytes_per_second: float
    """One process copying its state aside; training stands still for an asynchronous checkpoint
    no longer than that."""
    restart_seconds: float
    """From the loss of a node to the next step: noticing, starting, loading."""
    gpus_per_node: int
    node_hours_between_failures: float
    """Mean over nodes."""

    @classmethod
    def read(cls, path: str | Path, words: Sequence[str] = ()) -> Constants:
        """Of a YAML file of names and numbers, with ``NAME VALUE`` words; UserError names what is
        unknown, missing or no positive number."""
        try:
            values = load_yaml(read_text(path))
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read: {error}", "name a YAML file") from None
        if not isinstance(values, dict):
            raise UserError(f"{path} has no names and numbers", "see docs/scale.md")
        values |= dict(zip(words[::2], words[1::2]))
        known = {field.name: field.type for field in fields(cls)}
        for name in values:
            if name not in known:
                remedy = did_you_mean(str(name), list(known)) or f"known: {', '.join(known)}"
                raise UserError(f"there is no constant {name}", remedy, str(path))
        numbers = {}
        for name in known:
            if name not in values:
                raise UserError(f"{path} lacks {name}", "see docs/scale.md", name)
            numbers[name] = _positive(name, values[name])
        if numbers["gpus_per_node"] % 1:
            raise UserError(f"{values['gpus_per_node']} is no whole number", "", "gpus_per_node")
        numbers["gpus_per_node"] = int(numbers["gpus_per_node"])
        return cls(**numbers)


def _positive(name: str, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < math.inf:
        raise UserError(f"{value!r} is no positive number", "give a number", name)
    return number


@dataclass(frozen=True)
class Needs:
    """What ``gpus`` need, whatever the number of videos."""

    constants: Constants
    gpus: int

    @property
    def nodes(self) -> int:
        return math.ceil(self.gpus / self.constants.gpus_per_node)

    @property
    def clips_per_second(self) -> float:
        return self.gpus * self.constants.gpu_clips_per_second

    @property
    def cores(self) -> float:
        """That read and decode all the time."""
        return self.clips_per_second * self.constants.read_seconds

    @property
    def megabytes_per_second(self) -> float:
        return self.clips_per_second * self.constants.megabytes_per_clip

    @property
    def requests_per_second(self) -> float:
        return self.clips_per_second * self.constants.requests_per_clip

    @property
    def hours_between_failures(self) -> float:
        """Of any node."""
        return self.constants.node_hours_between_failures / self.nodes

    def stall_seconds(self, kind: str) -> float:
        """That training stands still for a checkpoint: ``file`` (one process writes everything),
        ``sharded`` (every process writes its part) or ``asynchronous`` (it copies its part)."""
        constants = self.constants
        if kind == "file":
            return constants.checkpoint_megabytes / constants.checkpoint_megabytes_per_second
        share = constants.checkpoint_megabytes / self.gpus
        if kind == "sharded":
            return share / constants.checkpoint_megabytes_per_second
        return share / constants.copy_megabytes_per_second

    def checkpoint_seconds(self, kind: str) -> float:
        """The interval between checkpoints that loses least: Young's ``sqrt(2 stall between)``
        ("A first order approximation to the optimum checkpoint interval", 1974)."""
        return math.sqrt(2 * self.stall_seconds(kind) * 3600 * self.hours_between_failures)

    def lost_share(self, kind: str, interval: float | None = None) -> float:
        """Share of the time that is no training: stalls, and for each failure half an interval
        and a restart."""
        interval = interval or self.checkpoint_seconds(kind)
        between = 3600 * self.hours_between_failures
        failure = (interval / 2 + self.constants.restart_seconds) / between
        return self.stall_seconds(kind) / interval + failure


def gpus_table(constants: Constants, gpus: Sequence[int]) -> str:
    """Processors, storage and failures by number of GPUs, as Markdown."""
    header = ["GPUs", "clips per s", "cores that decode", "cores per GPU", "GB per s from storage"]
    header += ["requests per s", "hours between failures"]
    lines = []
    for number in gpus:
        needs = Needs(constants, number)
        lines.append(
            [
                f"{number}",
                f"{needs.clips_per_second:,.0f}",
                f"{needs.cores:,.0f}",
                f"{needs.cores / number:.1f}",
                f"{needs.megabytes_per_second / 1000:.2f}",
                f"{needs.requests_per_second:,.0f}",
                f"{needs.hours_between_failures:,.0f}",
            ]
        )
    return table(header, lines)


def videos_table(constants: Constants, videos: Sequence[int], gpus: Sequence[int]) -> str:
    """Storage, lists and hours of an epoch by number of videos, as Markdown."""
    header = ["videos", "TB stored", "GB of list per process"]
    header += [f"hours per epoch, {number} GPUs" for number in gpus]
    lines = []
    for number in videos:
        hours = [number / Needs(constants, count).clips_per_second / 3600 for count in gpus]
        lines.append(
            [
                f"{number:,}",
                f"{number * constants.megabytes_per_video / 1e6:,.1f}",
                f"{number * constants.list_bytes_per_video / 1e9:.2f}",
                *(f"{hour:,.2f}" for hour in hours),
            ]
        )
    return table(header, lines)


def checkpoints_table(constants: Constants, gpus: Sequence[int]) -> str:
    """Stalls, best intervals and lost shares by kind of checkpoint, as Markdown."""
    header = ["GPUs", "checkpoint", "stall s", "best interval, minutes", "GB per hour", "lost, %"]
    lines = []
    for number in gpus:
        needs = Needs(constants, number)
        for kind in ("file", "sharded", "asynchronous"):
            interval = needs.checkpoint_seconds(kind)
            lines.append(
                [
                    f"{number}",
                    kind,
                    f"{needs.stall_seconds(kind):.3f}",
                    f"{interval / 60:.1f}",
                    f"{constants.checkpoint_megabytes / 1000 * 3600 / interval:,.1f}",
                    f"{100 * needs.lost_share(kind):.2f}",
                ]
            )
    return table(header, lines)
