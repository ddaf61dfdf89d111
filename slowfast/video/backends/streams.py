"""Opening a container, and the choice of the video stream that is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import IO

import av
from av.stream import Disposition

from slowfast.utils.errors import VideoError

# What the ffmpeg program adds to the number of pixels of a default stream when it compares.
_DEFAULT_BONUS = 5_000_000


# A container may name other files (playlists). One that comes from elsewhere must not lead FFmpeg
# to files of this machine or to other servers.
_NO_OTHER_FILES = {"protocol_whitelist": "none"}


def open_container(path: str, file: IO[bytes] | None = None) -> av.container.InputContainer:
    """Open a file, or what ``file`` reads; VideoError if it is no container that FFmpeg knows."""
    try:
        # Titles in unusual encodings do not matter.
        if file is None:
            return av.open(path, metadata_errors="ignore")
        return av.open(file, metadata_errors="ignore", options=_NO_OTHER_FILES)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise VideoError(path, f"is not a readable video: {cause}") from error


def choose_stream(container: av.container.InputContainer, path: str) -> av.VideoStream:
    """The video stream that the ``ffmpeg`` program would read.

    Its rule: the stream marked as default, else the one with the largest frames, else the first.
    (A stream that is not default wins only if its frames have five million pixels more.) Cover
    pictures and streams without a decoder are no candidates. VideoError if there is none.
    """
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        cover = ", only a cover picture" if container.streams.video else ""
        raise VideoError(path, f"holds no video stream{cover}")
    known = [s for s in streams if s.codec_context is not None]
    if not known:
        raise VideoError(path, "holds no video stream of a known codec")
    return max(known, key=_weight)


def packets(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.Packet]:
    """The packets of a stream from here on; the last one, which is empty, flushes the decoder."""
    for packet in container.demux(stream):
        # Empty packets with a time stamp say "the same picture again" (Theora): no frame.
        if packet.size or packet.dts is None:
            yield packet


def payload_ranges(streams: Sequence[av.stream.Stream]) -> list[tuple[int, int]]:
    """Where the packets of these streams lie in their file, in order of place and merged: (first
    byte, byte after the last). Empty where the head of the container does not say it."""
    merged: list[tuple[int, int]] = []
    places = (
        (entry.pos, entry.pos + entry.size)
        for stream in streams
        for entry in getattr(stream, "index_entries", ())  # PyAV before 16 does not give them
    )
    for first, end in sorted(places):
        if merged and first <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((first, end))
    return merged


def _weight(stream: av.VideoStream) -> int:
    context = stream.codec_context
    is_default = bool(stream.disposition & Disposition.default)
    return context.width * context.height + _DEFAULT_BONUS * is_default
