"""Released weights of ResNet, SlowFast and X3D under the names of four projects."""

from __future__ import annotations

import pickle
import re

import pytest
import timm
import torch

import slowfast
from slowfast.models.weights.loader import load_state
from slowfast.models.weights.read import Checkpoint
from tests.models.helpers import build, clips, to_eval

CAFFE2_LEAF = {"running_mean": "rm", "running_var": "riv"}


def caffe2_name(name: str) -> str:
    """Ours -> Caffe2's, written the other way round than the code under test."""
    part, leaf = name.rsplit(".", 1)
    norm = part.endswith(("_bn", ".bn"))
    leaf = CAFFE2_LEAF.get(leaf, {"weight": "s" if norm else "w", "bias": "b"}.get(leaf))
    part = re.sub(r"(_bn|\.bn)$", "", part)
    stage = re.match(r"s(\d)", name)
    prefix = "t_" if "pathway1" in name else ""
    if part == "head.projection":
        return f"pred_{leaf}"
    if part.startswith("head."):
        blob = part.removeprefix("head.")
    elif "_fuse" in part:
        number = int(stage.group(1))
        last = {2: 1, 3: 1, 4: 1}.get(number)
        blob = f"t_res{number}_{last}_branch2c_bn_subsample" if number > 1 else "t_pool1_subsample"
    elif "stem" in part:
        kind = "_xy" if part.endswith("conv_xy") else ""
        blob = f"{prefix}{'res_' if norm else ''}conv1{kind}"
    elif "nonlocal" in part:
        block = re.search(r"nonlocal(\d+)", part).group(1)
        kind = part.rpartition("conv_")[2] if "conv_" in part else ""
        blob = f"nonlocal_conv{stage.group(1)}_{block}" + (f"_{kind}" if kind else "")
    else:
        block, branch = re.search(r"res(\d+)\.(.+)", part).groups()
        branch = branch.replace("branch2.se.fc", "branch2b_bn_fc").replace("branch2.", "branch2")
        blob = f"{prefix}res{stage.group(1)}_{block}_{branch}"
    return f"{blob}_bn_{leaf}" if norm else f"{blob}_{leaf}"


def video_name(name: str, pools: bool) -> str:
    """Ours -> PyTorchVideo's."""
    match = re.match(r"s(\d)(_fuse|\.pathway(\d)_)?", name)
    if match is None:
        rest = name.removeprefix("head.")
        for ours, theirs in (
            ("conv_5_bn.", "pool.pre_norm."),
            ("conv_5.", "pool.pre_conv."),
            ("lin_5.", "pool.post_conv."),
            ("projection.", "proj."),
        ):
            rest = rest.replace(ours, theirs)
        return f"blocks.{7 if pools else 6}.{rest}"
    number = int(match.group(1)) - 1
    block = f"blocks.{number + 1 if pools and number > 1 else number}"
    rest = name[match.end() :]
    if match.group(2) == "_fuse":
        rest = rest.replace(".conv_f2s.", ".conv_fast_to_slow.").replace(".bn.", ".norm.")
        return f"{block}.multipathway_fusion{rest}"
    return f"{block}.PATH{match.group(3)}.{_video_part(rest)}"


def _video_part(rest: str) -> str:
    if rest.startswith("stem."):
        rest = rest.removeprefix("stem.")
        return rest.replace("bn.", "norm.")
    rest = re.sub(r"^res(\d+)", r"res_blocks.\1", rest)
    rest = rest.replace(".branch1.", ".branch1_conv.").replace(".branch1_bn.", ".branch1_norm.")
    rest = re.sub(r"branch2\.([abc])_bn", r"branch2.norm_\1", rest)
    return re.sub(r"branch2\.([abc])\.", r"branch2.conv_\1.", rest)


def filled(name, extra=None):
    """A network with weights that are all different from those of another seed."""
    cfg, model = build(name, extra, seed=3)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) * 0.2 + 0.1)
    return cfg, to_eval(model)


