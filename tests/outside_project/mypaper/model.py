"""ShiftNet, and a head for frame networks."""

import torch
from torch import nn

from slowfast.config.schema import Key, Section, register_section
from slowfast.layers.consensus import HEAD_REGISTRY
from slowfast.models import MODEL_REGISTRY, ModelSpec, VideoModel

KEYS = {"WIDTH": Key(16, "Channels of the first layer of ShiftNet.", ge=4)}
register_section(Section("SHIFTNET", "ShiftNet, the network of this paper", KEYS))


@MODEL_REGISTRY.register("ShiftNet")
class ShiftNet(VideoModel):
    """A 2-D network; some channels of each frame come from its neighbours (arXiv 1811.08383)."""

    spec = ModelSpec(variants={"shiftnet": {}, "shiftnet_wide": {"width": 64}})

    def __init__(self, *, num_classes: int = 400, width: int = 16):
        super().__init__()
        widths = (3, width, 2 * width, 4 * width)
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1)
            for before, after in zip(widths, widths[1:])
        )
        self.head = nn.Linear(widths[-1], num_classes)

    @classmethod
    def from_cfg(cls, cfg):
        return cls(num_classes=cfg.MODEL.NUM_CLASSES, width=cfg.SHIFTNET.WIDTH)

    def forward_features(self, video):
        """``B 3 T H W`` -> ``B C``."""
        x = video.transpose(1, 2)  # B T C H W
        for conv in self.convs:
            x = conv(self.shift(x).flatten(0, 1)).relu().unflatten(0, x.shape[:2])
        return x.mean((1, 3, 4))

    @staticmethod
    def shift(x):
        """An eighth of the channels of ``B T C H W`` comes from the next frame, one from the last."""
        fold = x.shape[2] // 8
        after, before, same = x.split([fold, fold, x.shape[2] - 2 * fold], dim=2)
        after = torch.cat([after[:, 1:], torch.zeros_like(after[:, :1])], dim=1)
        before = torch.cat([torch.zeros_like(before[:, :1]), before[:, :-1]], dim=1)
        return torch.cat([after, before, same], dim=2)


@HEAD_REGISTRY.register("Max")
class MaxHead(nn.Module):
    """For MODEL.MODEL_NAME TSN: the largest value of each feature ``B T D`` over the frames."""

    wants_maps = False

    def __init__(self, options):
        super().__init__()
        self.fc = nn.Linear(options.dim, options.num_classes)

    def forward(self, x):
        return self.fc(x.amax(1))
