"""PyAV: decodes only what the requested frames need.

One pass over the packets (no decoding) gives the time stamp of every frame and the keyframes.
Then: seek to the keyframe before a requested frame, drop frames that are neither requested nor
referenced by others, and convert only requested frames to RGB. Files whose packets are not
sufficient (no time stamps, or stamps that decoding contradicts) are decoded from the start.
"""

from __future__ import annotations

import bisect
import contextlib
import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import av
import numpy as np
from av.format import Flags

from slowfast.utils.errors import VideoError
from slowfast.utils.remote_file import RemoteFile
from slowfast.video.backends.rgb import RgbConverter
from slowfast.video.backends.streams import choose_stream, open_container, packets, payload_ranges
from slowfast.video.source import EXACT_CODECS, MAX_PIXELS, Source, as_it_is, check_pixels

# A seek is worthwhile if it skips more frames than this.
_MIN_SKIPPED_FRAMES = 2
# Containers that store no presentation times: with B-frames, those of packets are guesses.
_NO_PRESENTATION_TIMES = {"avi"}
# Containers whose head says where each packet is, and all about it but its content.
_WITH_TABLES = "mov,mp4,m4a,3gp,3g2,mj2"
# Frames that take more memory than this for one of DATA.MAX_PIXELS are refused by the decoder.
_PADDED, _PADDING = 2, 1 << 20

T = TypeVar("T")
Work = Callable[[np.ndarray], T]


@dataclass(frozen=True)
class _PacketIndex:
    """Time stamps of all frames in display order; keyframes as (pts, dts), sorted.

    ``regular``: frames can be found by these stamps; ``countable``: a packet is a frame.
    """

    pts: list[int]
    keyframes: list[tuple[int, int]]
    regular: bool
    countable: bool
    count: int


