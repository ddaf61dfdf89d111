"""A list of videos becomes a folder of files: what they hold, and that a stopped call goes on."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from slowfast.inference.embeddings import work as work_module
from slowfast.inference.embeddings.parquet import VectorFile
from slowfast.inference.embeddings.work import Embed, Plan, embed
from slowfast.inference.network import Network
from slowfast.utils.errors import RunFailure, UserError
from slowfast.utils.locks import folder_lock
from slowfast.utils.map import Share, Where
from slowfast.video.writer import write_mp4
from tests.conftest import noise_clip
from tests.inference.test_export import fewshot_predictor, predictor_of

pytest.importorskip("pyarrow")
HERE = Where()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A network, and seven videos of three seconds, one of them broken."""
    folder = tmp_path_factory.mktemp("place")
    predictor_of(folder, "Uniformer")
    (folder / "videos").mkdir()
    for number in range(6):
        clip = noise_clip(30, 40, 48, seed=number)
        write_mp4(folder / f"videos/{number}.mp4", clip, fps=10, gop=10)
    (folder / "videos/bad.mp4").write_bytes(b"no video")
    return folder


def plan_of(place: Path, out: Path, per_file: int = 3, window: float = 1.0) -> Plan:
    videos = sorted(map(str, (place / "videos").iterdir()))
    return Plan(videos, out, window, 0.0, per_file)


