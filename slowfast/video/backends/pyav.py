"""PyAV: decodes only what the requested frames need.

One pass over the packets (no decoding) gives the time stamp of every frame and the keyframes.
Then: seek to the keyframe before a requested frame, drop frames that are neither requested nor
referenced by others, and convert only requested frames to RGB. Files whose packets are not
sufficient (no time stamps, or stamps that decoding contradicts) are decoded from the start.
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

# A seek is worthwhile if it skips more frames than this.
_MIN_SKIPPED_FRAMES = 2


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
            # Titles in unusual encodings do not matter.
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
        # Frames before the first keyframe of a stream cannot be decoded.
        regular = regular and min(keyframes)[0] == pts[0]
        return _PacketIndex(pts, sorted(keyframes), regular, count)

    def decode(self, indices: list[int]) -> dict[int, np.ndarray]:
        try:
            decoded = self._seek_and_decode(indices) if self._index.regular else None
            return self._decode_from_start(indices) if decoded is None else decoded
        except av.error.FFmpegError as error:
            raise VideoError(
                self.path, f"decoding failed: {error.strerror} (damaged or cut off)"
            ) from error

    # -- with seeking ------------------------------------------------------------------------

    def _seek_and_decode(self, indices: list[int]) -> dict[int, np.ndarray] | None:
        """Frames by index, or None if decoding contradicts the time stamps of the packets."""
        by_pts = {self._index.pts[i]: i for i in indices}
        decoded: dict[int, np.ndarray] = {}
        for dts, group in self._groups(indices):
            self._container.seek(dts, stream=self._stream)
            missing = {self._index.pts[i] for i in group}
            for frame in self._frames_at(missing):
                decoded[by_pts[frame.pts]] = self._to_rgb(frame)
            if missing:
                return None
        return decoded

    def _groups(self, indices: list[int]) -> list[tuple[int, list[int]]]:
        """Sorted indices as (dts of the keyframe to seek to, indices decoded from there)."""
        groups: list[tuple[int, list[int]]] = []
        starts = [pts for pts, _ in self._index.keyframes]
        for index in indices:
            nearest = bisect.bisect_right(starts, self._index.pts[index]) - 1
            first_of_gop = bisect.bisect_left(self._index.pts, starts[nearest])
            if not groups or first_of_gop - groups[-1][1][-1] > _MIN_SKIPPED_FRAMES:
                groups.append((self._index.keyframes[nearest][1], []))
            groups[-1][1].append(index)
        return groups

    def _frames_at(self, missing: set[int]) -> Iterator[av.VideoFrame]:
        """Decode from the current position until every time stamp in ``missing`` has been
        yielded; each is removed from the set."""
        context = self._stream.codec_context
        first = True
        for packet in self._container.demux(self._stream):
            if first and packet.pts is not None and packet.pts > min(missing):
                return  # the seek went too far
            first = False
            # Frames that are not requested and not referenced by others are not decoded.
            context.skip_frame = "DEFAULT" if packet.pts in missing else "NONREF"
            for frame in packet.decode():
                if frame.pts in missing:
                    missing.discard(frame.pts)
                    yield frame
            if not missing:
                return

    # -- without seeking ---------------------------------------------------------------------

    def _decode_from_start(self, indices: list[int]) -> dict[int, np.ndarray]:
        """Decode from the first frame to the last requested one, counting frames."""
        self._container.close()
        self._container = self._open()
        self._stream = self._find_stream()
        remaining = set(indices)
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
    """The image ``H W 3`` rotated counter-clockwise by ``degrees``, a multiple of 90."""
    turns = round(degrees / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
