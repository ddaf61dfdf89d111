"""Few-shot heads against hand-computed values and plain definitions; their weights."""

from __future__ import annotations

import math

import pytest
import torch

from slowfast.config.load import load_config
from slowfast.layers.prototypes import alignment_cost, cosine_logits, euclidean_logits, otam_logits
from slowfast.layers.staf import StafHead
from slowfast.models.fewshot import Episode, build_fewshot
from slowfast.models.weights.loader import load_state
from slowfast.utils.errors import UserError
from tests.conftest import words

TINY = {
    "NUM_GPUS": 0,
    "TASK": "fewshot",
    "MODEL.MODEL_NAME": "ResNet3D",
    "RESNET3D.DEPTH": 10,
    "RESNET3D.WIDEN_FACTOR": 0.125,
    "RESNET3D.CONV1_T_SIZE": 3,
    "DATA.NUM_FRAMES": 4,
    "DATA.TRAIN_CROP_SIZE": 48,
    "DATA.TEST_CROP_SIZE": 48,
    "FEWSHOT.WAY": 3,
    "TSN.BACKBONE": "timm/test_byobnet",
    "TSN.INPUT": "data",
    "TSN.PARTIAL_BN": False,
}
METHODS = [
    {"FEWSHOT.METHOD": "staf"},
    {"FEWSHOT.METHOD": "prototype"},
    {"FEWSHOT.METHOD": "prototype", "FEWSHOT.DISTANCE": "cosine"},
    {"FEWSHOT.METHOD": "prototype", "MODEL.MODEL_NAME": "TSN"},
    {"FEWSHOT.METHOD": "otam", "MODEL.MODEL_NAME": "TSN"},
    {"FEWSHOT.METHOD": "trx", "MODEL.MODEL_NAME": "TSN", "FEWSHOT.TRX_DIM": 16},
    {"FEWSHOT.METHOD": "staf", "MODEL.MODEL_NAME": "TSN"},
]


def build(extra, classes=6, seed=0):
    cfg = load_config(overrides=words(TINY | extra))
    torch.manual_seed(seed)
    return cfg, build_fewshot(cfg, classes, "cpu")


