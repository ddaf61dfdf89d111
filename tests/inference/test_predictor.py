"""slowfast.load: the answers of a trained network are those of its test."""

from __future__ import annotations

import functools
import http.server
import io
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import slowfast
from slowfast.config.load import load_config
from slowfast.datasets.lists import read_path_list
from slowfast.engine.initial import find_tested_weights, load_tested_weights
from slowfast.engine.launch import launch
from slowfast.engine.run import run_job
from slowfast.engine.tasks import build_task
from slowfast.layers import fold
from slowfast.metrics.views import class_probabilities
from slowfast.models import MODEL_REGISTRY
from slowfast.models.weights.read import read_checkpoint
from slowfast.utils.errors import UserError, VideoError
from slowfast.utils.runtime import Runtime
from slowfast.video.source import open_video
from tests.conftest import TINY, words
from tests.fewshot import fewshot_cfg

TSN = MODEL_REGISTRY.get("TSN").spec.test_overrides | {
    "MODEL.MODEL_NAME": "TSN",
    "DATA.TRAIN_JITTER_SCALES": [64, 72],
}
FORMS = {
    "views": {},
    "stfm hard": {"STFM.ENABLE": True, "STFM.SELECTION": "hard", "STFM.NUM_TOKENS": 3},
    "logits": {"MODEL.HEAD_ACT": "none", "DATA.ENSEMBLE_METHOD": "max"},
    "sparse views": {"TEST.DATASET": "kinetics_sparse", "DATA.SAMPLING": "auto"},
    "tsn": TSN
    | {"DATA.SAMPLING": "tsn", "TEST.NUM_ENSEMBLE_VIEWS": 1, "TEST.NUM_SPATIAL_CROPS": 1},
    "averaged": {"EMA.ENABLE": True, "EMA.DECAY": 0.5, "DATA.INPUT_FORMAT": "BGR"},
}


def trained(shapes: Path, out: Path, extra: dict) -> Path:
    """A run that trains and tests with these values; gives its folder."""
    values = TINY | {
        "TRAIN.DATASET": "moving_shapes",
        "TEST.DATASET": "moving_shapes",
        "DATA.PATH_TO_DATA_DIR": str(shapes),
        "DATA.PATH_PREFIX": str(shapes),
        "OUTPUT_DIR": str(out),
        "SOLVER.MAX_EPOCH": 1,
    }
    launch(load_config(overrides=words(values | extra)), run_job)
    return out


def scores_of(out: Path) -> torch.Tensor:
    (file,) = out.glob("tests/*/scores.npz")
    return torch.from_numpy(np.load(file)["scores"])


def test_videos(shapes: Path) -> list[str]:
    return [item.path for item in read_path_list(shapes / "test.csv", " ", str(shapes), "")]


test_videos.__test__ = False


@pytest.mark.parametrize("form", FORMS)
def test_answers_are_those_of_a_test(form, shapes, tmp_path):
    out = trained(shapes, tmp_path / "out", FORMS[form])
    predictor = slowfast.load(out, "cpu")
    cfg = predictor.cfg
    views = cfg.TEST.NUM_ENSEMBLE_VIEWS * cfg.TEST.NUM_SPATIAL_CROPS
    expected = class_probabilities(
        scores_of(out), views, cfg.DATA.ENSEMBLE_METHOD, cfg.MODEL.HEAD_ACT
    )
    predictions = predictor.predict(test_videos(shapes), top=2)
    assert predictor.classes == ["left", "right", "up", "down"]
    scores = torch.stack([p.scores for p in predictions])
    torch.testing.assert_close(scores, expected.values, rtol=1e-6, atol=1e-7)
    for prediction, row in zip(predictions, scores):
        assert prediction.labels[0] == predictor.classes[row.argmax()]
        assert prediction.probabilities == sorted(row.tolist(), reverse=True)[:2]
        assert float(row.sum()) == pytest.approx(1)


