import csv

import pytest
import torch
from torch import nn

from slowfast.analysis.speed import checkpoints, report
from slowfast.analysis.speed.campaign import Campaign, Subject, count_operations, order
from slowfast.analysis.speed.campaign_report import run_campaign
from slowfast.analysis.speed.roofline import MACHINES, Operation, count_step, estimate
from slowfast.analysis.speed.step import random_batch
from slowfast.config.load import load_config
from slowfast.utils.runtime import Runtime

CPU = Runtime(torch.device("cpu"))
QUICK = Subject("quick", "configs/quickstart/stfm.yaml", ("DATA.NUM_FRAMES", "4", "NUM_GPUS", "0"))


class _Net(nn.Module):
    def __init__(self, groups):
        super().__init__()
        self.conv = nn.Conv3d(4, 4, 3, padding=1, groups=groups, bias=False)
        self.fc = nn.Linear(4, 5, bias=False)

    def forward(self, video):
        return self.fc(self.conv(video.expand(-1, 4, -1, -1, -1)).mean((2, 3, 4)))


def _flops(operations, word):
    return sum(op.flops for op in operations if word in op.name)


@pytest.mark.parametrize("groups", [1, 4])
def test_operations_by_hand(groups):
    network = _Net(groups)
    operations = count_step(network, (2, 1, 3, 8, 8), "fp32")
    # 2 clips, 4 channels out, 192 places, 27 weights per channel in of the group, multiply and add.
    forward = 2 * 2 * 4 * 192 * 27 * (4 // groups)
    assert _flops([op for op in operations if op.name == "convolution"], "") == forward
    # No gradient of the clip is needed: that of the weights alone.
    assert _flops(operations, "convolution_backward") == forward
    assert _flops(operations, "mm") == 3 * 2 * 2 * 4 * 5
    assert network.training and network.fc.weight.grad is None


def test_evaluation_counts_the_forward_pass_alone():
    operations = count_step(_Net(1), (2, 1, 3, 8, 8), "fp32", train=False)
    assert not [op for op in operations if "backward" in op.name]
    assert _flops(operations, "mm") == 2 * 2 * 4 * 5


def test_bytes_shrink_with_the_precision():
    full, half = (
        count_step(nn.Sequential(nn.Flatten(), nn.Linear(192, 5, bias=False)), (2, 3, 1, 8, 8), p)
        for p in ("fp32", "bf16")
    )
    products = [sum(op.bytes for op in ops if op.name == "mm") for ops in (full, half)]
    assert products[0] == 2 * products[1] > 0


def test_estimates_take_the_larger_of_products_and_memory():
    h200 = MACHINES[0]
    compute = Operation("mm", int(h200.bf16 * 1e12), 0)
    memory = Operation("add", 0, int(h200.bandwidth * 1e12))
    guess = next(estimate([compute, memory], "bf16"))
    assert (guess.machine, guess.operators) == ("H200", 2)
    assert (guess.peak_ms, guess.roofline_ms) == (1000.0, 2000.0)
    assert next(estimate([compute], "fp32")).peak_ms == pytest.approx(1000 * 989 / 67, abs=0.01)


def test_clips_have_the_layout_of_the_loader():
    cfg = load_config([QUICK.file], QUICK.words)
    loader, contiguous = (random_batch(cfg, 2, CPU, kind).video for kind in ("loader", "other"))
    assert loader.dtype == torch.uint8 and loader.shape == (2, 3, 4, 64, 64)
    assert loader.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(loader, contiguous)
    plain = random_batch(cfg, 2, CPU, "contiguous").video
    assert plain.is_contiguous() and torch.equal(plain, loader)


def test_the_most_important_variants_come_first():
    ranked = list(order([QUICK], ("fp32", "tf32", "bf16"), ("plain", "eager", "compiled")))
    kinds = [(precision, mode) for _, precision, mode in ranked]
    assert kinds[:4] == [("bf16", "eager"), ("tf32", "eager"), ("fp32", "eager"), ("bf16", "plain")]
    assert kinds[-1] == ("fp32", "compiled") and len(kinds) == 8
    assert ("tf32", "plain") not in kinds


def test_a_campaign_writes_what_was_measured_and_what_was_not(tmp_path):
    broken = Subject("broken", QUICK.file, (*QUICK.words, "MODEL.NUM_CLASSES", "3"))
    campaign = Campaign(CPU, batch=2, rounds=1)
    measure = campaign._measure

    def fail(cfg, row):
        if row.network == "broken":
            raise RuntimeError("no kernel for this")
        measure(cfg, row)

    def count(subjects):  # in this process: others would import PyTorch again
        for subject in subjects:
            campaign.operations |= count_operations((subject, 2, ()))

    campaign._measure, campaign.count = fail, count
    page = run_campaign(campaign, [QUICK, broken], tmp_path, ["bf16"], ["eager"]).read_text()
    good, bad = list(csv.DictReader((tmp_path / "steps.csv").open()))
    assert float(good["step_ms"]) > 0 and float(good["test_views_per_s"]) > 0
    assert bad["note"] == "failed: no kernel for this"
    assert "no kernel for this" in page and "nothing of this is measured" in page
    assert len(list(csv.DictReader((tmp_path / "estimates.csv").open()))) == 2 * 3 * len(MACHINES)
    assert len(list(csv.DictReader((tmp_path / "kernels.csv").open()))) > 0


def test_a_campaign_begins_nothing_after_its_time():
    row = Campaign(CPU, minutes=0.0).measure(QUICK, "fp32", "eager")
    assert row.note == "not measured: no time left" and row.step_ms == 0


def test_a_batch_that_does_not_fit_is_halved():
    campaign = Campaign(CPU, batch=4)

    def measure(cfg, row):
        if row.batch > 1:
            raise torch.OutOfMemoryError("too large")

    campaign._measure = measure
    assert campaign.measure(QUICK, "fp32", "eager").batch == 1


def test_checkpoints_are_complete_in_both_formats():
    cfg = load_config([QUICK.file], list(QUICK.words))
    figures = checkpoints.benchmark_checkpoint(cfg, rounds=1)
    sizes = figures["megabytes"]
    assert sizes["file"] == pytest.approx(sizes["distributed"], rel=0.5) and sizes["file"] > 1
    for form in ("file", "distributed"):
        assert 0 < figures[f"{form}_stands_still_s"] <= figures[f"{form}_complete_s"]


def test_page_of_a_large_test(monkeypatch, video):
    monkeypatch.setattr(report, "CLASSES", 8)
    monkeypatch.setattr(report, "PER_CLASS", 3)
    with_videos = report.benchmark_report([str(video)], rounds=1)
    assert (with_videos["videos"], with_videos["pictures"]) == (24, 1)  # all are the same file
    without = report.benchmark_report([], rounds=2)
    assert without["pictures"] == 0 and len(without["seconds"]) == 2
    assert 1 < without["megabytes"] < with_videos["megabytes"]
