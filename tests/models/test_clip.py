"""CLIP over videos: patches left out, channels exchanged, texts, losses, settings."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F

from slowfast.config.load import load_config
from slowfast.models import build_model
from slowfast.models.base import MODEL_REGISTRY
from slowfast.models.clip import texts
from slowfast.models.clip.scores import prompt_scores
from slowfast.models.clip.stcross import CrossBlock, CrossOptions, mix_channels
from slowfast.models.clip.towers import Clip, ClipSizes, block_of, sizes_of
from slowfast.models.weights.loader import load_state
from slowfast.utils.errors import UserError
from tests.conftest import words
from tests.models.test_registry import build, clips

NAME = "TemporalClipVideo"
STDD = {"MODEL.TEMPORAL_MODELING_TYPE": "stcross_attend"}


# -- space-time cross attention ------------------------------------------------------------------


def test_pattern_of_patches():
    """Side 4, cells of 2 x 2: frame 0 leaves out the upper row of each cell, frame 1 the places 1
    and 2, frame 2 the lower row."""
    block = CrossBlock(64, CrossOptions()).eval()
    (kept,) = block.kept(1, 3, 4, torch.device("cpu"))
    assert kept[0].tolist() == [4, 5, 6, 7, 12, 13, 14, 15]
    assert kept[1].tolist() == [0, 5, 2, 7, 8, 13, 10, 15]
    assert kept[2].tolist() == [0, 1, 2, 3, 8, 9, 10, 11]


@pytest.mark.parametrize("rate, left", [(0.25, 12), (0.5, 8), (0.75, 4)])
def test_random_patterns_keep_their_share(rate, left):
    torch.manual_seed(0)
    options = CrossOptions(mask_rate=rate, shuffle=True, spatial_repeat=False)
    kept = CrossBlock(64, options).kept(5, 4, 4, torch.device("cpu"))
    assert kept.shape == (5, 4, left)
    cells = kept // 8 * 2 + kept % 4 // 2
    assert (F.one_hot(cells, 4).sum(2) == left // 4).all()  # as many of each cell
    assert all(len(set(frame)) == left for clip in kept.tolist() for frame in clip)
    assert len({str(clip) for clip in kept.tolist()}) == 5  # every clip draws its own


def test_channels_by_hand():
    x = torch.arange(1.0, 4.0)[None, :, None, None].expand(1, 3, 1, 16)  # frame t holds t + 1
    mixed = mix_channels(x, 4, 2)[0, :, 0]
    # c = 4: channels 0 to 3 from before (0 and 1 from two before), 4 to 7 from after (6, 7).
    assert mixed[0].tolist() == [0, 0, 0, 0, 2, 2, 3, 3] + [1] * 8
    assert mixed[1].tolist() == [1, 1, 1, 1, 3, 3, 3, 3] + [2] * 8
    assert mixed[2].tolist() == [1, 1, 2, 2, 0, 0, 0, 0] + [3] * 8


def slow_cross(block, x, frames):
    """STDD's block with loops and masks, after the specification."""
    options, (high, wide) = block.options, block.options.cell
    clips, side = len(x) // frames, int((x.shape[1] - 1) ** 0.5)
    places = high * wide
    dropped = int(options.mask_rate * frames * side * side) // (frames * side * side // places)
    cells = [
        [(r + a) * side + c + b for a in range(high) for b in range(wide)]
        for r in range(0, side, high)
        for c in range(0, side, wide)
    ]
    plain = x + block.attn(block.ln_1(x))
    out = plain.clone()
    for clip in range(clips):
        rows = slice(clip * frames, (clip + 1) * frames)
        kept = [
            [cell[p] for cell in cells for p in range(places) if (p - t) % places >= dropped]
            for t in range(frames)
        ]
        patches = torch.stack([x[rows][t, 1:][kept[t]] for t in range(frames)])
        total = 0
        for scale in options.scales:
            c = d = x.shape[-1] // options.channel_fold
            mixed = patches.clone()
            mixed[..., : 2 * c] = 0
            for i in range(scale):
                for t in range(frames):
                    if t + i + 1 < frames:
                        mixed[t + i + 1, :, :d] = patches[t, :, :d]
                    if t - i - 1 >= 0:
                        mixed[t - i - 1, :, 2 * c - d : 2 * c] = patches[t, :, 2 * c - d : 2 * c]
                d //= 2
            tokens = torch.cat([x[rows][:, :1], mixed], 1)
            total = total + tokens + block.attn(block.ln_1(tokens))
        crossed = total / len(options.scales)
        for t in range(frames):
            out[clip * frames + t, 0] = crossed[t, 0]
            for place, token in zip(kept[t], crossed[t, 1:]):
                out[clip * frames + t, 1 + place] = token
    return out + block.mlp(block.ln_2(plain))


