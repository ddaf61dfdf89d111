"""What temporal modelling costs beside plain CLIP, and what found texts save."""

from __future__ import annotations

import tempfile
import time
from typing import Any

import torch

from slowfast.analysis.speed.memory import saved_bytes
from slowfast.analysis.speed.timing import alternate, median_ms, ratio
from slowfast.config.node import CfgNode
from slowfast.models.clip import texts
from slowfast.models.clip.settings import configured_sizes, cross_options
from slowfast.models.clip.towers import CROSS, Clip, VisualTower, block_of
from slowfast.utils.runtime import Runtime, choose_device

_EXPANDED = "expand_temporal_view"
TYPES = ("", CROSS, _EXPANDED, "stadapt_zeroinit", "cross_frame_attend", "channel_shift")


def tokens_per_frame(kind: str, patches: int, cfg: CfgNode) -> dict[str, int]:
    """Tokens that a block's attention takes as queries and as keys, for one frame."""
    whole = patches + 1
    if kind == CROSS:
        left = patches - int(cfg.MODEL.MASK_RATE * patches)
        count = whole + len(cfg.MODEL.TEMPORAL_SCALE) * (left + 1)
        return {"queries": count, "keys": count}
    extra = 1 if kind == "cross_frame_attend" else 0
    keys = 3 * whole if kind == _EXPANDED else whole + extra
    return {"queries": whole + extra, "keys": keys}


def benchmark_clip(cfg: CfgNode, batch: int, rounds: int) -> dict[str, Any]:
    """Forward and forward + backward of the visual tower with every kind of temporal modelling,
    as ratios to plain CLIP in the same run; memory is that kept for the backward pass.

    ``texts``: seconds to encode the texts of the classes, and to find them again.
    """
    runtime = Runtime(choose_device(cfg.NUM_GPUS))
    sizes, side = configured_sizes(cfg), cfg.DATA.TRAIN_CROP_SIZE
    towers = {}
    for kind in TYPES:
        torch.manual_seed(0)
        tower = VisualTower(sizes, block_of(kind, cross_options(cfg)))
        towers[kind] = tower.to(runtime.device)
    video = torch.randn(batch, 3, cfg.DATA.NUM_FRAMES, side, side, device=runtime.device)

    def forward(tower: VisualTower) -> None:
        tower.eval()
        with torch.inference_mode():
            tower(video)

    def backward(tower: VisualTower) -> None:
        tower.train().zero_grad(set_to_none=True)
        tower(video).square().mean().backward()

    figures: dict[str, Any] = {}
    times = {
        name: alternate([lambda _, t=t, w=work: w(t) for t in towers.values()], rounds, runtime)
        for name, work in (("forward", forward), ("forward_backward", backward))
    }
    plain_memory = saved_bytes(towers[""], video)
    for place, (kind, tower) in enumerate(towers.items()):
        memory = saved_bytes(tower, video)
        figures[kind or "None"] = {
            **{f"{n}_ms": median_ms(t[place]) for n, t in times.items()},
            **{f"{n}_ratio": ratio(t[place], t[0]) for n, t in times.items()},
            "saved_mib": round(memory / 2**20, 1),
            "saved_ratio": round(memory / plain_memory, 3),
            "tokens": tokens_per_frame(kind, (side // sizes.patch) ** 2, cfg),
        }
    figures["texts"] = _text_times(cfg, runtime)
    return {"arch": cfg.MODEL.ARCH, "batch": batch, "device": str(runtime.device)} | figures


def _text_times(cfg: CfgNode, runtime: Runtime) -> dict[str, Any]:
    network = Clip(configured_sizes(cfg), block_of("", cross_options(cfg))).to(runtime.device)
    names = [f"an action of number {number}" for number in range(20)]
    tokens = texts.fill_templates(texts.TEMPLATES, names, network.sizes.context)
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            begin = time.perf_counter()
            texts.encode_cached(network, tokens, folder)
            runtime.synchronize()
            seconds.append(round(time.perf_counter() - begin, 3))
    return {
        "count": tokens.shape[0] * tokens.shape[1],
        "encoded_s": seconds[0],
        "found_s": seconds[1],
    }