@pytest.mark.parametrize("method", ["staf", "otam", "trx", "prototype"])
def test_few_shot_answers_are_those_of_a_test(method, compositions, tmp_path):
    """An episode of the test: its support clips by class, its queries one after the other."""
    values = {
        "FEWSHOT.METHOD": method,
        "FEWSHOT.SHOT": 2,
        "FEWSHOT.TRAIN_EPISODES": 2,
        "FEWSHOT.VAL_EPISODES": 1,
        "FEWSHOT.TEST_EPISODES": 1,
        "FEWSHOT.QUERY": 1,
        "FEWSHOT.QUERY_TEST": 1,
        "FEWSHOT.TRX_DIM": 16,
        "SOLVER.MAX_EPOCH": 1,
        "LOG_MODEL_INFO": False,
        "DATA_LOADER.NUM_WORKERS": 0,
        "OUTPUT_DIR": tmp_path / "out",
    }
    if method in ("otam", "trx"):  # they compare frames
        values |= TSN
    cfg = fewshot_cfg(compositions, values)
    launch(cfg, run_job)
    runtime = Runtime(torch.device("cpu"))
    task = build_task(cfg, runtime)
    model = task.module.build_model()
    load_tested_weights(cfg, model, find_tested_weights(cfg))
    model.eval()
    batch = next(iter(task.data.loader("test")))
    with torch.inference_mode():
        logits = task.module.predict(model, task.module.prepare(batch, "test"))
    plan = task.data.plan("test")
    episode = plan.sampler.draw(0)
    path = [item.path for item in plan.item_list.items]
    names = [plan.item_list.class_names[label] for label in episode.classes]
    support = {name: [path[i] for i in row] for name, row in zip(names, episode.support)}

    predictor = slowfast.load(tmp_path / "out", "cpu", support=support)
    answers = predictor.predict([path[i] for i in episode.queries])
    assert predictor.classes == names
    scores = torch.stack([answer.scores for answer in answers])
    torch.testing.assert_close(scores, logits[0].softmax(-1), rtol=1e-4, atol=1e-6)
    assert predictor.embed(path[0]).shape[0] == 1


def test_clip_takes_any_classes(shapes, tmp_path):
    overrides = MODEL_REGISTRY.get("TemporalClipVideo").spec.test_overrides
    names = ["left", "right", "up", "down"]
    extra = overrides | {"MODEL.MODEL_NAME": "TemporalClipVideo", "DATA.CLASS_NAMES": names}
    out = trained(shapes, tmp_path / "out", extra)
    predictor = slowfast.load(out, "cpu")
    scores = torch.stack([p.scores for p in predictor.predict(test_videos(shapes))])
    cfg = predictor.cfg
    expected = class_probabilities(scores_of(out), 6, "sum", cfg.MODEL.HEAD_ACT)
    torch.testing.assert_close(scores, expected.values, rtol=1e-5, atol=1e-7)
    assert predictor.classes == names
    # Another order of the names is another order of the scores; further names are possible.
    other = slowfast.load(out, "cpu", classes=["up", "left", "a dog that runs"])
    (answer,) = other.predict(test_videos(shapes)[:1])
    assert other.classes == ["up", "left", "a dog that runs"] and len(answer.labels) == 3
    # Each view has a softmax of its own, so that ratios are not kept to the digit.
    ratio = scores[0, 2] / scores[0, 0]
    assert float(answer.scores[0] / answer.scores[1]) == pytest.approx(float(ratio), rel=0.05)


@pytest.fixture(scope="module")
def run(shapes, tmp_path_factory) -> Path:
    return trained(shapes, tmp_path_factory.mktemp("run") / "out", {"DATA.SAMPLING": "clip"})


@pytest.fixture(scope="module")
def predictor(run):
    return slowfast.load(run, "cpu")


def frames_of(path: str) -> np.ndarray:
    source = open_video(path)
    (frames,) = source.frames([range(source.num_frames)])
    return frames


