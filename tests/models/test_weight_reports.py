"""What the report on loaded weights says, by hand; where released weights are looked for."""

from __future__ import annotations

import logging

import pytest
import torch

from slowfast.models.weights.convert import fit_convolution
from slowfast.models.weights.loader import LoadReport, find_pretrained, load_state, load_weights
from slowfast.utils.errors import UserError
from tests.models.helpers import build


def test_lines():
    report = LoadReport(
        "a project",
        matched=["a", "b", "c"],
        converted=["d"],
        head=["head.weight"],
        new=[f"n{i}" for i in range(6)],
        missing=[f"m{i}" for i in range(8)],
        unexpected=["x"],
        share=0.8125,
    )
    assert report.lines() == [
        "weights of a project: 3 tensors copied, 1 inflated or resized, 81.2 % of the parameters",
        "  head replaced (other number of classes), starts at random: head.weight",
        "  new in this network, start at random: n0, n1, n2, n3, n4, n5",
        "  missing in the file: m0, m1, m2, m3, m4, m5 and 2 more",
        "  in the file only: x",
    ]


def test_share_and_lists_by_hand():
    """One tensor is missing, one has another shape, one is not of this network; counters of batch
    normalisation count for nothing."""
    _, model = build("Uniformer", seed=3)
    state = dict(model.state_dict())
    missing, other = "blocks3.0.attn.qkv.weight", "blocks3.0.attn.proj.weight"
    lost = state.pop(missing).numel() + state[other].numel()
    state[other] = state[other][:-1]
    state |= {"extra.weight": torch.zeros(2), "extra.num_batches_tracked": torch.tensor(1)}
    report = load_state(model, state, min_match=0.0)
    total = sum(parameter.numel() for parameter in model.parameters())
    assert report.share == pytest.approx(1 - lost / total)
    assert (report.missing, report.mismatched) == ([missing], [other])
    assert report.unexpected == ["extra.weight"]
    assert not report.head and not report.new and not report.converted
    tensors = [n for n in model.state_dict() if not n.endswith("num_batches_tracked")]
    assert len(report.matched) == len(tensors) - 2


def test_inflation_can_be_refused():
    _, model = build("Uniformer", seed=3)
    name = "patch_embed1.proj.weight"
    state = {k: v[:, :, 0] if k == name else v for k, v in model.state_dict().items()}
    assert load_state(model, state).converted == [name]
    report = load_state(model, state, inflate=False, min_match=0.0)
    assert report.mismatched == [name] and not report.converted


def test_kernels_of_one_frame_and_other_tensors():
    weight = torch.arange(4.0).view(1, 1, 1, 2, 2)
    longer = fit_convolution("conv.weight", weight, (1, 1, 3, 2, 2))
    assert longer.shape == (1, 1, 3, 2, 2) and torch.allclose(longer.sum(2), weight[:, :, 0])
    assert fit_convolution("conv.weight", longer, (1, 1, 5, 2, 2)) is None  # not from three
    pool = fit_convolution("blocks.0.attn.pool_q.weight", weight, (1, 1, 3, 2, 2), image_init=True)
    assert torch.equal(pool[:, :, 1], weight[:, :, 0])
    plain = fit_convolution("blocks.0.conv.weight", weight, (1, 1, 3, 2, 2), image_init=True)
    assert torch.equal(plain, longer)
    assert fit_convolution("fc.weight", torch.zeros(2, 2), (3, 2)) is None


def test_the_report_is_logged(tmp_path, caplog):
    cfg, donor = build("FrameAverage", seed=3)
    torch.save(donor.state_dict(), tmp_path / "w.pth")
    with caplog.at_level(logging.INFO):
        load_weights(build("FrameAverage")[1], tmp_path / "w.pth", cfg)
    assert str(tmp_path / "w.pth") in caplog.text and "100.0 % of the parameters" in caplog.text
    with pytest.raises(UserError) as caught:
        load_weights(donor, tmp_path / "none.pth", cfg, key="TEST.CHECKPOINT_FILE_PATH")
    assert caught.value.problems[0].key == "TEST.CHECKPOINT_FILE_PATH"


def test_where_released_weights_are_looked_for(tmp_path):
    (tmp_path / "index.yaml").write_text("small.v2: {source: https://example.org/w}\n")
    for suffix in (".safetensors", ".pt", ".pyth", ".pth"):  # the last one made comes first
        (tmp_path / f"a{suffix}").touch()
        assert find_pretrained("a", str(tmp_path), "K") == tmp_path / f"a{suffix}"
        assert find_pretrained(str(tmp_path / f"a{suffix}"), "elsewhere", "K").suffix == suffix
    for name, missing in (
        ("small.v2", tmp_path / "small.v2.pth"),
        ("small.v2.pth", tmp_path / "small.v2.pth"),
        ("/data/small.v2.pt", "/data/small.v2.pt"),
        ("/data/small.v2.pth", "/data/small.v2.pth"),
    ):
        with pytest.raises(UserError, match=f"there is no {missing}\n.*https://example.org/w"):
            find_pretrained(name, str(tmp_path), "K")