def files_of(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.parquet"))}


def network_of(place: Path) -> Network:
    return Network(str(place / "w.pyth"), "cpu")


@pytest.fixture(scope="module")
def whole(place, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out"
    return out, embed(network_of(place), plan_of(place, out), HERE)


@pytest.mark.parametrize(
    "name, extra",
    [
        ("Uniformer", {}),
        ("Uniformer", {"STFM.ENABLE": True, "STFM.NUM_TOKENS": 2, "DATA.NUM_FRAMES": 4}),
        ("TemporalClipVideo", {}),
        ("X3D", {}),
    ],
)
def test_answers_with_features_are_those_without(name, extra, place, tmp_path, monkeypatch):
    """In one pass, whatever the network's way to its classes."""
    predictor = predictor_of(tmp_path, name, extra)
    video = str(place / "videos/0.mp4")
    plain = list(predictor.windows(video, 1.0))
    expected = predictor.embed([video])[0]
    monkeypatch.setattr(type(predictor.inference), "features", None)  # a second pass
    both = list(predictor.stream_windows([video], 1.0, features=True))
    assert [answer.span for answer in both] == [answer.span for answer in plain]
    for one, other in zip(plain, both):
        assert torch.equal(one.scores, other.scores) and one.features is None
    (answer,) = predictor.stream([video], features=True)
    assert torch.allclose(answer.features, expected, atol=1e-6)


def test_what_the_files_hold(place, whole):
    out, summary = whole
    predictor = network_of(place).load()
    assert (summary.videos, summary.windows, summary.files) == (7, 18, 3)
    bad = str(place / "videos/bad.mp4")
    assert list(summary.failed) == [bad] and "is not a readable video" in summary.failed[bad]
    assert (out / "failed.tsv").read_text().startswith(f"{bad}\t")
    files = [VectorFile(path) for path in sorted(out.glob("*.parquet"))]
    assert [file.rows for file in files] == [9, 9, 0]
    assert files[0].facts.classes == predictor.classes and files[0].facts.window == 1.0
    videos = sorted(map(str, (place / "videos").glob("[0-5].mp4")))
    answers = list(predictor.stream_windows(videos, 1.0, features=True))
    rows = [row for file in files for row in file.found(range(file.rows))]
    vectors = np.concatenate([v for file in files for v in file.vectors()]).astype(np.float32)
    assert len(rows) == len(answers) == 18
    for row, vector, answer in zip(rows, vectors, answers):
        assert (row.path, row.start, row.end) == (answer.path, *answer.span)
        assert np.allclose(row.scores, answer.scores, atol=1e-3)
        unit = answer.features / answer.features.norm()
        assert np.allclose(vector, unit, atol=1e-3)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=2e-3)


def test_a_stopped_call_goes_on(place, whole, tmp_path, monkeypatch):
    """What was done stays, what was in hand is written again: the same files as undisturbed."""
    written = []
    write = work_module.write_file

    def stopped(path, facts, rows):
        if len(written) == 1:
            next(iter(rows))
            raise KeyboardInterrupt
        written.append(path)
        return write(path, facts, rows)

    plan, network = plan_of(place, tmp_path / "out"), network_of(place)
    monkeypatch.setattr(work_module, "write_file", stopped)
    with pytest.raises(KeyboardInterrupt):
        embed(network, plan, HERE)
    assert list(files_of(plan.out)) == ["part-00000.parquet"]
    monkeypatch.setattr(
        work_module, "write_file", lambda p, f, r: (written.append(p), write(p, f, r))[1]
    )
    summary = embed(network, plan, HERE)
    assert files_of(plan.out) == files_of(whole[0]) and summary == whole[1]
    assert [path.name for path in written] == [f"part-{n:05d}.parquet" for n in range(3)]
    # Complete: nothing is written; a file that has gone, or whose video has changed, is.
    (plan.out / "part-00001.parquet").unlink()
    assert embed(network, plan, HERE) == whole[1] and len(written) == 4
    assert files_of(plan.out) == files_of(whole[0])


def test_shares_and_processes_write_the_same_files(place, whole, tmp_path):
    plan, network = plan_of(place, tmp_path / "shares"), network_of(place)
    for number in (2, 1):
        embed(network, plan, Where(share=Share(number, 2)))
    assert embed(network, plan, Where(merge=True)) == whole[1]
    assert files_of(plan.out) == files_of(whole[0])
    assert (plan.out / "failed.tsv").read_text() == (whole[0] / "failed.tsv").read_text()
    plan = plan_of(place, tmp_path / "processes")
    assert embed(network, plan, Where(workers=2)) == whole[1]
    assert files_of(plan.out) == files_of(whole[0])


def test_other_videos_and_other_networks_are_refused(place, whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "out")
    before = files_of(tmp_path / "out")
    plan = plan_of(place, tmp_path / "out")
    fewer = Plan(plan.videos[1:], plan.out, 1.0, 0.0, 3)
    with pytest.raises(UserError, match="holds embeddings of other videos"):
        embed(network_of(place), fewer, HERE)
    (tmp_path / "other").mkdir()
    predictor_of(tmp_path / "other", "MViT")
    other = Network(str(tmp_path / "other/w.pyth"), "cpu")
    with pytest.raises(UserError, match="begun with other options: network 'Uniformer'"):
        embed(other, plan, HERE)
    with pytest.raises(UserError, match="other options: window 1.0, now 0.5"):
        embed(network_of(place), plan_of(place, plan.out, window=0.5), HERE)
    assert files_of(plan.out) == before
    summary = embed(network_of(place), fewer, Where(anew=True))
    assert summary.videos == 6 and len(files_of(plan.out)) == 2
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange/part-00000.parquet").write_bytes(b"of another program")
    with pytest.raises(UserError, match="did not come from here"):
        embed(network_of(place), plan_of(place, tmp_path / "strange"), Where(anew=True))
    assert (tmp_path / "strange/part-00000.parquet").read_bytes() == b"of another program"


def test_anew_leaves_nothing_of_before(place, whole, tmp_path):
    """Files of a finer division would be found twice by a search."""
    network, out = network_of(place), tmp_path / "out"
    embed(network, plan_of(place, out, per_file=1), HERE)
    assert len(files_of(out)) == 7
    for number in (1, 2):
        embed(network, plan_of(place, out), Where(share=Share(number, 2), anew=True))
    assert files_of(out) == files_of(whole[0])


def test_anew_beside_a_living_call_removes_nothing(place, whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    plan = plan_of(place, tmp_path / "out")
    fewer = Plan(plan.videos[1:], plan.out, 1.0, 0.0, 3)
    with folder_lock(plan.out), pytest.raises(UserError, match="is in use by"):
        embed(network_of(place), fewer, Where(anew=True))
    assert {path.name: path.read_bytes() for path in plan.out.iterdir()} == before


def test_whole_videos_of_a_network_without_classes(place, compositions, tmp_path):
    """A few-shot network has vectors and, without support clips, no scores."""
    fewshot_predictor(tmp_path, compositions)
    plan = plan_of(place, tmp_path / "out", window=0.0)
    summary = embed(network_of(tmp_path), plan, HERE)
    assert (summary.videos, summary.windows) == (7, 6)
    file = VectorFile(tmp_path / "out/part-00000.parquet")
    assert file.facts.classes == [] and file.found([0])[0].start is None


def test_numbers_that_are_not_finite_end_it(place, tmp_path, monkeypatch):
    plan = plan_of(place, tmp_path / "out")
    answers = Embed._answers

    def spoiled(self, videos):
        for answer in answers(self, videos):
            yield replace(answer, features=torch.full((32,), torch.nan))

    monkeypatch.setattr(Embed, "_answers", spoiled)
    with pytest.raises(RunFailure, match="features of .*0.mp4 are not finite"):
        embed(network_of(place), plan, HERE)
    assert not files_of(plan.out)


def test_a_worker_is_sent_no_network(place, tmp_path):
    work = Embed(network_of(place), tmp_path, 1.0, 0.0, 3)
    assert work.facts.dimension == 32
    assert len(pickle.dumps(work)) < 1000


def test_names_that_no_list_can_hold(place, tmp_path):
    plan = Plan(["a\nb.mp4"], tmp_path / "out", 1.0, 0.0, 3)
    with pytest.raises(UserError, match="holds a line break"):
        embed(network_of(place), plan, HERE)


def test_the_journal_says_what_was_done(whole):
    rows = [json.loads(line) for line in (whole[0] / "journal.jsonl").read_text().splitlines()]
    assert [row["result"]["windows"] for row in rows if "result" in row] == [9, 9, 0]
