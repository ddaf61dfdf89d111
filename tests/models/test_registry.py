"""Every registered model: build, run, learn, save, load. New models are tested by being there."""

from __future__ import annotations

import pytest
import torch

from slowfast.models import build_model
from slowfast.models.build import set_train_mode
from slowfast.models.summary import measure_model
from tests.models.helpers import NAMES, VARIANTS, build, clips, to_eval


def says(name, extra, text):
    """A message of a failed test: which network, and what is asked of it."""
    return f"{name} {extra or ''}: {text}"


@pytest.mark.parametrize("name, extra", VARIANTS)
def test_builds_runs_and_learns(name, extra):
    cfg, model = build(name, extra | {"UNIFORMER.DROP_DEPTH_RATE": 0.0})
    video, labels = clips(cfg, 4), torch.tensor([0, 1, 2, 3])
    logits, losses = model(video, with_losses=True)
    shape = f"logits of 4 clips and 5 classes are 4 x 5, not {tuple(logits.shape)}"
    assert logits.shape == (4, 5), says(name, extra, shape)
    assert isinstance(losses, dict), says(name, extra, "with_losses=True gives (logits, dict)")
    assert torch.isfinite(logits).all(), says(name, extra, "logits are finite at the start")
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    history = []
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(model(video), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    learned = (
        "30 steps of AdamW with learning rate 3e-3 on 4 clips of noise with 4 labels must lower "
        f"the cross entropy to 70 % of the first, it went {history[0]:.2f} -> {history[-1]:.2f}; "
        "spec.test_overrides must switch off dropout and describe a network that can overfit them"
    )
    assert history[-1] < 0.7 * history[0], says(name, extra, learned)


@pytest.mark.parametrize("name, extra", VARIANTS)
def test_clips_do_not_see_each_other(name, extra):
    cfg, model = build(name, extra)
    to_eval(model)
    video = clips(cfg, 3)
    with torch.no_grad():
        together, alone = model(video), model(video[1:2])
    independent = "in evaluation the logits of a clip do not depend on the other clips of its batch"
    assert torch.allclose(together[1:2], alone, atol=1e-5), says(name, extra, independent)


@pytest.mark.parametrize("name, extra", [v for v in VARIANTS if "stcross_attend" not in str(v)])
def test_gradients_of_clips_add_up(name, extra):
    """The gradient of a batch is that of its clips one by one (frozen statistics).

    STDD draws its patches anew for every clip: it has no such gradient.
    """
    cfg, model = build(name, extra | {"UNIFORMER.DROP_DEPTH_RATE": 0.0})
    set_train_mode(model, frozen_bn=True)
    video, labels = clips(cfg, 3), torch.tensor([0, 1, 2])
    gradients = []
    for parts in ([[0, 1, 2]], [[0], [1], [2]], [[0], [1, 2]]):
        model.zero_grad(set_to_none=False)
        for part in parts:
            loss = torch.nn.functional.cross_entropy(model(video[part]), labels[part])
            (loss * len(part) / 3).backward()
        gradients.append(
            {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        )
    assert gradients[0], says(name, extra, "a training step gives gradients")
    for other in gradients[1:]:
        for key, value in gradients[0].items():
            additive = (
                f"the gradient of {key} over three clips is the sum of those of each clip (with "
                "frozen batch normalisation), so that accumulated steps equal large batches"
            )
            assert torch.allclose(value, other[key], rtol=1e-3, atol=1e-5), says(
                name, extra, additive
            )


@pytest.mark.parametrize("name, extra", VARIANTS)
def test_save_and_load(name, extra, tmp_path):
    cfg, model = build(name, extra)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    _, other = build(name, extra, seed=7)
    video = clips(cfg)
    to_eval(model), to_eval(other)
    with torch.no_grad():
        random = "another seed gives other weights: draw them from PyTorch's generator"
        assert not torch.equal(model(video), other(video)), says(name, extra, random)
        other.load_state_dict(torch.load(tmp_path / "w.pth", weights_only=True))
        to_eval(other)
        complete = "the state dict holds all that the logits depend on"
        assert torch.equal(model(video), other(video)), says(name, extra, complete)


@pytest.mark.parametrize("name", NAMES)
def test_train_without_noise_is_eval(name):
    """With batch norm at its running statistics nothing else differs between the modes."""
    cfg, model = build(name, {"UNIFORMER.DROP_DEPTH_RATE": 0.0})
    video = clips(cfg)
    set_train_mode(model, frozen_bn=True)
    with torch.no_grad():
        trained = model(video)
        to_eval(model)
        quiet = (
            "with frozen batch normalisation the variant of spec.test_overrides gives the same "
            "logits in training and evaluation: it must switch off dropout and drop path"
        )
        assert torch.allclose(trained, model(video), atol=1e-6), says(name, {}, quiet)


@pytest.mark.parametrize("name, extra", VARIANTS)
def test_features_lead_to_logits(name, extra):
    cfg, model = build(name, extra)
    to_eval(model)
    with torch.no_grad():
        logits = model.classify(model.forward_features(clips(cfg)))
        composed = "model(video) is classify(forward_features(video))"
        assert torch.allclose(logits, model(clips(cfg)), atol=1e-6), says(name, extra, composed)


@pytest.mark.parametrize("name, extra", VARIANTS)
def test_size_is_measured(name, extra):
    cfg, model = build(name, extra)
    size = measure_model(model, cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE)
    assert size.parameters == sum(p.numel() for p in model.parameters())
    counted = "fvcore counts operations of the network"
    assert size.gflops > 0 and size.mega_activations > 0, says(name, extra, counted)
    assert model.training  # left as it was


@pytest.mark.parametrize("name", NAMES)
def test_no_weight_decay_names_exist(name):
    _, model = build(name)
    for part in model.spec.no_weight_decay(model) - {"cls_token"}:
        exists = f"spec.no_weight_decay names {part}, which is part of no parameter's name"
        found = any(part in parameter for parameter, _ in model.named_parameters())
        assert found, says(name, {}, exists)


@pytest.mark.parametrize("name", NAMES)
def test_classifier_and_layers_are_named(name):
    """Prefixes and layer numbers of the specification fit the parameters there are."""
    _, model = build(name)
    names = [parameter for parameter, _ in model.named_parameters()]
    # A network that knows classes by their names need not have a classifier.
    for prefix in () if model.spec.open_vocabulary else model.spec.classifier_of(model):
        exists = f"spec.classifier_prefixes names {prefix}, with which no parameter begins"
        assert any(n.startswith(prefix) for n in names), says(name, {}, exists)
    if model.spec.layer_of is not None:
        layers = {n: model.spec.layer_of(model, n) for n in names}
        ordered = "spec.layer_of numbers layers from 0, and the classifier has the largest number"
        assert min(layers.values()) == 0, says(name, {}, ordered)
        for n in names:
            if n.startswith(model.spec.classifier_of(model)):
                assert layers[n] == max(layers.values()), says(name, {}, ordered)


def test_num_classes_replaces_the_configured_number():
    cfg, _ = build("FrameAverage")
    model = build_model(cfg, num_classes=9)
    assert model.head.out_features == 9 and cfg.MODEL.NUM_CLASSES == 5
