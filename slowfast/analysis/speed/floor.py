"""The decoding floor: the lowest cost of decoding some frames of a video.

Time stamps and keyframes are read outside the measured time. Measured are: open the file, seek to
the keyframe before, skip frames that are neither requested nor referenced, and convert only the
requested frames to RGB.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import av
import numpy as np
from av.video.reformatter import VideoReformatter


class DecodeFloor:
    """Decodes frames by index, from one file with exact time stamps, as cheaply as possible."""

    def __init__(self, path: str):
        self.path = path
        with av.open(path) as container:
            stream = container.streams.video[0]
            packets = [p for p in container.demux(stream) if p.size]
            self.pts = sorted(p.pts for p in packets)
            keys = sorted((p.pts, p.dts) for p in packets if p.is_keyframe)
            self.fps = float(stream.average_rate)
        self.key_index = [bisect.bisect_left(self.pts, pts) for pts, _ in keys]
        self.key_dts = [dts for _, dts in keys]

    def __call__(self, indices: Sequence[int]) -> list[np.ndarray]:
        """RGB frames ``H W 3`` at the indices, in ascending order."""
        frames: list[np.ndarray] = []
        reformatter = VideoReformatter()
        with av.open(self.path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "NONE"
            for key, group in self._by_keyframe(sorted(set(indices))):
                container.seek(self.key_dts[key], stream=stream)
                missing = {self.pts[i] for i in group}
                for packet in container.demux(stream):
                    requested = packet.pts in missing
                    stream.codec_context.skip_frame = "DEFAULT" if requested else "NONREF"
                    for frame in packet.decode():
                        if frame.pts in missing:
                            missing.discard(frame.pts)
                            frames.append(reformatter.reformat(frame, format="rgb24").to_ndarray())
                    if not missing:
                        break
        return frames

    def _by_keyframe(self, indices: list[int]) -> list[tuple[int, list[int]]]:
        groups: list[tuple[int, list[int]]] = []
        for index in indices:
            key = bisect.bisect_right(self.key_index, index) - 1
            if not groups or self.key_index[key] > groups[-1][1][-1] + 1:
                groups.append((key, []))
            groups[-1][1].append(index)
        return groups