def floats(model):
    return {n: v for n, v in model.state_dict().items() if v.is_floating_point()}


def same_answer(cfg, model, other, atol=0.0):
    with torch.no_grad():
        expected, logits = model(clips(cfg)), to_eval(other)(clips(cfg))
    assert (
        torch.allclose(expected, logits, rtol=1e-5, atol=atol)
        if atol
        else torch.equal(expected, logits)
    )


NLN = {
    "NONLOCAL.LOCATION": [[[]], [[1]], [[0, 1]], [[]]],
    "NONLOCAL.INSTANTIATION": "softmax",
    "MODEL.ARCH": "i3d",
    "RESNET.WIDTH_PER_GROUP": 4,
}
NETWORKS = [("ResNet", {}), ("ResNet", NLN), ("SlowFast", {}), ("X3D", {})]


@pytest.mark.parametrize("name, extra", NETWORKS)
def test_caffe2(name, extra, tmp_path):
    """A pickle of blobs, with the solver's own, and matrices where we have 1x1x1 convolutions."""
    cfg, model = filled(name, extra)
    blobs = {caffe2_name(n): v.numpy() for n, v in floats(model).items()}
    assert len(blobs) == len(floats(model))
    flat = {n: v[..., 0, 0, 0] for n, v in blobs.items() if re.search(r"fc\d_w|lin_5_w", n)}
    blobs |= flat
    blobs |= {
        "pred_w_momentum": blobs["pred_w"],
        "lr": blobs["pred_b"],
        "model_iter": blobs["pred_b"],
    }
    file = tmp_path / "zoo.pkl"
    file.write_bytes(pickle.dumps({"blobs": blobs}, 2))
    _, other = build(name, extra)
    report = load_state(other, Checkpoint.read(file).state, min_match=1.0)
    assert report.source == f"{name} (Caffe2)"
    assert not (report.missing or report.unexpected or report.mismatched or report.new)
    same_answer(cfg, model, other)


def test_caffe2_names_as_released():
    from slowfast.models.residual_weights import _caffe2_name

    for blob, name in {
        "conv1_w": "s1.pathway0_stem.conv.weight",
        "res_conv1_bn_rm": "s1.pathway0_stem.bn.running_mean",
        "t_res_conv1_bn_s": "s1.pathway1_stem.bn.weight",
        "res4_22_branch2c_bn_riv": "s4.pathway0_res22.branch2.c_bn.running_var",
        "t_res2_0_branch1_w": "s2.pathway1_res0.branch1.weight",
        "t_pool1_subsample_w": "s1_fuse.conv_f2s.weight",
        "t_pool1_subsample_bn_s": "s1_fuse.bn.weight",
        "t_res4_5_branch2c_bn_subsample_w": "s4_fuse.conv_f2s.weight",
        "t_res4_5_branch2c_bn_subsample_bn_rm": "s4_fuse.bn.running_mean",
        "nonlocal_conv3_1_theta_w": "s3.pathway0_nonlocal1.conv_theta.weight",
        "nonlocal_conv3_1_bn_b": "s3.pathway0_nonlocal1.bn.bias",
        "conv1_xy_w": "s1.pathway0_stem.conv_xy.weight",
        "res2_0_branch2b_bn_fc1_w": "s2.pathway0_res0.branch2.se.fc1.weight",
        "conv_5_bn_s": "head.conv_5_bn.weight",
        "lin_5_w": "head.lin_5.weight",
        "pred_b": "head.projection.bias",
    }.items():
        assert _caffe2_name(blob) == name