@pytest.mark.parametrize(
    "options, frames, side",
    [
        (CrossOptions(channel_fold=8, scales=(1, 2)), 5, 6),
        (CrossOptions(mask_rate=0.75, channel_fold=16, scales=(3,)), 2, 4),
        (CrossOptions(mask_rate=0.25, cell=(1, 4), channel_fold=4, scales=(1, 2, 3)), 8, 4),
    ],
)
def test_block_is_that_of_the_specification(options, frames, side):
    torch.manual_seed(0)
    block = CrossBlock(64, options).eval()
    x = torch.randn(2 * frames, 1 + side * side, 64)
    with torch.no_grad():
        assert torch.allclose(block(x, frames), slow_cross(block, x, frames), atol=1e-5)


def test_evaluation_repeats_itself_unless_asked_not_to():
    for released in (False, True):
        cfg, model = build(NAME, STDD | {"CLIP.SHUFFLE_IN_EVAL": released})
        model.eval()
        with torch.no_grad():
            runs = [model(clips(cfg)) for _ in range(4)]
        assert all(torch.equal(runs[0], run) for run in runs) != released


def test_training_draws_from_the_generator():
    cfg, model = build(NAME, STDD)
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(model(clips(cfg)).detach())
    assert torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[0], outputs[2])


def test_recomputed_blocks_repeat_their_draws():
    gradients = []
    for recompute in (False, True):
        cfg, model = build(NAME, STDD | {"MODEL.ACT_CHECKPOINT": recompute})
        torch.manual_seed(3)
        model(clips(cfg)).square().mean().backward()
        gradients.append(model.model.visual.conv1.weight.grad)
    assert torch.allclose(*gradients, atol=1e-7)


# -- texts ---------------------------------------------------------------------------------------


def test_published_templates():
    assert len(texts.TEMPLATES) == len(set(texts.TEMPLATES)) == 28
    for known in (
        "a photo of {}.",
        "a video of a person doing {}.",
        "a example of a person {}.",
        "a demonstration of a person practicing {}.",
    ):
        assert known in texts.TEMPLATES


def test_tokens_of_openai():
    """Start 49406, "a photo of" 320 1125 539, "." 269, end 49407; no longer than needed."""
    tokens = texts.fill_templates(["a photo of {}."], ["cats", "cats and dogs"], 77)[0]
    assert tokens[0, :4].tolist() == [49406, 320, 1125, 539]
    assert tokens[0, 5:7].tolist() == [269, 49407] and tokens.shape == (2, 9)


def test_long_texts_lose_their_end(caplog):
    tokens = texts.tokenize(["one two three four five six seven"], 5)
    assert tokens.shape == (1, 5) and tokens[0, -1] == 49407
    assert "1 of 1 texts are longer than 5 tokens" in caplog.text


def test_padding_does_not_matter():
    torch.manual_seed(0)
    network = Clip(
        ClipSizes(8, 64, 1, 16, 32, 12, text_width=64, text_layers=2), block_of("", None)
    )
    tokens = texts.tokenize(["a cat"], 12)
    padded = F.pad(tokens, (0, 5))
    with torch.no_grad():
        assert torch.allclose(network.encode_text(tokens), network.encode_text(padded), atol=1e-6)


def test_mean_over_templates():
    states = torch.tensor([[[3.0, 0.0]], [[0.0, 0.5]]])  # two templates, one class
    mean = texts.mean_features(states, torch.eye(2))
    assert torch.allclose(mean, torch.tensor([[0.5**0.5, 0.5**0.5]]))