class PyAVSource(Source):
    """A video file read through PyAV (the default backend).

    ``file``: what reads it, if it is not a file of this machine; ``path`` then only names it.
    """

    def __init__(
        self,
        path: str,
        threads: bool = False,
        max_pixels: int = MAX_PIXELS,
        file: RemoteFile | None = None,
    ):
        self.path, self._file = path, file
        self._threads, self._max_pixels = threads, max_pixels
        with self._fetching():
            self._examine()

    def _examine(self) -> None:
        path = self.path
        self._open()
        context = self._stream.codec_context
        self._check_size(context)
        self._to_rgb = RgbConverter(context.width, context.height)
        try:
            self._index = self._read_index()
            self.num_frames = self._count_frames()
        except av.error.FFmpegError as error:
            raise VideoError(path, f"cannot be read: {error.strerror} (damaged)") from error
        if self.num_frames == 0:
            raise VideoError(path, "holds no video frames")
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.fps = float(rate) if rate else 30.0

    @property
    def pixels(self) -> int:
        """Number of pixels of a frame."""
        width, height = self._to_rgb.size
        return width * height

    def _open(self) -> None:
        if self._file is not None:
            self._file.seek(0)
        self._container = open_container(self.path, self._file)
        self._stream = choose_stream(self._container, self.path)
        self._stream.thread_type = "AUTO" if self._threads else "NONE"
        # A frame may be larger than the container says. The decoder counts what it pads, too.
        most = _PADDED * self._max_pixels + _PADDING
        self._stream.codec_context.options = {"max_pixels": str(most)}

    @contextlib.contextmanager
    def _fetching(self) -> Iterator[None]:
        """VideoError with the cause if a part of a remote file could not be fetched, which a
        decoder may take for its end."""
        try:
            yield
        finally:
            failure = self._file.failure if self._file is not None else None
            if failure is not None:
                raise VideoError(self.path, failure.strerror or str(failure)) from failure

    def _check_size(self, frame: av.VideoFrame | av.VideoCodecContext) -> None:
        check_pixels(self.path, frame.width, frame.height, self._max_pixels)

    def _packets(self) -> Iterator[av.Packet]:
        return packets(self._container, self._stream)

    def _read_index(self) -> _PacketIndex:
        """The index from all packets, after which a remote file is open at its start."""
        if self._file is None or self._file.is_fetched_at_once:
            return self._read_packets()
        index = self._read_blank_packets(self._file)
        if index is None or not index.regular:
            self._open_again()
            index = self._read_packets()
        self._open_again()
        return index

    def _read_blank_packets(self, file: RemoteFile) -> _PacketIndex | None:
        """The index of a remote file without its packets, which are read as zeros; None where the
        head of the container does not say where they are.

        It has the same time stamps. Keyframes are those to which FFmpeg can seek: what a parser of
        the packets would find besides (recovery points) is not among them.
        """
        tables = self._container.format.name == _WITH_TABLES
        ranges = payload_ranges(self._container.streams) if tables else []
        if not ranges:
            return None
        file.skip_ranges(ranges)
        try:
            return self._read_packets()
        finally:
            file.skip_ranges([])

    def _open_again(self) -> None:
        self._container.close()
        self._open()

    def _read_packets(self) -> _PacketIndex:
        pts: list[int] = []
        keyframes: list[tuple[int, int]] = []
        count, complete, starts_with_key = 0, True, True
        for packet in self._packets():
            if packet.size == 0 or packet.is_discard:
                continue
            if count == 0:
                starts_with_key = packet.is_keyframe
            count += 1
            if packet.pts is None or packet.dts is None or packet.is_corrupt:
                complete = False
                continue
            pts.append(packet.pts)
            if packet.is_keyframe:
                keyframes.append((packet.pts, packet.dts))
        pts.sort()
        context = self._stream.codec_context
        form = self._container.format
        guessed = form.flags & Flags.no_timestamps.value or (
            context.has_b_frames and form.name in _NO_PRESENTATION_TIMES
        )
        exact = context.name in EXACT_CODECS
        distinct = len(set(pts)) == len(pts) and not guessed
        regular = exact and complete and distinct and bool(keyframes)
        # Frames before the first keyframe of a stream cannot be decoded.
        regular = regular and min(keyframes)[0] == pts[0]
        # Where time stamps are repeated or guessed, streams may be joined and frames be missing.
        countable = starts_with_key and (distinct or not exact)
        return _PacketIndex(pts, sorted(keyframes), regular, countable, count)

    def _count_frames(self) -> int:
        if self._index.countable:
            return len(self._index.pts) if self._index.regular else self._index.count
        return sum(1 for _ in self._frames_from_start())

    def decode(self, indices: list[int], work: Work[T] = as_it_is) -> dict[int, T]:
        with self._fetching():
            return self._decode(indices, work)

    def _decode(self, indices: list[int], work: Work[T]) -> dict[int, T]:
        try:
            decoded = self._seek_and_decode(indices, work) if self._index.regular else None
            return self._decode_from_start(indices, work) if decoded is None else decoded
        except av.error.FFmpegError as error:
            large = ", or larger than DATA.MAX_PIXELS" if error.errno == errno.EINVAL else ""
            raise VideoError(
                self.path, f"decoding failed: {error.strerror} (damaged or cut off{large})"
            ) from error

    def _convert(self, frame: av.VideoFrame) -> np.ndarray:
        self._check_size(frame)
        return self._to_rgb(frame)

    def in_order(self) -> Iterator[np.ndarray]:
        try:
            with self._fetching():
                for frame in self._frames_from_start():
                    yield self._convert(frame)
        except av.error.FFmpegError as error:
            raise VideoError(self.path, f"decoding failed: {error.strerror}") from error

    # -- with seeking ------------------------------------------------------------------------

    def _seek_and_decode(self, indices: list[int], work: Work[T]) -> dict[int, T] | None:
        """Results by index, or None if decoding contradicts the time stamps of the packets."""
        by_pts = {self._index.pts[i]: i for i in indices}
        decoded: dict[int, T] = {}
        for dts, group in self._groups(indices):
            self._container.seek(dts, stream=self._stream)
            missing = {self._index.pts[i] for i in group}
            for frame in self._frames_at(missing):
                decoded[by_pts[frame.pts]] = work(self._convert(frame))
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
        for packet in self._packets():
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

    def _frames_from_start(self) -> Iterator[av.VideoFrame]:
        self._open_again()
        for packet in self._packets():
            yield from packet.decode()

    def _decode_from_start(self, indices: list[int], work: Work[T]) -> dict[int, T]:
        """Decode from the first frame to the last requested one, counting frames."""
        remaining = set(indices)
        decoded: dict[int, T] = {}
        count = 0
        for frame in self._frames_from_start():
            if count in remaining:
                decoded[count] = work(self._convert(frame))
                remaining.discard(count)
            count += 1
            if not remaining:
                return decoded
        raise VideoError(self.path, f"{self.num_frames} frames announced, {count} can be decoded")
