"""Released weights of ResNet, SlowFast and X3D under the names of other projects.

Caffe2's blobs (``res2_0_branch2a_w``) and PyTorchVideo's modules
(``blocks.1.res_blocks.0.branch2``), renamed one to one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import nn

from slowfast.models.spec import State, WeightSource

Rule = tuple[str, str]  # pattern of a whole name, and the new name


def rename(name: str, rules: Iterable[Rule]) -> str:
    """The first rule whose pattern is the whole name gives the new one; otherwise it stays."""
    for pattern, new in rules:
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(new)
    return name


def is_pyslowfast(state: State) -> bool:
    """Whether a state dict has PySlowFast's names of ResNet, SlowFast or X3D."""
    return any(name.startswith("s1.pathway0_stem.conv") for name in state)


# -- Caffe2 ----------------------------------------------------------------------------------------

_CAFFE2_LEAVES = {
    "bn_s": "bn.weight",
    "bn_b": "bn.bias",
    "bn_rm": "bn.running_mean",
    "bn_riv": "bn.running_var",
    "w": "weight",
    "b": "bias",
}
_NO_WEIGHTS = ("momentum", "lr", "model_iter")
# Names without their leaf; {p} is the pathway, which "t_" in front makes the fast one.
_CAFFE2_PARTS: tuple[Rule, ...] = (
    (r"t_pool1_subsample", r"s1_fuse.conv_f2s"),
    (r"t_res(\d)_\d+_branch2c_bn_subsample", r"s\1_fuse.conv_f2s"),
    (r"nonlocal_conv(\d)_(\d+)_(theta|phi|g|out)", r"s\1.pathway0_nonlocal\2.conv_\3"),
    (r"nonlocal_conv(\d)_(\d+)", r"s\1.pathway0_nonlocal\2"),
    (r"conv1_xy", r"s1.pathway{p}_stem.conv_xy"),
    (r"(?:res_)?conv1", r"s1.pathway{p}_stem.conv"),
    (r"res(\d)_(\d+)_branch2b_bn_fc([12])", r"s\1.pathway{p}_res\2.branch2.se.fc\3"),
    (r"res(\d)_(\d+)_branch2([abc])", r"s\1.pathway{p}_res\2.branch2.\3"),
    (r"res(\d)_(\d+)_branch1", r"s\1.pathway{p}_res\2.branch1"),
    (r"pred", r"head.projection"),
    (r"(conv_5|lin_5)", r"head.\1"),
)


def is_caffe2(state: State) -> bool:
    """Whether a state dict holds the blobs of a video network of Caffe2."""
    return any(re.match(r"(t_)?res\d_\d+_branch2a_w", name) for name in state)


def _caffe2_name(blob: str) -> str:
    """``t_res2_0_branch2a_bn_s`` -> ``s2.pathway1_res0.branch2.a_bn.weight``."""
    match = re.fullmatch(r"(.+?)_(bn_(?:s|b|rm|riv)|w|b)", blob)
    if not match:
        return blob
    part, leaf = match.group(1), _CAFFE2_LEAVES[match.group(2)]
    name = rename(part, _CAFFE2_PARTS)
    if name == part and part.startswith("t_"):
        name = rename(part[2:], _CAFFE2_PARTS).replace("{p}", "1")
    name = name.replace("{p}", "0")
    if not leaf.startswith("bn."):
        return f"{name}.{leaf}"
    # The normalisation of a convolution is its neighbour; those of stems, of non-local blocks and
    # of connections between pathways are called bn.
    if name.endswith((".branch1", ".branch2.a", ".branch2.b", ".branch2.c", "_5")):
        return f"{name}_{leaf}"
    owner = name if "_nonlocal" in name.rpartition(".")[2] else name.rpartition(".")[0]
    return f"{owner}.{leaf}"


def _from_caffe2(state: State, model: nn.Module) -> State:
    expected = model.state_dict()
    adapted = {}
    for blob, value in state.items():
        if any(part in blob for part in _NO_WEIGHTS):
            continue
        name = _caffe2_name(blob)
        adapted[name] = _with_dimensions(value, expected.get(name))
    return adapted


def _with_dimensions(value: torch.Tensor, target: torch.Tensor | None) -> torch.Tensor:
    """``value`` with trailing dimensions of size 1 where the parameter has them."""
    if target is not None and value.ndim < target.ndim:
        ones = (1,) * (target.ndim - value.ndim)
        if tuple(target.shape[value.ndim :]) == ones:
            return value.reshape(*value.shape, *ones)
    return value


# -- PyTorchVideo ----------------------------------------------------------------------------------

