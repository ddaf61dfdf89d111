"""Few-shot networks: every method over its embeddings, their weights, methods of users."""

from __future__ import annotations

import inspect

import pytest
import torch
import torch.nn.functional as F

from slowfast.config.load import load_config
from slowfast.models import build_model
from slowfast.models.fewshot import EpisodeTargets, build_fewshot, split_episode
from slowfast.models.fewshot_heads import (
    FEWSHOT_REGISTRY,
    EpisodeOutput,
    FewShotHead,
    StafFewShotHead,
)
from slowfast.models.summary import measure_model
from slowfast.models.weights.loader import load_state
from slowfast.utils.errors import UserError
from tests.conftest import words
from tests.fewshot import TINY_FEWSHOT

TINY = TINY_FEWSHOT | {
    "DATA.TRAIN_CROP_SIZE": 48,
    "DATA.TEST_CROP_SIZE": 48,
    "DATA.TRAIN_JITTER_SCALES": [48, 52],
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
WAY = 3


def build(extra, num_classes=6, seed=0):
    cfg = load_config(overrides=words(TINY | extra))
    torch.manual_seed(seed)
    return build_fewshot(cfg, num_classes, "cpu")


def clips(shot=1, queries=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(WAY * shot + queries, 3, 4, 48, 48, generator=generator)


def targets(queries=2):
    labels = torch.arange(queries)[None] % WAY
    return EpisodeTargets(labels, labels + 1)


@pytest.mark.parametrize("extra", METHODS)
def test_every_method_learns_an_episode(extra):
    model = build(extra).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    history = []
    for _ in range(45):
        scores = model(clips(), WAY, 2, targets())
        assert scores.logits.shape == (1, 2, 3)
        loss = sum(scores.losses.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
        if history[-1] < 0.8 * history[0]:
            break
    assert history[-1] < 0.8 * history[0]


@pytest.mark.parametrize("extra", METHODS)
def test_what_is_trained_gets_a_gradient(extra):
    """Several processes would wait for missing gradients for ever."""
    model = build(extra).train()
    sum(model(clips(), WAY, 2, targets()).losses.values()).backward()
    idle = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle and any(p.requires_grad for p in model.base.parameters())
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad]
    assert all(
        ".norm_v." in n or n.startswith(("base.fc.", "base.new_fc.", "base.consensus."))
        for n in frozen
    )


@pytest.mark.parametrize("extra", METHODS)
def test_labels_change_losses_and_no_logits(extra):
    """Without labels there are the same logits and no losses."""
    model = build(extra).eval()
    with torch.no_grad():
        plain = model(clips(), WAY, 2)
        one = model(clips(), WAY, 2, targets())
        labels = torch.tensor([[2, 0]])
        other = model(clips(), WAY, 2, EpisodeTargets(labels, labels))
    assert plain.losses == {}
    assert torch.equal(plain.logits, one.logits) and torch.equal(plain.logits, other.logits)
    assert one.losses["loss_episode"] != other.losses["loss_episode"]


def test_no_head_takes_labels_in_its_forward_pass():
    for name in FEWSHOT_REGISTRY:
        head = FEWSHOT_REGISTRY.get(name)
        assert list(inspect.signature(head.forward).parameters) == ["self", "support", "queries"]


@pytest.mark.parametrize("extra", METHODS)
def test_order_of_shots_does_not_matter_but_that_of_classes_does(extra):
    model = build(extra).eval()
    video = clips(shot=2)
    shots, classes = video.clone(), video.clone()
    shots[:6] = video[[1, 0, 3, 2, 5, 4]]
    classes[:6] = video[[2, 3, 0, 1, 4, 5]]
    with torch.no_grad():
        logits = model(video, WAY, 2).logits
        assert torch.allclose(model(shots, WAY, 2).logits, logits, atol=1e-4)
        swapped = model(classes, WAY, 2).logits
    assert torch.allclose(swapped, logits[..., [1, 0, 2]], atol=1e-4)
    assert not torch.allclose(swapped, logits, atol=1e-6)


@pytest.mark.parametrize("extra", METHODS)
def test_embeddings_of_several_episodes_through_the_head(extra):
    """As cached embeddings go: the same logits as from the clips of each episode."""
    model = build(extra).eval()
    episodes = [clips(seed=seed) for seed in (1, 2)]
    with torch.no_grad():
        embeddings = torch.stack([model.embed(video) for video in episodes])
        logits = model.head(*split_episode(embeddings, WAY, 2)).logits
        for row, video in zip(logits, episodes):
            assert torch.allclose(row, model(video, WAY, 2).logits[0], atol=1e-5)


def test_an_episode_is_split_by_class():
    embeddings = torch.arange(8)[None, :, None]
    support, queries = split_episode(embeddings, 3, 2)
    assert support[0, :, :, 0].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert queries[0, :, 0].tolist() == [6, 7]


def test_losses_of_staf_against_loops():
    torch.manual_seed(0)
    head = StafFewShotHead(8, 4, num_classes=5, episode_loss_weight=0.5)
    support, queries = torch.randn(1, 3, 2, 8, 4), torch.randn(1, 2, 8, 4)
    labels, global_labels = torch.tensor([[2, 0]]), torch.tensor([[4, 1]])
    output = head(support, queries)
    losses = head.losses(output, labels, global_labels)
    scores = head.position_scores(output.context)[0]
    known = head.global_logits(output.context, labels)
    episode, over_all = [], []
    for q in range(2):
        for position in range(4):
            episode.append(F.cross_entropy(scores[q, :, position], labels[0, q]))
            over_all.append(F.cross_entropy(known[q, :, position], global_labels[0, q]))
    assert torch.allclose(losses["loss_episode"], 0.5 * torch.stack(episode).mean())
    assert torch.allclose(losses["loss_global"], torch.stack(over_all).mean())


def test_size_is_that_of_the_embedding_and_the_head():
    cfg = load_config(overrides=words(TINY))
    network, base = build({}), build_model(cfg)
    whole, embedding = (
        measure_model(network, cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE),
        measure_model(base, cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE),
    )
    head = sum(p.numel() for p in network.head.parameters())
    assert whole.parameters == embedding.parameters + head
    assert whole.gflops == pytest.approx(embedding.gflops, rel=0.01) and whole.gflops > 0


# -- methods and embeddings ------------------------------------------------------------------------


@pytest.fixture
def nearest():
    """A method of a user, registered for one test."""

    @FEWSHOT_REGISTRY.register("nearest")
    class NearestClip(FewShotHead):
        """The nearest clip of a class."""

        embedding_type = "vectors"

        def forward(self, support, queries):
            pairs = support[:, None] - queries[:, :, None, None]
            return EpisodeOutput(-pairs.norm(dim=-1).amin(-1))

    yield
    FEWSHOT_REGISTRY._objects.pop("nearest")


def test_a_method_of_one_class(nearest):
    model = build({"FEWSHOT.METHOD": "nearest"}).eval()
    video = clips(shot=2)
    video[6] = video[3]  # the first query is a support clip of class 1
    with torch.no_grad():
        scores = model(video, WAY, 2, targets())
    assert scores.logits[0, 0].argmax() == 1
    assert scores.logits[0, 0, 1].item() == pytest.approx(0, abs=1e-4)
    assert list(scores.losses) == ["loss_episode"]


@pytest.mark.parametrize(
    "extra, message",
    [
        ({"FEWSHOT.METHOD": "otam"}, "otam compares frames"),
        ({"MODEL.MODEL_NAME": "FrameAverage"}, "FrameAverage gives .* staf compares maps"),
    ],
)
def test_embeddings_that_a_method_cannot_use(extra, message):
    with pytest.raises(UserError, match=message):
        build(extra)


def test_frozen_classifier_of_the_embedding():
    model = build({})
    assert not model.base.fc.weight.requires_grad and model.base.conv1.weight.requires_grad


# -- weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_embedding_of_other_classes(prefix):
    model = build({})
    donor = build_model(load_config(overrides=words(TINY | {"MODEL.NUM_CLASSES": 1139})))
    state = {prefix + name: value for name, value in donor.state_dict().items()}
    report = load_state(model, state, clear_patterns=[prefix] if prefix else [])
    assert report.source == "3-D ResNet" and report.share == 1.0 and not report.missing
    assert sorted(report.head) == ["base.fc.bias", "base.fc.weight"]
    assert torch.equal(model.base.layer4[0].conv1.weight, donor.layer4[0].conv1.weight)


@pytest.mark.parametrize("wrapped", [False, True])
def test_released_staf_of_other_classes(wrapped):
    donor, model = build({}, num_classes=51, seed=3), build({})
    state = {}
    for name, value in donor.state_dict().items():
        part, _, rest = name.removeprefix("head.").partition(".")
        state[f"{part}.module.{rest}" if wrapped else f"{part}.{rest}"] = value
    report = load_state(model, state)
    assert report.source == "STAF" and report.share == 1.0
    assert sorted(report.head) == ["head.classifier.bias", "head.classifier.weight"]
    assert torch.equal(model.head.cam.conv2.weight, donor.head.cam.conv2.weight)


def test_each_method_names_its_checkpoint_formats():
    model = build({})
    assert [source.name for source in model.spec.sources[:1]] == ["STAF"]
    assert [source.name for source in FEWSHOT_REGISTRY.get("trx").sources] == ["TRX"]


def test_another_size_of_maps_is_reported():
    donor = build({"DATA.TRAIN_CROP_SIZE": 96, "DATA.TRAIN_JITTER_SCALES": [96, 96]}, seed=3)
    model = build({})
    state = {n.removeprefix("head."): v for n, v in donor.state_dict().items()}
    report = load_state(model, state, min_match=0.5)
    assert "head.cam.conv2.weight" in report.mismatched