def episode(shot=1, queries=2, way=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    video = torch.randn(way * shot + queries, 3, 4, 48, 48, generator=generator)
    labels = torch.arange(queries) % way
    return Episode(video, way, labels, labels + 1)


@pytest.mark.parametrize("extra", METHODS)
def test_every_method_learns_a_task(extra):
    _, model = build(extra)
    given = episode()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    history = []
    for _ in range(45):
        logits, losses = model(given)
        assert logits.shape == (2, 3)
        loss = sum(losses.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert min(history) < 0.8 * history[0] and math.isfinite(history[-1])


@pytest.mark.parametrize("extra", METHODS)
def test_what_is_trained_gets_a_gradient(extra):
    """Several processes would wait for the gradients of others for ever."""
    _, model = build(extra)
    sum(model.train()(episode())[1].values()).backward()
    idle = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle and any(p.requires_grad for p in model.base.parameters())
    others = [n for n, p in model.named_parameters() if not p.requires_grad]
    assert all(
        ".norm_v." in n or n.startswith(("base.fc.", "base.new_fc.", "base.consensus."))
        for n in others
    )


@pytest.mark.parametrize("extra", METHODS)
def test_order_of_shots_does_not_matter_but_that_of_classes_does(extra):
    _, model = build(extra)
    model.eval()
    given = episode(shot=2)
    shots = given.video.clone()
    shots[:6] = given.video[[1, 0, 3, 2, 5, 4]]
    classes = given.video.clone()
    classes[:6] = given.video[[2, 3, 0, 1, 4, 5]]
    with torch.no_grad():
        logits = model(given)[0]
        assert torch.allclose(model(given._replace(video=shots))[0], logits, atol=1e-4)
        swapped = model(given._replace(video=classes))[0]
    assert torch.allclose(swapped, logits[:, [1, 0, 2]], atol=1e-4)
    assert not torch.allclose(swapped, logits, atol=1e-6)


def test_prototypes_by_hand():
    support = torch.tensor([[[[1.0, 0.0]], [[0.0, 2.0]]]])
    query = torch.tensor([[[1.0, 1.0]]])
    assert euclidean_logits(support, query)[0, 0].tolist() == [-1.0, -2.0]
    cosines = cosine_logits(support, query)[0, 0]
    assert torch.allclose(cosines, torch.tensor([0.70711, 0.70711]), atol=0.01)


def hard_alignment(distances):
    """The cheapest path by trying all of them (the limit of no smoothing)."""
    rows, columns = distances.shape
    best = math.inf
    padded = torch.cat([torch.zeros(rows, 1), distances, torch.zeros(rows, 1)], dim=1)

    def walk(row, column, cost):
        nonlocal best
        cost = cost + float(padded[row, column])
        if (row, column) == (rows - 1, columns + 1):
            best = min(best, cost)
            return
        if column <= columns:
            walk(row, column + 1, cost)
        if row + 1 < rows and column <= columns:
            walk(row + 1, column + 1, cost)
        if row + 1 < rows and column in (0, columns + 1):
            walk(row + 1, column, cost)
        if row + 1 < rows and column == 1:
            walk(row + 1, column, cost)

    walk(0, 0, 0.0)
    return best


def test_alignment_is_the_cheapest_path():
    generator = torch.Generator().manual_seed(3)
    for rows in (2, 3, 4):
        distances = torch.rand(rows, rows, generator=generator)
        soft = alignment_cost(distances, 1e-4).item()
        assert soft == pytest.approx(hard_alignment(distances), abs=1e-3)


def test_alignment_of_many_frames_is_finite():
    """Written with plain exponentials it is infinite from about twelve frames on."""
    logits = otam_logits(torch.randn(1, 2, 1, 32, 8), torch.randn(1, 1, 32, 8))
    assert torch.isfinite(logits).all()


def test_alignment_sees_the_order_of_frames():
    frames = torch.eye(6)[None, None]
    support = torch.stack([torch.eye(6), torch.eye(6).flip(0)])[None, :, None]
    logits = otam_logits(support, frames[:, 0][:, None])[0, 0]
    assert logits[0] > logits[1] + 0.5


def test_a_single_query_leaves_normalisation_out():
    """The release's quirk: with one query its own attention is not normalised."""
    torch.manual_seed(0)
    head = StafHead(8, 4, 5, 7.0, 1.0).eval()
    head.cam.conv1.bn.running_mean.fill_(3.0)
    prototypes, queries = torch.randn(1, 3, 8, 4), torch.randn(1, 2, 8, 4)
    both = head.attend(prototypes, queries)
    alone = head.attend(prototypes, queries[:, :1])
    assert torch.allclose(both.queries[:, :1], alone.queries, atol=1e-6)
    assert not torch.allclose(both.own_queries[:, :1], alone.own_queries, atol=1e-4)


def test_tasks_on_one_axis_are_independent():
    torch.manual_seed(0)
    head = StafHead(8, 4, 5, 7.0, 0.5).eval()
    prototypes, queries = torch.randn(6, 3, 8, 4), torch.randn(6, 2, 8, 4)
    together = head.similarity(head.attend(prototypes, queries))
    for n in range(6):
        one = head.similarity(head.attend(prototypes[n : n + 1], queries[n : n + 1]))
        assert torch.allclose(together[n : n + 1], one, atol=1e-5)


def test_attention_is_between_one_and_two():
    torch.manual_seed(0)
    head = StafHead(8, 4, 5, 7.0, 0.5).eval()
    attention = head.cam(torch.rand(2, 3, 4, 4), True)
    assert (attention >= 1).all() and (attention <= 2).all()
    assert torch.allclose(attention.sum(-1), torch.full((2, 3), 5.0), atol=1e-5)


# -- weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_embedding_of_other_classes(prefix):
    from slowfast.models import build_model

    cfg, model = build({})
    donor = build_model(load_config(overrides=words(TINY | {"MODEL.NUM_CLASSES": 1139})))
    state = {k.removeprefix(prefix): v for k, v in donor.state_dict().items()}
    report = load_state(model, state)
    assert report.source == "3-D ResNet" and report.share == 1.0 and not report.missing
    assert sorted(report.head) == ["base.fc.bias", "base.fc.weight"]
    assert torch.equal(model.base.layer4[0].conv1.weight, donor.layer4[0].conv1.weight)


@pytest.mark.parametrize("wrapped", [False, True])
def test_released_staf_of_other_classes(wrapped):
    _, donor = build({}, classes=51, seed=3)
    _, model = build({})
    state = {}
    for name, value in donor.state_dict().items():
        part, _, rest = name.removeprefix("head.").partition(".")
        state[f"{part}.module.{rest}" if wrapped else f"{part}.{rest}"] = value
    report = load_state(model, state)
    assert report.source == "STAF" and report.share == 1.0
    assert sorted(report.head) == ["head.classifier.bias", "head.classifier.weight"]
    assert torch.equal(model.head.cam.conv2.weight, donor.head.cam.conv2.weight)


def test_another_size_of_maps_is_told():
    _, donor = build({"DATA.TRAIN_CROP_SIZE": 96, "DATA.TEST_CROP_SIZE": 96}, seed=3)
    _, model = build({})
    state = {n.removeprefix("head."): v for n, v in donor.state_dict().items()}
    report = load_state(model, state, min_match=0.5)
    assert "head.cam.conv2.weight" in report.mismatched


def test_frozen_classifier_of_the_embedding():
    _, model = build({})
    assert not model.base.fc.weight.requires_grad and model.base.conv1.weight.requires_grad


@pytest.mark.parametrize(
    "extra, message",
    [
        ({"FEWSHOT.METHOD": "otam"}, "otam compares frames"),
        ({"MODEL.MODEL_NAME": "FrameAverage"}, "FrameAverage gives .* staf compares maps"),
        ({"FEWSHOT.METHOD": "trx", "FEWSHOT.TRX_TUPLES": [2, 9]}, "cannot be tuples"),
        ({"FEWSHOT.CACHE": "c", "FEWSHOT.TEST_JITTER": True}, "draws other frames"),
    ],
)
def test_embeddings_that_a_method_cannot_use(extra, message):
    with pytest.raises(UserError, match=message):
        build(extra)