def test_every_form_of_a_video_has_the_same_answer(predictor, run, shapes, tmp_path):
    path = test_videos(shapes)[0]
    frames, fps = frames_of(path), open_video(path).fps
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, frame in enumerate(frames, 1):
        cv2.imwrite(str(folder / f"{number:05d}.png"), frame[:, :, ::-1])
    expected = predictor.predict(path)
    forms = [
        Path(path),
        Path(path).read_bytes(),
        io.BytesIO(Path(path).read_bytes()),
        frames,
        list(frames),
        torch.from_numpy(frames),
        torch.from_numpy(frames).permute(0, 3, 1, 2),
    ]
    with open(path, "rb") as file:
        answers = [predictor.predict(form, fps=fps) for form in [*forms, file]]
    for answer in answers:
        assert torch.equal(answer.scores, expected.scores)
    clips = predictor.preprocess(path)
    assert clips.shape == (6, 3, 4, 32, 32) and clips.dtype == torch.float32
    assert torch.equal(clips, predictor.preprocess(frames, fps=fps))
    # Numbered by another template, and by names of their own: lossless, so nothing differs.
    assert torch.equal(predictor.predict(folder, fps=fps).scores, expected.scores)
    for file in folder.iterdir():
        file.rename(folder / f"shot 2 frame {int(file.stem)}.png")
    assert torch.equal(predictor.predict(folder, fps=fps).scores, expected.scores)
    (folder.parent / "empty").mkdir()
    with pytest.raises(VideoError, match="no images in it"):
        predictor.predict(folder.parent / "empty")


def test_a_video_is_downloaded(predictor, shapes):
    pytest.importorskip("aiohttp")
    path = Path(test_videos(shapes)[0])
    handler = functools.partial(Quiet, directory=str(path.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        answer, absent = predictor.predict([f"{address}/{path.name}", f"{address}/absent.mp4"])
        server.shutdown()
    assert answer.path == f"{address}/{path.name}"
    assert torch.equal(answer.scores, predictor.predict(path).scores)
    assert absent.error == "there is no such file"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_embeddings_are_means_over_views(predictor, shapes):
    paths = test_videos(shapes)[:3]
    features = predictor.embed(paths)
    with torch.inference_mode():
        rows = [predictor.model.forward_features(predictor.preprocess(p)).mean(0) for p in paths]
    torch.testing.assert_close(features, torch.stack(rows), rtol=1e-5, atol=1e-6)
    assert predictor.embed(paths[0]).shape == (1, features.shape[1])


def test_a_broken_video_does_not_lose_the_others(predictor, shapes, tmp_path):
    good = test_videos(shapes)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    answers = predictor.predict([good[0], broken, "absent.mp4", good[1]])
    assert [answer.path for answer in answers] == [good[0], str(broken), "absent.mp4", good[1]]
    assert [bool(answer.error) for answer in answers] == [False, True, True, False]
    assert answers[1].labels == [] and "not a readable video" in answers[1].error
    assert torch.equal(answers[3].scores, predictor.predict(good[1]).scores)
    with pytest.raises(VideoError, match=r"broken.mp4"):
        predictor.predict(broken)
    with pytest.raises(VideoError, match=r"3 bytes: "):
        predictor.predict(b"abc")
    with pytest.raises(VideoError, match=r"absent.mp4"):
        predictor.embed([good[0], "absent.mp4"])
    assert predictor.predict([]) == []


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((0, 8, 8, 3), np.uint8), "holds no frames"),
        (np.zeros((4, 8, 8, 3), np.float32), "frames are uint8"),
        (np.zeros((4, 8, 8, 1), np.uint8), "frames are H W 3"),
        (np.zeros((4, 8), np.uint8), "frames are H W 3"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((9, 8, 3), np.uint8)], "frames are H W 3"),
    ],
)
def test_what_are_no_frames(frames, message, predictor):
    with pytest.raises(VideoError, match=message):
        predictor.predict(frames)


def test_what_is_no_video(predictor):
    with pytest.raises(UserError, match="a int is not a video"):
        predictor.predict(5)
    with pytest.raises(UserError, match="as anything else to stream"):
        predictor.predict(video for video in ["a.mp4"])
    with pytest.raises(UserError, match="open it in binary mode"):
        predictor.predict(io.StringIO("text"))
    with pytest.raises(UserError, match="fps: is 0"):
        predictor.predict(np.zeros((8, 40, 40, 3), np.uint8), fps=0)
    with pytest.raises(UserError, match="a list is not a video"):
        predictor.preprocess(["a.mp4"])
    with pytest.raises(UserError, match="top is 0"):
        predictor.predict(np.zeros((8, 40, 40, 3), np.uint8), top=0)


