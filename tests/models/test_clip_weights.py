"""CLIP's weights: archives that are read and never run, names of other projects, mixtures."""

from __future__ import annotations

import io
import os
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from slowfast.config.load import load_config
from slowfast.engine.initial import load_tested_weights
from slowfast.engine.network import build_network
from slowfast.models.clip.sizes import ARCHITECTURES
from slowfast.models.clip.towers import CLIP
from slowfast.models.weights.loader import find_pretrained, load_state, load_weights
from slowfast.models.weights.read import read_checkpoint
from slowfast.utils.errors import UserError
from tests.conftest import ROOT, words
from tests.models.helpers import build, clips

NAME = "TemporalClipVideo"
PLAIN = {"MODEL.TEMPORAL_MODELING_TYPE": ""}


class Holder(nn.Module):
    """A module tree with the names of a state dict, as TorchScript needs it."""

    def __init__(self, state: dict[str, torch.Tensor]):
        super().__init__()
        children: dict[str, dict] = {}
        for name, value in state.items():
            head, _, rest = name.partition(".")
            if rest:
                children.setdefault(head, {})[rest] = value
            else:
                self.register_parameter(head, nn.Parameter(value, requires_grad=False))
        for head, inner in children.items():
            self.add_module(head, Holder(inner))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def write_archive(path, state, **constants):
    holder = Holder(state)
    for name, value in constants.items():
        holder.register_buffer(name, torch.tensor(value))
    torch.jit.save(torch.jit.script(holder), path)


def clip_state(model) -> dict[str, torch.Tensor]:
    start = "model."
    return {n[len(start) :]: v for n, v in model.state_dict().items() if n.startswith(start)}


def test_archive_holds_what_was_put_in(tmp_path):
    state = {
        "a.weight": torch.randn(3, 4).half(),
        "a.bias": torch.randn(3),
        "b.c.table": torch.eye(2),
        "scale": torch.tensor(4.6),
        "a.strided": torch.randn(4, 6).t(),
        "empty": torch.zeros(0, 2),
    }
    write_archive(tmp_path / "a.pt", state, input_resolution=224)
    found = read_checkpoint(tmp_path / "a.pt")["model_state"]
    assert int(found.pop("input_resolution")) == 224
    assert found.keys() == state.keys()
    assert all(torch.equal(found[n], v) and found[n].dtype == v.dtype for n, v in state.items())


def test_full_size_archive_equals_the_state_dict(tmp_path):
    """ViT-B/16 with seeded random weights in half precision, as OpenAI's file holds them."""
    torch.manual_seed(0)
    with torch.device("meta"):
        shapes = CLIP(ARCHITECTURES["vitb16"]).state_dict()
    state = {n: (0.02 * torch.randn(v.shape)).half() for n, v in shapes.items()}
    assert sum(v.numel() for v in state.values()) == 149_620_737
    constants = {"input_resolution": 224, "context_length": 77, "vocab_size": 49408}
    write_archive(tmp_path / "ViT-B-16.pt", state, **constants)
    torch.save(state, tmp_path / "state.pt")
    extra = {
        "NUM_GPUS": 0,
        "MODEL.MODEL_NAME": NAME,
        "MODEL.ARCH": "vitb16",
        "CLIP.TEXT_CACHE": "",
        "MODEL.TEMPORAL_MODELING_TYPE": "stcross_attend",
        "DATA.CLASS_NAMES": ["a", "b"],
        "DATA.TEST_CROP_SIZE": 224,
        "CLIP.TEMPLATES": ["a photo of {}."],
    }
    cfg = load_config(overrides=words(extra))
    model = build_network(cfg)
    weights = []
    for name in ("ViT-B-16.pt", "state.pt"):
        load_weights(model, tmp_path / name, cfg)
        weights.append({n: v.clone() for n, v in model.model.state_dict().items()})
    assert weights[0].keys() == state.keys()
    assert all(torch.equal(weights[0][n], weights[1][n]) for n in state)
    assert all(torch.equal(weights[0][n], v.float()) for n, v in state.items())