def test_several_texts_by_hand():
    """Frames (1, 0) and (0, 1). Texts (1, 0) and (0.6, 0.8): their best frames give (1 + 0.8) / 2,
    the frames' best texts (1 + 0.8) / 2. Texts (-1, 0) twice: 0 and (-1 + 0) / 2."""
    frames = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    prompts = torch.tensor([[[1.0, 0.0], [0.6, 0.8]], [[-1.0, 0.0], [-1.0, 0.0]]])
    scores = prompt_scores(frames, prompts, torch.tensor(10.0))
    assert torch.allclose(scores, torch.tensor([[9.0, -2.5]]))


def test_encoded_texts_are_found_again(tmp_path, caplog):
    caplog.set_level("INFO")
    extra = {"CLIP.TEXT_CACHE": str(tmp_path), "CLIP.TEMPLATES": ["a {}.", "the {}."]}
    cfg, model = build(NAME, extra)
    model.eval()
    with torch.no_grad():
        first = model(clips(cfg))
        (file,) = tmp_path.iterdir()
        _, again = build(NAME, extra)
        assert torch.equal(again.eval()(clips(cfg)), first)
        assert "encoded before" in caplog.text and len(list(tmp_path.iterdir())) == 1
        # Another name, another template, another network: other texts.
        for change in ({"DATA.CLASS_NAMES": list("abcde")}, {"CLIP.TEMPLATES": ["a {}."]}):
            build(NAME, extra | change)[1].eval()(clips(cfg))
        build(NAME, extra, seed=5)[1].eval()(clips(cfg))
        assert len(list(tmp_path.iterdir())) == 4
        file.write_bytes(b"broken")
        assert torch.equal(build(NAME, extra)[1].eval()(clips(cfg)), first)
        assert "cannot be read" in caplog.text