@pytest.mark.parametrize(
    "name, extra", [("ResNet", {}), ("ResNet", {"MODEL.ARCH": "i3d"}), ("SlowFast", {})]
)
def test_pytorchvideo(name, extra):
    """Pooling layers without weights take a number: of I3D after the first stage, of SlowFast
    before the head."""
    cfg, model = filled(name, extra)
    pools = extra.get("MODEL.ARCH") == "i3d"
    state = {}
    for n, value in floats(model).items():
        video = video_name(n, pools or (name == "SlowFast" and n.startswith("head.")))
        if name == "ResNet" and n.startswith("head."):
            video = video_name(n, pools).replace("blocks.7", "blocks.6" if pools else "blocks.5")
            video = video if pools else video.replace("blocks.6", "blocks.5")
        two = "multipathway_blocks.{}." if name == "SlowFast" else ""
        state[re.sub(r"PATH(\d)\.", lambda m: two.format(m.group(1)), video)] = value
    assert len(state) == len(floats(model))
    _, other = build(name, extra)
    report = load_state(other, state, min_match=1.0)
    assert (
        report.source == f"{name} (PyTorchVideo)" and not report.missing and not report.unexpected
    )
    same_answer(cfg, model, other)


def test_pytorchvideo_x3d():
    """Squeeze-excitation lies in the normalisation, and shortcuts that keep the channels are not
    normalised."""
    cfg, model = filled("X3D")
    plain = model.s2.pathway0_res0.branch1_bn
    assert model.s2.pathway0_res0.branch1.in_channels == plain.num_features
    with torch.no_grad():
        plain.weight.fill_(1), plain.bias.zero_(), plain.running_mean.zero_()
        plain.running_var.fill_(1 - plain.eps)
    state = {}
    for n, value in floats(model).items():
        if n.startswith("s2.pathway0_res0.branch1_bn"):
            continue
        if ".se.fc" in n:
            block, number, leaf = re.match(r"(.+)\.branch2\.se\.fc(\d)\.(.+)", n).groups()
            index = {"1": 0, "2": 2}[number]
            video = video_name(f"{block}.branch2.b_bn.1.block.{index}.{leaf}", False)
        elif ".branch2.b_bn." in n:
            video = video_name(n.replace(".b_bn.", ".b_bn.0."), False)
        elif "stem.conv" in n:
            swapped = n.replace("stem.conv.", "stem.conv.XY.").replace(
                "stem.conv_xy", "stem.conv.conv_t"
            )
            video = video_name(swapped.replace("XY", "conv_xy"), False)
        else:
            video = video_name(n, False)
        video = video.replace("PATH0.", "")
        state[video.replace("blocks.6.", "blocks.5.")] = value
    _, other = build("X3D")
    report = load_state(other, state, min_match=1.0)
    assert report.source == "X3D (PyTorchVideo)" and not report.missing and not report.unexpected
    same_answer(cfg, model, other, atol=1e-5)


def test_inflated_image_network():
    """A kernel over time of three frames holds a third of the 2-D one in each."""
    image = timm.create_model("resnet50")
    model = slowfast.create_model("i3d_r50", num_frames=4, crop_size=32)
    report = load_state(model, image.state_dict(), min_match=1.0)
    assert report.source == "a 2-D network (ImageNet)" and not report.missing
    assert report.new == ["head.projection.weight", "head.projection.bias"]
    assert not report.unexpected and not report.mismatched
    kernel = model.s2.pathway0_res0.branch2.a.weight
    assert torch.allclose(kernel.sum(2), image.layer1[0].conv1.weight, atol=1e-6)
    assert torch.equal(
        model.s5.pathway0_res0.branch1_bn.weight, image.layer4[0].downsample[1].weight
    )
    video = torch.randn(1, 3, 1, 64, 64).expand(-1, -1, 4, -1, -1)
    flat = slowfast.create_model("c2d_r50", num_frames=4, crop_size=64)
    load_state(flat, image.state_dict(), min_match=1.0)
    with torch.no_grad():
        maps = flat.eval().feature_maps(video).mean(2)
        assert torch.allclose(maps, image.eval().forward_features(video[:, :, 0]), atol=1e-4)


def test_slowfast_starts_its_slow_pathway_from_an_image_network():
    model = slowfast.create_model("slowfast_4x16_r50", num_frames=8, crop_size=32)
    image = timm.create_model("resnet50").state_dict()
    report = load_state(model, image, min_match=0.5)
    assert any("pathway1" in name for name in report.new) and not report.unexpected