def malicious(path, payload: bytes):
    """A TorchScript archive whose data.pkl is ``payload``."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", payload)
        archive.writestr("m/constants.pkl", b"\x80\x02).")
        archive.writestr("m/code/__torch__.py", "")
        archive.writestr("m/version", "3\n")


class Attack:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "attack",
    [
        Attack(os.system, "touch was_here"),
        Attack(eval, "open('was_here', 'w')"),
        Attack(getattr, "text", "upper"),
        Attack(torch._utils._rebuild_tensor_v2, torch.float32, 0, (1,), (1,), False, None),
    ],
)
def test_archives_are_not_executed(attack, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    malicious(tmp_path / "bad.pt", pickle.dumps({"x": attack}, protocol=2))
    with pytest.raises(UserError, match="holds more than tensors") as caught:
        read_checkpoint(tmp_path / "bad.pt", "TRAIN.CLIP_ORI_PATH")
    assert "TRAIN.CLIP_ORI_PATH" in str(caught.value)
    assert not os.path.exists("was_here")


def test_memory_beyond_the_file_is_refused(tmp_path):
    """A tensor larger than its memory (one number, repeated by a stride of 0), and one without."""

    class Writer(pickle.Pickler):
        def __init__(self, file, key):
            super().__init__(file, protocol=2)
            self.key = key

        def persistent_id(self, given):
            kind = torch.FloatStorage
            return ("storage", kind, self.key, "cpu", 4) if given == "memory" else None

    for key in ("0", "7"):
        file = io.BytesIO()
        rebuild = Attack(torch._utils._rebuild_tensor_v2, "memory", 0, (10**15,), (0,), False, None)
        Writer(file, key).dump({"w": rebuild})
        malicious(tmp_path / "bad.pt", file.getvalue())
        with zipfile.ZipFile(tmp_path / "bad.pt", "a") as archive:
            archive.writestr("m/data/0", bytes(16))
        with pytest.raises(UserError):
            read_checkpoint(tmp_path / "bad.pt", "KEY")


def test_every_project_starts_the_network(tmp_path):
    _, donor = build(NAME, PLAIN, seed=3)
    state = clip_state(donor)
    video = {f"model.{n}": v for n, v in state.items()}
    extra_names = {
        "projector_v.0.weight": torch.zeros(32, 32),
        "projector_t.0.weight": torch.zeros(32, 32),
    } | {f"raw_model.{n}": v + 1 for n, v in state.items()}
    text = (
        "transformer.",
        "token_embedding.",
        "positional_embedding",
        "ln_final.",
        "text_projection",
    )
    apart = {f"text.{n}" if n.startswith(text) else n: v for n, v in state.items()}
    files = {
        "openai": state | {"input_resolution": torch.tensor(32), "vocab_size": torch.tensor(9)},
        "open_clip": {"state_dict": {f"module.{n}": v for n, v in state.items()}},
        "open_clip_custom": apart,
        "stdd": {"model_state": video},
        "froster": {"model_state": video | extra_names},
    }
    save_file({n: v.clone() for n, v in state.items()}, tmp_path / "open_clip.safetensors")
    for name, content in files.items():
        torch.save(content, tmp_path / f"{name}.pt")
    for path in sorted(tmp_path.iterdir()):
        name = path.name
        cfg, model = build(NAME, PLAIN)
        load_weights(model, path, cfg)
        assert all(torch.equal(v, state[n]) for n, v in clip_state(model).items()), name


def test_frozen_copy_starts_with_the_original_and_is_kept():
    _, donor = build(NAME, PLAIN, seed=3)
    raw = PLAIN | {"MODEL.KEEP_RAW_MODEL": True, "MODEL.RAW_MODEL_DISTILLATION": True}
    _, model = build(NAME, raw)
    load_state(model, clip_state(donor))
    assert torch.equal(model.raw_model.visual.proj, donor.model.visual.proj)
    with torch.no_grad():
        model.model.visual.proj.add_(1)
    _, again = build(NAME, raw)
    load_state(again, model.state_dict(), min_match=1.0)
    assert torch.equal(again.raw_model.visual.proj, donor.model.visual.proj)
    with pytest.raises(UserError, match="fills only 50"):  # nothing to distil from
        load_state(build(NAME, raw)[1], donor.state_dict())


def test_new_parts_start_by_themselves():
    _, donor = build(NAME, PLAIN, seed=3)
    for kind in ("stadapt_zeroinit", "cross_frame_attend"):
        _, model = build(NAME, {"MODEL.TEMPORAL_MODELING_TYPE": kind})
        report = load_state(model, clip_state(donor), min_match=1.0)
        assert report.new and not report.missing


def test_another_architecture_is_named():
    _, donor = build(NAME, {"CLIP.LAYERS": 3})
    with pytest.raises(
        UserError, match="3 layers of 64.*the network has .*2 layers of 64"
    ) as caught:
        load_state(build(NAME)[1], clip_state(donor))
    assert "MODEL.ARCH" in str(caught.value)


def test_sizes_come_with_the_weights(tmp_path):
    _, donor = build(NAME, PLAIN | {"CLIP.LAYERS": 3, "CLIP.EMBED_DIM": 48})
    torch.save(clip_state(donor), tmp_path / "clip.pt")
    _, model = build(NAME, {"TRAIN.CLIP_ORI_PATH": tmp_path / "clip.pt"})
    assert model.model.sizes.layers == 3 and model.model.sizes.embed_dim == 48


def test_other_crops_resize_the_positions():
    _, donor = build(NAME, PLAIN)
    _, model = build(NAME, PLAIN | {"DATA.TRAIN_CROP_SIZE": 48, "DATA.TEST_CROP_SIZE": 48})
    report = load_state(model, clip_state(donor))
    assert report.converted == ["model.visual.positional_embedding"]
    positions = model.model.visual.positional_embedding
    assert positions.shape == (37, 64)
    assert torch.equal(positions[0], donor.model.visual.positional_embedding[0])


@pytest.mark.parametrize("ratio", [0.0, 0.25, 1.0])
def test_patching_mixes_original_and_trained(ratio, tmp_path):
    _, original = build(NAME, PLAIN, seed=3)
    _, trained = build(NAME, PLAIN, seed=4)
    torch.save(clip_state(original), tmp_path / "clip.pt")
    torch.save({"model_state": trained.state_dict()}, tmp_path / "trained.pyth")
    files = {
        "TEST.CLIP_ORI_PATH": tmp_path / "clip.pt",
        "TEST.PATCHING_MODEL": True,
        "TEST.CHECKPOINT_FILE_PATH": tmp_path / "trained.pyth",
        "TEST.PATCHING_RATIO": ratio,
    }
    cfg, model = build(NAME, PLAIN | files)
    load_tested_weights(cfg, model)
    for name, value in clip_state(model).items():
        wanted = torch.lerp(clip_state(trained)[name], clip_state(original)[name], ratio)
        assert torch.allclose(value, wanted), name


def test_clip_itself_can_be_tested(tmp_path):
    _, original = build(NAME, PLAIN, seed=3)
    torch.save(clip_state(original), tmp_path / "clip.pt")
    cfg, model = build(
        NAME, PLAIN | {"TEST.CLIP_ORI_PATH": tmp_path / "clip.pt", "OUTPUT_DIR": tmp_path}
    )
    load_tested_weights(cfg, model)
    for network in (model, original):
        network.eval().begin("test")
    with torch.no_grad():
        assert torch.equal(model(clips(cfg)), original(clips(cfg)))


def test_half_read_files_are_named(tmp_path):
    write_archive(tmp_path / "a.pt", {"w": torch.randn(100, 100)})
    content = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="cannot be read"):
        read_checkpoint(tmp_path / "a.pt", "TRAIN.CLIP_ORI_PATH")


def test_start_from_a_path_or_a_name(tmp_path, monkeypatch):
    """Below the folder of released weights, by a path, and by a path from the home directory."""
    folder = tmp_path / "pretrained"
    folder.mkdir()
    (folder / "ViT-B-16.pt").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (
        "ViT-B-16",
        "ViT-B-16.pt",
        str(folder / "ViT-B-16.pt"),
        "~/pretrained/ViT-B-16.pt",
    ):
        assert find_pretrained(name, str(folder), "K") == folder / "ViT-B-16.pt"
    with pytest.raises(
        UserError, match="(?s)there is no pretrained.ViT-L-14.pt.*openai.CLIP"
    ) as caught:
        find_pretrained("pretrained/ViT-L-14.pt", str(ROOT / "pretrained"), "TRAIN.CLIP_ORI_PATH")
    assert 'TRAIN.CLIP_ORI_PATH ""' in str(caught.value)
