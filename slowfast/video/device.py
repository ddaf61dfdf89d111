"""Normalisation on the device: uint8 batch -> float32 input of the network."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from slowfast.config.node import CfgNode
from slowfast.video.erasing import erase


@dataclass(frozen=True)
class InputFormat:
    """Input format of published weights: mean and standard deviation of red, green and blue on the
    scale 0..1, and whether the channels are in the order BGR."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bgr: bool = False


@dataclass(frozen=True)
class Normalizer:
    """``(x / 255 - mean) / std`` per channel, then the channel order, then random erasing."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False
    erase_mode: str = "pixel"
    _on_device: dict[torch.device, tuple[torch.Tensor, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __call__(
        self, video: torch.Tensor, device: torch.device, boxes: torch.Tensor | None = None
    ) -> torch.Tensor:
        """uint8 RGB ``B 3 T H W`` -> float32 ``B 3 T H W`` on ``device``.

        ``boxes``: regions to erase, ``B count 5`` as :meth:`RandomErasing.draw` returns them.
        """
        video = video.to(device, non_blocking=True).float()
        mean, std = self._constants(device)
        video = video.sub_(mean).div_(std)
        if self.bgr:
            # Reversed after normalisation, as in the published code: the mean of channel i is
            # that of the i-th channel of the RGB frame.
            video = video.flip(1)
        if boxes is not None:
            erase(video, boxes, self.erase_mode)
        return video

    def _constants(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation on the scale of uint8, ``1 3 1 1 1``, copied to a device once."""
        if device not in self._on_device:
            with torch.inference_mode(False):  # usable in training, whoever asks first
                self._on_device[device] = tuple(
                    (torch.tensor(values) * 255).view(1, 3, 1, 1, 1).to(device)
                    for values in (self.mean, self.std)
                )
        return self._on_device[device]

    def picture(self, video: torch.Tensor) -> torch.Tensor:
        """The inverse, for pictures: network input ``B 3 T H W`` -> uint8 RGB ``B T H W 3``."""
        shape = (1, 3, 1, 1, 1)
        video = video.detach().cpu().float()
        video = video.flip(1) if self.bgr else video
        video = video * torch.tensor(self.std).view(shape) + torch.tensor(self.mean).view(shape)
        return (video * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 4, 1)


def build_normalizer(
    cfg: CfgNode, published_bgr: bool, expected: InputFormat | None = None
) -> Normalizer:
    """The normalisation of a data set and a network.

    ``published_bgr``: the published loader of the data set gives BGR frames. ``expected``: the
    network's own input format, which takes precedence over DATA.
    """
    if expected is not None:
        return Normalizer(expected.mean, expected.std, expected.bgr, cfg.AUG.RE_MODE)
    return Normalizer(
        tuple(cfg.DATA.MEAN), tuple(cfg.DATA.STD), input_is_bgr(cfg, published_bgr), cfg.AUG.RE_MODE
    )


def input_is_bgr(cfg: CfgNode, published_bgr: bool) -> bool:
    """Whether the network's input is BGR: DATA.INPUT_FORMAT, reversed by REVERSE_INPUT_CHANNEL."""
    is_bgr = {"auto": published_bgr, "RGB": False, "BGR": True}[cfg.DATA.INPUT_FORMAT]
    return is_bgr != cfg.DATA.REVERSE_INPUT_CHANNEL