def test_a_network_in_training_mode_answers_as_in_a_test(predictor):
    frames = np.random.default_rng(0).integers(0, 256, (8, 40, 40, 3), np.uint8)
    expected, features = predictor.predict(frames).scores, predictor.embed(frames)
    predictor.model.train()
    assert torch.equal(predictor.predict(frames).scores, expected)
    predictor.model.train()
    assert torch.equal(predictor.embed(frames), features)


def test_norms_are_folded_once_for_many_batches_and_never_for_one(shapes, tmp_path, monkeypatch):
    extra = MODEL_REGISTRY.get("ResNet3D").spec.test_overrides | {"MODEL.MODEL_NAME": "ResNet3D"}
    extra |= {"MODEL.NUM_CLASSES": 4, "TRAIN.BATCH_SIZE": 2, "TEST.BATCH_SIZE": 1}
    predictor = slowfast.load(trained(shapes, tmp_path / "out", extra), "cpu")
    folded = []
    fuse = fold.fuse_conv_bn_eval
    monkeypatch.setattr(
        fold, "fuse_conv_bn_eval", lambda *pair: folded.append(pair[0]) or fuse(*pair)
    )
    videos = test_videos(shapes)[:3]
    alone = torch.stack([predictor.predict(video).scores for video in videos])
    rows = torch.cat([predictor.embed(video) for video in videos])
    assert not folded
    scores = torch.stack([answer.scores for answer in predictor.predict(videos)])
    pairs = len(folded)
    assert pairs > 0 and len(set(folded)) == pairs
    torch.testing.assert_close(scores, alone, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(predictor.embed(videos), rows, rtol=1e-4, atol=1e-5)
    assert len(folded) == 2 * pairs


def test_readers_do_not_run_ahead_without_end(predictor, shapes):
    """A generator of videos is read as answers are taken, not at once."""
    path, taken = test_videos(shapes)[0], []

    def videos():
        for number in range(1000):
            taken.append(number)
            yield path

    stream = predictor.stream(videos())
    for _ in range(3):
        next(stream)
    stream.close()
    assert len(taken) < 20


def test_weights_alone_need_a_configuration(run, tmp_path):
    content = read_checkpoint(run / "checkpoints" / "checkpoint_best.pyth")
    bare = tmp_path / "bare.pyth"
    torch.save({"model_state": content["model_state"]}, bare)
    with pytest.raises(UserError, match=r"(?s)weights without a configuration.*cfg="):
        slowfast.load(bare)
    predictor = slowfast.load(bare, "cpu", cfg=run / "config.yaml")
    assert predictor.classes == ["0", "1", "2", "3"]
    named = slowfast.load(bare, "cpu", cfg=run / "config.yaml", classes=["a", "b", "c", "d"])
    assert named.classes == ["a", "b", "c", "d"]
    other = {"MODEL.NUM_CLASSES": 7}
    with pytest.raises(UserError, match="bare.pyth has no classifier of 7 classes"):
        slowfast.load(bare, "cpu", cfg=run / "config.yaml", overrides=other)
    with pytest.raises(UserError, match="has 4 classes, there are 2 names"):
        slowfast.load(bare, "cpu", cfg=run / "config.yaml", classes=["a", "b"])
    with pytest.raises(UserError, match="trained with other class names"):
        slowfast.load(run, "cpu", classes=["a", "b", "c", "d"])


def test_what_cannot_be_loaded(run, tmp_path):
    with pytest.raises(UserError, match="there is no checkpoint"):
        slowfast.load(tmp_path / "absent.pyth")
    with pytest.raises(UserError, match="holds no checkpoint"):
        slowfast.load(tmp_path)
    with pytest.raises(UserError, match="there is no device 'gpu'"):
        slowfast.load(run, "gpu")
    with pytest.raises(UserError, match="x.pt2 is an exported network"):
        slowfast.load(tmp_path / "x.pt2")
    with pytest.raises(UserError, match="there is no cuda:99"):
        slowfast.load(run, "cuda:99")
    with pytest.raises(UserError, match="takes no support clips"):
        slowfast.load(run, "cpu", support={"a": ["x.mp4"]})
    other = slowfast.load(run, "cpu", overrides=["TEST.NUM_SPATIAL_CROPS", "1"])
    assert len(other.preprocess(np.zeros((8, 40, 40, 3), np.uint8))) == 2
