"""The configuration whose network a file of weights is of."""

from __future__ import annotations

import pytest
import torch
import yaml

from slowfast.models import MODEL_REGISTRY
from slowfast.models.weights.recipes import equal_share, fitting_configuration
from tests.config.test_old_files import nested
from tests.models.helpers import build

WIDE = {"UNIFORMER.EMBED_DIM": [16, 16, 32, 32], "UNIFORMER.HEAD_DIM": 16}
STFM = {"STFM.ENABLE": True}


@pytest.fixture
def files(tmp_path):
    """A UniFormer of two widths, one with STFM, and an MViT."""
    kinds = {"a_mvit": ("MViT", {}), "narrow": ("Uniformer", {}), "stfm": ("Uniformer", STFM)}
    kinds["wide"] = ("Uniformer", WIDE)
    for file, (name, extra) in kinds.items():
        values = {"MODEL.MODEL_NAME": name, "MODEL.NUM_CLASSES": 7}
        values |= MODEL_REGISTRY.get(name).spec.test_overrides | extra
        (tmp_path / f"{file}.yaml").write_text(yaml.safe_dump(nested(values)))
    return sorted(tmp_path.glob("*.yaml"))


@pytest.mark.parametrize(
    "name, extra, expected",
    [
        ("Uniformer", {}, "narrow"),
        ("Uniformer", WIDE, "wide"),
        ("Uniformer", STFM, "stfm"),
        ("MViT", {}, "a_mvit"),
        ("STAM", {}, None),
    ],
)
def test_the_best_filled_one_is_chosen(files, tmp_path, name, extra, expected):
    torch.save(build(name, extra)[1].state_dict(), tmp_path / "w.pth")
    file, networks = fitting_configuration(tmp_path / "w.pth", files, "K")
    assert (file and file.stem) == expected and name in networks


def test_share_by_hand():
    model = build("Uniformer")[1]
    state = dict(model.state_dict())
    assert equal_share(state, model) == 1.0
    name = "blocks3.0.attn.qkv.weight"
    total = sum(parameter.numel() for parameter in model.parameters())
    state[name] = state[name][1:]
    assert equal_share(state, model) == pytest.approx(1 - model.state_dict()[name].numel() / total)