def test_stored_texts_know_no_mixed_precision(tmp_path):
    """A run in bfloat16 that encodes them first leaves what a run in float32 would have left."""
    torch.manual_seed(0)
    network = Clip(
        ClipSizes(8, 64, 1, 16, 32, 12, text_width=64, text_layers=2), block_of("", None)
    )
    tokens = texts.fill_templates(["a {}."], ["cat", "dog"], 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        stored = texts.encode_cached(network, tokens, str(tmp_path))
    assert stored.dtype == torch.float32
    assert torch.equal(texts.encode_cached(network, tokens, str(tmp_path)), stored)
    assert torch.equal(texts.encode(network, tokens), stored)


def test_any_classes_can_be_tested(tmp_path):
    """The same weights with another class map: other outputs, no error."""
    names = tmp_path / "mine.json"
    names.write_text(json.dumps({"0": "a cat", "1": "a dog", "2": "archery"}))
    cfg, model = build(NAME)
    extra = {"DATA.CLASS_NAMES": [], "DATA.INDEX_LABEL_MAPPING_FILE": names}
    other_cfg, other = build(NAME, extra)
    assert other_cfg.MODEL.NUM_CLASSES == 3 and cfg.MODEL.NUM_CLASSES == 5
    load_state(other, model.state_dict(), min_match=1.0)
    model.eval(), other.eval()
    with torch.no_grad():
        mine, theirs = other(clips(cfg)), model(clips(cfg))
    assert torch.allclose(mine[:, 2], theirs[:, 0], atol=1e-5)  # both call it archery


# -- training ------------------------------------------------------------------------------------

RAW = {"MODEL.KEEP_RAW_MODEL": True, "MODEL.RAW_MODEL_DISTILLATION": True}


def test_distillation_by_hand():
    cfg, model = build(NAME, RAW | {"MODEL.DISTILLATION_RATIO": 2.0})
    with torch.no_grad():  # away from the copy, and a projector that does something
        model.model.visual.proj.add_(torch.randn_like(model.model.visual.proj))
        model.projector_v[2].weight.normal_()
    video = clips(cfg)
    loss = model(video, with_losses=True)[1]["loss_distillation"]
    frames = model.forward_features(video)
    raw = F.normalize(model.raw_model.visual(video), dim=-1)
    moved = F.normalize(frames + 0.1 * model.projector_v(frames), dim=-1)
    assert torch.allclose(loss, 2 * (1 - (moved * raw).sum(-1).mean()), atol=1e-6)
    loss.backward()
    assert all(p.grad is None for p in model.raw_model.parameters())
    assert not model.raw_model.training
    model.eval()
    assert model(video, with_losses=True)[1] == {}


def test_the_copy_is_the_original_at_first():
    cfg, model = build(NAME, RAW)
    loss = model(clips(cfg), with_losses=True)[1]["loss_distillation"]
    # expand_temporal_view sees neighbours, the copy does not.
    assert loss > 1e-4
    cfg, model = build(NAME, RAW | {"MODEL.TEMPORAL_MODELING_TYPE": ""})
    assert model(clips(cfg), with_losses=True)[1]["loss_distillation"].abs() < 1e-6


def write_clip(path, seed=9):
    """Weights of a CLIP of the tiny sizes."""
    _, model = build(NAME, {"MODEL.TEMPORAL_MODELING_TYPE": ""}, seed=seed)
    state = {n.removeprefix("model."): v for n, v in model.state_dict().items()}
    torch.save(state, path)
    return state


def test_linear_connection_adds_the_gradient_on_the_way(tmp_path):
    """Weights half way to the original: their gradient, as it is, times the ratio."""
    state = write_clip(tmp_path / "clip.pt")
    extra = {
        "TRAIN.CLIP_ORI_PATH": tmp_path / "clip.pt",
        "TRAIN.LINEAR_CONNECT_CLIMB": True,
        "TRAIN.LINEAR_CONNECT_LOSS_RATIO": 0.5,
        "TRAIN.LINEAR_CONNECT_SAMPLE": False,
        "CLIP.TRAINED": ["visual", "text_projection", "logit_scale"],
        "MODEL.ARCH": "custom",
    }
    cfg, model = build(NAME, extra)
    video, labels = clips(cfg), torch.tensor([0, 1])
    scores, losses = model(video, with_losses=True)
    second = losses["loss_connection"]
    assert second.weight == 0.5
    F.cross_entropy(second.logits, labels).backward()
    between = build(NAME, extra)[1]
    with torch.no_grad():
        for name, parameter in between.model.named_parameters():
            if parameter.requires_grad and name in state:
                parameter.lerp_(state[name], 0.5)
    logits = between(video)
    assert torch.allclose(second.logits, logits, atol=1e-5)
    assert not torch.allclose(second.logits, scores, atol=1e-3)
    F.cross_entropy(logits, labels).backward()
    for (name, ours), theirs in zip(model.named_parameters(), between.parameters()):
        if ours.requires_grad:
            assert torch.allclose(ours.grad, theirs.grad, atol=1e-5), name
    assert not any("original" in name for name in model.state_dict())


def test_what_learns():
    def learning(extra):
        model = build(NAME, extra)[1]
        return {
            n.split(".")[1] if n.startswith("model.") else n.split(".")[0]
            for n, p in model.named_parameters()
            if p.requires_grad
        }

    assert learning({}) == {"visual", "text_projection"}
    assert learning({"TUNE_HEAD": True}) == {"visual", "head"}
    assert learning({"MODEL.TEXT_PROMPT": True}) == {"visual", "text_projection", "prompt_embed"}
    assert learning(RAW) == {"visual", "text_projection", "projector_v"}
    everything = {"CLIP.TRAINED": ["visual", "text", "text_projection", "logit_scale"]}
    assert {"transformer", "token_embedding", "ln_final", "logit_scale"} <= learning(everything)


def test_factors_of_learning_rates():
    extra = {
        "MODEL.TEMPORAL_MODELING_TYPE": "cross_frame_attend",
        "MODEL.FINETUNE_FACTOR": 10.0,
        "MODEL.MLP_FINETUNE_FACTOR": 0.5,
        "CLIP.TEXT_FACTOR": 0.1,
    }
    model = build(NAME, extra)[1]
    factors = model.spec.param_multipliers(model)
    block = "model.visual.transformer.resblocks.0."
    assert factors[f"{block}message_fc.weight"] == (1.0, 10.0)
    assert factors[f"{block}mlp.c_fc.weight"] == (1.0, 0.5)
    assert factors["model.text_projection"] == (1.0, 0.1)
    assert f"{block}ln_1.weight" not in factors


def test_tuned_head_begins_as_the_texts(tmp_path):
    write_clip(tmp_path / "clip.pt")
    cfg, model = build(NAME, {"TUNE_HEAD": True})
    cfg, plain = build(NAME)
    for network in (model, plain):
        load_state(network, torch.load(tmp_path / "clip.pt"))
        network.eval()
    with torch.no_grad():
        assert torch.allclose(model(clips(cfg)), plain(clips(cfg)), atol=1e-5)
        model.head.add_(1.0)
        model.eval()
        again = build(NAME, {"TUNE_HEAD": True})[1].eval()
        again.load_state_dict(model.state_dict())  # a trained head stays
        assert torch.equal(again(clips(cfg)), model(clips(cfg)))


def test_prompt_of_the_placeholder_is_the_plain_text():
    """Learned tokens that are the placeholder's embedding change nothing."""
    cfg, model = build(NAME, {"MODEL.TEXT_PROMPT": True, "MODEL.PROMPT_NUM": 2})
    plain = build(NAME, {"CLIP.TEMPLATES": ["X X {}."]})[1]
    plain.load_state_dict(model.state_dict(), strict=False)
    with torch.no_grad():
        model.prompt_embed.copy_(model.model.token_embedding(model.tokens[0, 0, 1:3]))
        model.eval(), plain.eval()
        assert torch.allclose(model(clips(cfg)), plain(clips(cfg)), atol=1e-5)


def test_ensemble_mixes_scores():
    extra = {"MODEL.KEEP_RAW_MODEL": True, "MODEL.ENSEMBLE_PRED": True}
    outputs = {}
    for share in (0.0, 0.3, 1.0):
        cfg, model = build(NAME, extra | {"MODEL.ENSEMBLE_RAWMODEL_RATIO": share})
        with torch.no_grad():
            outputs[share] = model.eval()(clips(cfg))
    assert torch.allclose(outputs[0.3], 0.7 * outputs[0.0] + 0.3 * outputs[1.0], atol=1e-5)
    assert not torch.allclose(outputs[0.0], outputs[1.0], atol=1e-3)


def test_texts_follow_the_weights():
    """Trained text towers are read anew in every evaluation."""
    cfg, model = build(NAME, {"CLIP.TRAINED": ["visual", "text", "text_projection"]})
    model.eval()
    with torch.no_grad():
        before = model(clips(cfg))
        model.train()
        model.model.ln_final.weight.mul_(-1)
        model.eval()
        assert not torch.allclose(model(clips(cfg)), before, atol=1e-3)


# -- bad input -----------------------------------------------------------------------------------


def refused(extra: dict) -> str:
    tiny = {"NUM_GPUS": 0, "MODEL.MODEL_NAME": NAME} | MODEL_REGISTRY.get(NAME).spec.test_overrides
    with pytest.raises(UserError) as caught:
        build_model(load_config(overrides=words(tiny | extra)))
    return str(caught.value)


@pytest.mark.parametrize(
    "extra, expected",
    [
        ({"DATA.CLASS_NAMES": []}, "DATA.INDEX_LABEL_MAPPING_FILE: this network reads the names"),
        ({"MODEL.ARCH": "vitb17"}, "MODEL.ARCH: 'vitb17' is not one of vitb32, vitb16, vitl14"),
        ({"MODEL.RAW_MODEL_DISTILLATION": True}, "set MODEL.KEEP_RAW_MODEL True"),
        ({"MODEL.ENSEMBLE_PRED": True}, "MODEL.ENSEMBLE_PRED: needs the frozen copy"),
        ({"TRAIN.LINEAR_CONNECT_CLIMB": True}, "set TRAIN.CLIP_ORI_PATH"),
        ({"MODEL.NUM_EXPERTS": 2}, "MODEL.NUM_EXPERTS"),
        ({"TUNE_HEAD": True, "MODEL.TEXT_PROMPT": True}, "TUNE_HEAD: excludes MODEL.TEXT_PROMPT"),
        ({"DATA.TRAIN_CROP_SIZE": 36}, "DATA.TRAIN_CROP_SIZE: 36 is not a whole number of patches"),
        (STDD | {"DATA.TEST_CROP_SIZE": 40}, "in cells of 2 x 2"),
        (STDD | {"MODEL.MASK_STRIDE": [2, 2, 2]}, "MODEL.MASK_STRIDE: [2, 2, 2]"),
        ({"CLIP.WIDTH": 100}, "CLIP.WIDTH: is not a multiple of 64"),
        ({"CLIP.TRAINED": ["vision"]}, "CLIP.TRAINED: ['vision'] are unknown"),
        ({"CLIP.TEMPLATES": ["a photo."]}, "'a photo.' has no place for a class name"),
        ({"DATA.TEXT_AUG": True}, "DATA.TEXT_AUG_FEATURE_FILE: is not set"),
        (
            {"DATA.TEXT_AUG": True, "DATA.TEXT_AUG_FEATURE_FILE": "none.pt"},
            "there is no file none.pt",
        ),
    ],
)
def test_settings_that_cannot_work(extra, expected):
    assert expected in refused(extra)


@pytest.mark.parametrize(
    "shape, expected",
    [
        ((5, 3, 16), "holds features of width 16, this CLIP's have 32"),
        ((4, 3, 32), "has texts of 4 classes, there are 5"),
        ((5,), "classes x texts x width is needed"),
    ],
)
def test_text_features_that_do_not_fit(shape, expected, tmp_path):
    torch.save(torch.randn(shape), tmp_path / "f.pt")
    words = {"DATA.TEXT_AUG": True, "DATA.TEXT_AUG_FEATURE_FILE": tmp_path / "f.pt"}
    assert expected in refused(words)


def test_text_features_that_cannot_be_read(tmp_path):
    for name in ("f.pt", "f.safetensors"):
        (tmp_path / name).write_bytes(b"no tensor")
        text = refused({"DATA.TEXT_AUG": True, "DATA.TEXT_AUG_FEATURE_FILE": tmp_path / name})
        assert f"{name} cannot be read" in text and "DATA.TEXT_AUG_FEATURE_FILE" in text


def test_text_features_of_a_file(tmp_path):
    features = torch.randn(5, 3, 32)
    torch.save(features, tmp_path / "f.pt")
    file = {"DATA.TEXT_AUG": True, "DATA.TEXT_AUG_FEATURE_FILE": tmp_path / "f.pt"}
    cfg, model = build(NAME, file)
    model.eval()
    with torch.no_grad():
        scale = model.model.logit_scale.exp()
        wanted = prompt_scores(
            model.forward_features(clips(cfg)), F.normalize(features, dim=-1), scale
        )
        assert torch.equal(model(clips(cfg)), wanted)
    assert not model.model.text_projection.requires_grad  # nobody asks it


def test_class_map_with_gaps(tmp_path):
    (tmp_path / "map.json").write_text('{"0": "a", "2": "b"}')
    extra = {"DATA.CLASS_NAMES": [], "DATA.INDEX_LABEL_MAPPING_FILE": tmp_path / "map.json"}
    text = refused(extra)
    assert "without gaps, 1 is missing" in text and "map.json" in text


def test_tokenizer_missing(monkeypatch):
    texts.load_tokenizer.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "open_clip.tokenizer", None)
    assert 'pip install "slowfast[clip]"' in refused({})
    texts.load_tokenizer.cache_clear()


def test_vocabulary_missing(monkeypatch):
    import open_clip.tokenizer

    def missing():
        raise FileNotFoundError("bpe_simple_vocab_16e6.txt.gz")

    texts.load_tokenizer.cache_clear()
    monkeypatch.setattr(open_clip.tokenizer, "SimpleTokenizer", missing)
    assert "open_clip has no vocabulary: bpe_simple_vocab" in refused({})
    texts.load_tokenizer.cache_clear()


def test_sizes_are_read_off():
    sizes = ClipSizes(16, 128, 3, 48, 64, 20, text_width=64, text_layers=2)
    network = Clip(sizes, block_of("", None))
    assert sizes_of(network.state_dict()) == sizes
    with pytest.raises(UserError, match="no weights of a CLIP"):
        sizes_of({"conv1.weight": torch.zeros(1)})
