"""Variants by name are the networks of the configurations."""

from __future__ import annotations

import pytest
import torch

from slowfast.config.load import load_config
from slowfast.models import MODEL_REGISTRY
from slowfast.models.build import build_model
from tests.conftest import ROOT

RECIPES = {
    "uniformer_s": "Kinetics/UNIFORMER_S",
    "uniformer_b": "Kinetics/UNIFORMER_B",
    "uniformer_s_stfm": "Kinetics/UNIFORMER_S_STFM",
    "uniformer_b_stfm": "Kinetics/UNIFORMER_B_STFM",
    "timesformer_b": "Kinetics/TimeSformer_divST_8x32_224",
    "timesformer_hr": "Kinetics/TimeSformer_divST_16x16_448",
    "timesformer_l": "Kinetics/TimeSformer_divST_96x4_224",
    "timesformer_b_stfm": "Kinetics/TimeSformer_STFM_8x32_224",
    "mvit_b_16x4": "Kinetics/MVIT_B_16x4_CONV",
    "mvit_b_32x3": "Kinetics/MVIT_B_32x3_CONV",
    "mvitv2_s": "Kinetics/MVITv2_S_16x4",
    "mvitv2_b": "Kinetics/MVITv2_B_32x3",
    "mvitv2_l": "Kinetics/MVITv2_L_40x3_test",
    "mvitv2_s_stfm": "Kinetics/MVITv2_S_STFM",
    "mvitv2_b_stfm": "Kinetics/MVITv2_B_STFM",
    "stam_16": "Kinetics/STAM_16",
    "stam_32": "Kinetics/STAM_32",
    "stam_64": "Kinetics/STAM_64",
    "slow_r50": "Kinetics/SLOW_8x8_R50",
    "slow_4x16_r50": "Kinetics/SLOW_4x16_R50",
    "c2d_r50": "Kinetics/C2D_8x8_R50",
    "c2d_nln_r50": "Kinetics/C2D_NLN_8x8_R50",
    "c2d_nopool_r50": "Kinetics/c2/C2D_NOPOOL_8x8_R50",
    "i3d_r50": "Kinetics/I3D_8x8_R50",
    "i3d_nln_r50": "Kinetics/I3D_NLN_8x8_R50",
    "i3d_r101": "Kinetics/I3D_8x8_R101",
    "slowfast_4x16_r50": "Kinetics/SLOWFAST_4x16_R50",
    "slowfast_8x8_r50": "Kinetics/SLOWFAST_8x8_R50",
    "slowfast_8x8_r101": "Kinetics/c2/SLOWFAST_8x8_R101_101_101",
    "slowfast_16x8_r101": "Kinetics/c2/SLOWFAST_16x8_R101_50_50",
    "x3d_xs": "Kinetics/X3D_XS",
    "x3d_s": "Kinetics/X3D_S",
    "x3d_m": "Kinetics/X3D_M",
    "x3d_l": "Kinetics/X3D_L",
}
NETWORKS = ("Uniformer", "TimeSformer", "MViT", "STAM", "ResNet", "SlowFast", "X3D")


def arguments(name):
    """(class, arguments) of a variant."""
    classes = [MODEL_REGISTRY.get(network) for network in NETWORKS]
    (cls,) = [cls for cls in classes if name in cls.spec.variants]
    return cls, cls.spec.variants[name]


def test_every_variant_has_a_recipe():
    names = [name for network in NETWORKS for name in MODEL_REGISTRY.get(network).spec.variants]
    assert sorted(names) == sorted(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_variant_is_the_network_of_its_recipe(name):
    """Names and shapes of all tensors, drop path and STFM's choices."""
    cls, variant = arguments(name)
    cfg = load_config([ROOT / f"configs/{RECIPES[name]}.yaml"], ["NUM_GPUS", "0"])
    with torch.device("meta"):
        model, configured = cls(**variant), build_model(cfg, "meta")
    shapes = [{n: tuple(v.shape) for n, v in m.state_dict().items()} for m in (model, configured)]
    assert shapes[0] == shapes[1] and type(model) is type(configured)
    rates = [
        [getattr(m, "drop_prob", None) for _, m in network.named_modules()]
        for network in (model, configured)
    ]
    assert rates[0] == rates[1]
    assert getattr(model, "stfm_options", None) == getattr(configured, "stfm_options", None)


@pytest.mark.parametrize("name", ["uniformer_s", "timesformer_b", "mvitv2_s", "stam_16"])
def test_variants_take_other_classes(name):
    cls, variant = arguments(name)
    with torch.device("meta"):
        model = cls(**variant, num_classes=7)
    last = next(m for m in reversed(list(model.head.modules())) if hasattr(m, "out_features"))
    assert last.out_features == 7