_VIDEO_BRANCH: tuple[Rule, ...] = (
    (r"branch1_conv\.(.+)", r"branch1.\1"),
    (r"branch1_norm\.(.+)", r"branch1_bn.\1"),
    (r"branch2\.conv_([abc])\.(.+)", r"branch2.\1.\2"),
    (r"branch2\.norm_b\.0\.(.+)", r"branch2.b_bn.\1"),
    (r"branch2\.norm_b\.1\.block\.0\.(.+)", r"branch2.se.fc1.\1"),
    (r"branch2\.norm_b\.1\.block\.2\.(.+)", r"branch2.se.fc2.\1"),
    (r"branch2\.norm_([abc])\.(.+)", r"branch2.\1_bn.\2"),
)
_VIDEO_PARTS: tuple[Rule, ...] = (
    # X3D's first convolution is over space and has the name of one over time.
    (r"conv\.conv_t\.(.+)", r"stem.conv_xy.\1"),
    (r"conv\.conv_xy\.(.+)", r"stem.conv.\1"),
    (r"conv\.(.+)", r"stem.conv.\1"),
    (r"norm\.(.+)", r"stem.bn.\1"),
    (r"proj\.(.+)", r"head.projection.\1"),
    (r"pool\.pre_conv\.(.+)", r"head.conv_5.\1"),
    (r"pool\.pre_norm\.(.+)", r"head.conv_5_bn.\1"),
    (r"pool\.post_conv\.(.+)", r"head.lin_5.\1"),
    (r"pool\.post_norm\.(.+)", r"head.lin_5_bn.\1"),
    (r"multipathway_fusion\.conv_fast_to_slow\.(.+)", r"fuse.conv_f2s.\1"),
    (r"multipathway_fusion\.norm\.(.+)", r"fuse.bn.\1"),
)


def is_pytorchvideo(state: State) -> bool:
    """Whether a state dict is that of a residual network of PyTorchVideo."""
    return any(re.match(r"blocks\.1\.(multipathway_blocks\.0\.)?res_blocks\.0\.", n) for n in state)


def _from_pytorchvideo(state: State, model: nn.Module) -> State:
    """Blocks are numbered with those that have no weights, such as pooling: stages are counted."""
    stages: dict[str, int] = {}
    numbers = sorted({int(n.split(".")[1]) for n in state if re.match(r"blocks\.\d+\.", n)})
    for stage, number in enumerate(numbers, 1):
        stages[str(number)] = stage
    adapted = {}
    for name, value in state.items():
        match = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
        if match:
            name = _pytorchvideo_name(stages[match.group(1)], match.group(2))
        adapted[name] = value
    return _with_missing_norms(adapted, model)


def _pytorchvideo_name(stage: int, part: str) -> str:
    match = re.fullmatch(r"multipathway_blocks\.(\d)\.(.+)", part)
    pathway, part = match.groups() if match else ("0", part)
    match = re.fullmatch(r"res_blocks\.(\d+)\.(.+)", part)
    if match:
        block, part = match.group(1), rename(match.group(2), _VIDEO_BRANCH)
        return f"s{stage}.pathway{pathway}_res{block}.{part}"
    name = rename(part, _VIDEO_PARTS)
    if name.startswith("head."):
        return name
    return f"s{stage}_{name}" if name.startswith("fuse.") else f"s{stage}.pathway{pathway}_{name}"


def _with_missing_norms(state: State, model: nn.Module) -> State:
    """PyTorchVideo's X3D does not normalise shortcuts that keep the number of channels: ours then
    get a normalisation that changes nothing."""
    for name, module in model.named_modules():
        convolution = f"{name.removesuffix('_bn')}.weight"
        if (
            name.endswith("branch1_bn")
            and convolution in state
            and f"{name}.weight" not in state
            and isinstance(module, nn.BatchNorm3d)
        ):
            ones = torch.ones(module.num_features)
            state |= {
                f"{name}.weight": ones * (1 + module.eps) ** 0.5,
                f"{name}.bias": torch.zeros_like(ones),
                f"{name}.running_mean": torch.zeros_like(ones),
                f"{name}.running_var": ones,
            }
    return state


# -- formats --------------------------------------------------------------------------------------

_SOURCES = (
    WeightSource("PySlowFast", is_pyslowfast, new_parts=("_nonlocal",)),
    WeightSource("Caffe2", is_caffe2, _from_caffe2),
    WeightSource("PyTorchVideo", is_pytorchvideo, _from_pytorchvideo),
)


def network_of(state: State) -> str:
    """Name of the network that one of these files is of: SlowFast has a second pathway, X3D a
    convolution over space of its own in its stem."""
    if any(re.match(r"s1\.pathway1_|t_conv1_|blocks\.\d+\.multipathway_", name) for name in state):
        return "SlowFast"
    x3d = ("stem.conv_xy.weight", "conv1_xy_w", "conv.conv_t.weight")
    return "X3D" if any(name.endswith(x3d) for name in state) else "ResNet"


def residual_sources(network: str) -> tuple[WeightSource, ...]:
    """The formats in which weights of ``network`` (ResNet, SlowFast or X3D) are released."""

    def of_network(source: WeightSource) -> WeightSource:
        def matches(state: State) -> bool:
            return source.matches(state) and network_of(state) == network

        return replace(source, name=f"{network} ({source.name})", matches=matches)

    return tuple(map(of_network, _SOURCES))
