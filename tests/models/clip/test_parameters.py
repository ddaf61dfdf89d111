"""What learns, how fast, and in which layer it is."""

from __future__ import annotations

import pytest

from slowfast.models.clip.parameters import LearningRateFactors
from tests.models.clip.helpers import NAME
from tests.models.helpers import build

RAW = {"MODEL.KEEP_RAW_MODEL": True, "MODEL.RAW_MODEL_DISTILLATION": True}


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


def test_factors_by_hand():
    factors = LearningRateFactors(default=0.5, message=3.0, adapter=4.0, mlp=5.0, text=0.1)
    block = "model.visual.transformer.resblocks.0."
    for name, factor in {
        f"{block}message_fc.weight": 3.0,
        f"{block}stadapt_up_1.bias": 4.0,
        f"{block}mlp.c_fc.weight": 5.0,
        f"{block}ln_1.weight": 0.5,
        "model.transformer.resblocks.0.mlp.c_fc.weight": 0.5,
        "model.text_projection": 0.05,
        "projector_v.0.weight": 0.5,
    }.items():
        assert factors.factor(name) == pytest.approx(factor), name


def test_layers_for_layer_decay():
    """Two visual blocks, one text block: embeddings 0, blocks 1 and 2, all that follows 3."""
    model = build(NAME, RAW | {"MODEL.TEXT_PROMPT": True})[1]
    layer = {name: model.spec.layer_of(model, name) for name, _ in model.named_parameters()}
    for name, number in {
        "model.visual.conv1.weight": 0,
        "model.visual.class_embedding": 0,
        "model.visual.positional_embedding": 0,
        "model.visual.ln_pre.weight": 0,
        "model.visual.transformer.resblocks.0.attn.in_proj_weight": 1,
        "model.visual.transformer.resblocks.1.mlp.c_fc.weight": 2,
        "model.visual.ln_post.weight": 3,
        "model.visual.proj": 3,
        "model.token_embedding.weight": 0,
        "model.positional_embedding": 0,
        "model.transformer.resblocks.0.ln_1.weight": 1,
        "model.ln_final.weight": 3,
        "model.text_projection": 3,
        "model.logit_scale": 3,
        "prompt_embed": 0,
        "projector_v.0.weight": 3,
    }.items():
        assert layer[name] == number, name
    assert set(layer.values()) == {0, 1, 2, 3}
