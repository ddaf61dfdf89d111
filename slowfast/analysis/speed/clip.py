"""Cost of temporal modelling relative to plain CLIP, and benefit of stored texts."""

from __future__ import annotations

import tempfile
import time
from typing import Any

import torch

from slowfast.analysis.speed.memory import saved_bytes
from slowfast.analysis.speed.timing import alternate, median_ms, ratio
from slowfast.config.node import CfgNode
from slowfast.models.clip import texts
from slowfast.models.clip.blocks import CLIP_BLOCK_REGISTRY
from slowfast.models.clip.settings import configured_sizes
from slowfast.models.clip.text_bank import encode_cached
from slowfast.models.clip.towers import CLIP, VisualTower, block_builder
from slowfast.utils.runtime import Runtime, choose_device

_SECOND_NAMES = ("None",)  # kinds that are registered under another name as well


def benchmark_clip(cfg: CfgNode, batch: int, rounds: int) -> dict[str, Any]:
    """Time of the visual tower (forward, and forward + backward) with every registered kind of
    temporal modelling, as ratios to plain CLIP in the same run; memory is that saved for the
    backward pass.

    ``texts``: seconds to encode the texts of the classes, and to read them from disk.
    """
    runtime = Runtime(choose_device(cfg.NUM_GPUS))
    sizes, side = configured_sizes(cfg), cfg.DATA.TRAIN_CROP_SIZE
    options = {
        kind: CLIP_BLOCK_REGISTRY.get(kind).options_from_cfg(cfg)
        for kind in CLIP_BLOCK_REGISTRY
        if kind not in _SECOND_NAMES
    }
    towers = {}
    for kind in options:
        torch.manual_seed(0)
        tower = VisualTower(sizes, block_builder(kind, options[kind]))
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
    patches = (side // sizes.patch) ** 2
    for index, (kind, tower) in enumerate(towers.items()):
        memory = saved_bytes(tower, video)
        tokens = CLIP_BLOCK_REGISTRY.get(kind).tokens(patches, options[kind])
        figures[kind or "None"] = {
            **{f"{n}_ms": median_ms(t[index]) for n, t in times.items()},
            **{f"{n}_ratio": ratio(t[index], t[0]) for n, t in times.items()},
            "saved_mib": round(memory / 2**20, 1),
            "saved_ratio": round(memory / plain_memory, 3),
            "tokens": tokens._asdict(),
        }
    figures["texts"] = _text_times(cfg, runtime)
    return {"arch": cfg.MODEL.ARCH, "batch": batch, "device": str(runtime.device)} | figures


def _text_times(cfg: CfgNode, runtime: Runtime) -> dict[str, Any]:
    network = CLIP(configured_sizes(cfg)).to(runtime.device)
    names = [f"an action of number {number}" for number in range(20)]
    tokens = texts.fill_templates(texts.TEMPLATES, names, network.sizes.context)
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            start = time.perf_counter()
            encode_cached(network, tokens, folder)
            runtime.synchronize()
            seconds.append(round(time.perf_counter() - start, 3))
    return {
        "count": tokens.shape[0] * tokens.shape[1],
        "encoded_s": seconds[0],
        "found_s": seconds[1],
    }
