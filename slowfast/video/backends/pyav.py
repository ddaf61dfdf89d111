"""PyAV: decodes only what the wanted frames need.

One pass over the packets (no decoding) gives the time stamp of every frame and the keyframes.
Then: seek to the keyframe before a wanted frame, drop frames that are neither wanted nor
referred to by others, convert only wanted frames to RGB. Files whose packets do not tell
(no time stamps, or stamps that decoding contradicts) are decoded from the start.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from slowfast.utils.errors import VideoError
from slowfast.video.source import EXACT_CODECS, Source

# Frames before the next keyframe that must be skippable for a seek to pay.
_WORTH_A_SEEK = 2


@dataclass(frozen=True)
class _PacketIndex:
    """Time stamps of all frames in display order; keyframes as (pts, dts), sorted."""

    pts: list[int]
    keyframes: list[tuple[int, int]]
    regular: bool
    count: int


class PyAVSource(Source):
    """A video file read through PyAV (the default backend)."""

    def __init__(self, path: str, threads: bool = False):
        self.path = path
        self._threads = threads
        self._reformatter = VideoReformatter()
        self._container = self._open()
        try:
            self._stream = self._find_stream()
            self._index = self._read_packets()
        except av.error.FFmpegError as error:
            raise VideoError(path, f"cannot be read: {error.strerror}") from error
        self.num_frames = len(self._index.pts) if self._index.regular else self._index.count
        if self.num_frames == 0:
            raise VideoError(path, "holds no video frames")
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.fps = float(rate) if rate else 30.0

    def _open(self) -> av.container.InputContainer:
        try:
            # Titles in odd encodings are of no consequence.
            return av.open(self.path, metadata_errors="ignore")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            cause = getattr(error, "strerror", None) or str(error)
            raise VideoError(self.path, f"is not a readable video: {cause}") from error

    def _find_stream(self) -> av.video.stream.VideoStream:
        if not self._container.streams.video:
            raise VideoError(self.path, "holds no video stream")
        stream = self._container.streams.video[0]
        stream.thread_type = "AUTO" if self._threads else "NONE"
        return stream

    def _read_packets(self) -> _PacketIndex:
        pts: list[int] = []
        keyframes: list[tuple[int, int]] = []
        count, regular = 0, self._stream.codec_context.name in EXACT_CODECS
        for packet in self._container.demux(self._stream):
            if packet.size == 0 or packet.is_discard:
                continue
            count += 1
            if packet.pts is None or packet.dts is None or packet.is_corrupt:
                regular = False
                continue
            pts.append(packet.pts)
            if packet.is_keyframe:
                keyframes.append((packet.pts, packet.dts))
        pts.sort()
        regular = regular and len(set(pts)) == len(pts) and bool(keyframes)
        # A stream that begins before its first keyframe has frames nobody can decode.
        regular = regular and min(keyframes)[0] == pts[0]
        return _PacketIndex(pts, sorted(keyframes), regular, count)

    def decode(self, wanted: list[int]) -> dict[int, np.ndarray]:
        try:
            decoded = self._seek_and_decode(wanted) if self._index.regular else None
            return self._decode_from_start(wanted) if decoded is None else decoded
        except av.error.FFmpegError as error:
            raise VideoError(
                self.path, f"decoding failed: {error.strerror} (damaged or cut off)"
            ) from error

    # -- fast path ---------------------------------------------------------------------------

    def _seek_and_decode(self, wanted: list[int]) -> dict[int, np.ndarray] | None:
        """Frames by index, or None when the file turns out not to be what its packets say."""
        by_pts = {self._index.pts[i]: i for i in wanted}
        decoded: dict[int, np.ndarray] = {}
        for dts, group in self._groups(wanted):
            self._container.seek(dts, stream=self._stream)
            missing = {self._index.pts[i] for i in group}
            for frame in self._wanted_frames(missing):
                decoded[by_pts[frame.pts]] = self._to_rgb(frame)
            if missing:
                return None
        return decoded

    def _groups(self, wanted: list[int]) -> list[tuple[int, list[int]]]:
        """Wanted indices as (dts of the keyframe to seek to, indices decoded from there)."""
        groups: list[tuple[int, list[int]]] = []
        starts = [pts for pts, _ in self._index.keyframes]
        for index in wanted:
            nearest = bisect.bisect_right(starts, self._index.pts[index]) - 1
            first_of_gop = bisect.bisect_left(self._index.pts, starts[nearest])
            if not groups or first_of_gop - groups[-1][1][-1] > _WORTH_A_SEEK:
                groups.append((self._index.keyframes[nearest][1], []))
            groups[-1][1].append(index)
        return groups

    def _wanted_frames(self, missing: set[int]) -> Iterator[av.VideoFrame]:
        """Decode on from here until every time stamp of ``missing`` was seen (and removed)."""
        context = self._stream.codec_context
        first = True
        for packet in self._container.demux(self._stream):
            if first and packet.pts is not None and packet.pts > min(missing):
                return  # the seek went too far
            first = False
            # Only frames that are wanted, or that others refer to, need decoding.
            context.skip_frame = "DEFAULT" if packet.pts in missing else "NONREF"
            for frame in packet.decode():
                if frame.pts in missing:
                    missing.discard(frame.pts)
                    yield frame
            if not missing:
                return

    # -- plain path --------------------------------------------------------------------------

    def _decode_from_start(self, wanted: list[int]) -> dict[int, np.ndarray]:
        """Decode from the first frame to the last wanted one, counting."""
        self._container.close()
        self._container = self._open()
        self._stream = self._find_stream()
        remaining = set(wanted)
        decoded: dict[int, np.ndarray] = {}
        count = 0
        for frame in self._container.decode(self._stream):
            if count in remaining:
                decoded[count] = self._to_rgb(frame)
                remaining.discard(count)
            count += 1
            if not remaining:
                return decoded
        raise VideoError(self.path, f"{self.num_frames} frames announced, {count} can be decoded")

    def _to_rgb(self, frame: av.VideoFrame) -> np.ndarray:
        image = self._reformatter.reformat(frame, format="rgb24").to_ndarray()
        return upright(image, frame.rotation)


def upright(image: np.ndarray, degrees: float) -> np.ndarray:
    """The image ``H W 3`` turned by ``degrees`` counter-clockwise, as its file asks for."""
    turns = round(degrees / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
