"""The last step of the data path, on the device: uint8 batch -> normalised floats."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from slowfast.config.node import CfgNode
from slowfast.video.erasing import erase


@dataclass(frozen=True)
class InputFormat:
    """What published weights were trained on: mean and deviation of red, green and blue on the
    scale 0..1, and whether the channels come as BGR."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bgr: bool = False


@dataclass(frozen=True)
class Normalizer:
    """``(x / 255 - mean) / std`` by channel, then the channel order, then erasing."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False
    erase_mode: str = "pixel"

    def __call__(
        self, video: torch.Tensor, device: torch.device, boxes: torch.Tensor | None = None
    ) -> torch.Tensor:
        """uint8 RGB ``B 3 T H W`` -> float32 ``B 3 T H W`` on ``device``."""
        video = video.to(device, non_blocking=True).float()
        shape = (1, 3, 1, 1, 1)
        mean = torch.tensor(self.mean, device=device).view(shape)
        std = torch.tensor(self.std, device=device).view(shape)
        video = video.sub_(mean * 255).div_(std * 255)
        if self.bgr:
            # Reversed after normalisation, as the reference does: the mean of channel i
            # belongs to the channel that was read as i.
            video = video.flip(1)
        if boxes is not None:
            erase(video, boxes, self.erase_mode)
        return video

    def picture(self, video: torch.Tensor) -> torch.Tensor:
        """Back from the network's input ``B 3 T H W`` to uint8 RGB ``B T H W 3``, for people."""
        shape = (1, 3, 1, 1, 1)
        video = video.detach().cpu().float()
        video = video.flip(1) if self.bgr else video
        video = video * torch.tensor(self.std).view(shape) + torch.tensor(self.mean).view(shape)
        return (video * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 4, 1)


def build_normalizer(
    cfg: CfgNode, reads_bgr: bool, expected: InputFormat | None = None
) -> Normalizer:
    """``reads_bgr``: the reference's loader of this data set gives BGR frames; ``expected``: the
    network asks for its own input, whatever DATA says."""
    if expected is not None:
        return Normalizer(expected.mean, expected.std, expected.bgr, cfg.AUG.RE_MODE)
    return Normalizer(
        tuple(cfg.DATA.MEAN), tuple(cfg.DATA.STD), input_is_bgr(cfg, reads_bgr), cfg.AUG.RE_MODE
    )


def input_is_bgr(cfg: CfgNode, reads_bgr: bool) -> bool:
    """Whether the network is given BGR: INPUT_FORMAT, and REVERSE_INPUT_CHANNEL on top."""
    chosen = {"auto": reads_bgr, "RGB": False, "BGR": True}[cfg.DATA.INPUT_FORMAT]
    return chosen != cfg.DATA.REVERSE_INPUT_CHANNEL
