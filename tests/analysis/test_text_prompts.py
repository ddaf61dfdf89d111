"""The chat service, answered by a local one: good answers, garbage, errors, limits of rate."""

from __future__ import annotations

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
import torch.nn.functional as F
import yaml

from slowfast.analysis.text_prompts import features, service, stages, store
from slowfast.datasets.classnames import read_class_names
from slowfast.models.clip.sizes import ClipSizes
from slowfast.models.clip.texts import TEMPLATES, tokenize
from slowfast.models.clip.towers import CLIP
from slowfast.utils.errors import RunFailure, UserError
from tests.conftest import ROOT, run_tool

KEY = "sk-very-secret-0123456789"
DATA = ROOT / "slowfast" / "datasets"


def graph(name: str) -> dict:
    return {
        "label": name,
        "obj_en_li": ["rope", "cliff"],
        "obj_rel_triples": ["<rope, tied to, cliff>"],
        "act_obj_triples": [f"<{name}, needs, rope>", f"<{name}, takes place on, cliff>"],
        "sub_act_en_li": ["tying the rope"],
        "act_rel_triples": [f"<{name}, starts with, tying the rope>"],
    }


def prompts(name: str) -> dict:
    return {
        "label": name,
        "xprompt_oo": ["where a rope is tied to a cliff"],
        "xprompt_ao": ["which needs a rope", "which takes place on a cliff"],
        "xprompt_aa": ["starting with tying the rope"],
    }


def answer(text: str) -> bytes:
    return json.dumps({"choices": [{"message": {"content": text}}]}).encode()


class Stub:
    """A service whose answers are made by ``reply(number, name, messages)`` -> (code, body,
    headers); it remembers what it was asked."""

    def __init__(self, reply):
        self.asked: list[dict] = []
        self.keys: list[str] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stub.keys.append(self.headers["Authorization"])
                stub.asked.append(content)
                first = [m for m in content["messages"] if m["role"] == "user"][1]["content"]
                found = yaml.safe_load(first)
                name = next(iter(found)) if isinstance(found, dict) else first
                code, body, headers = reply(len(stub.asked), name, content["messages"])
                self.send_response(code)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()


def good(number, name, messages):
    made = prompts(name) if "xprompt_oo" in messages[0]["content"] else graph(name)
    text = yaml.safe_dump({name: made}, sort_keys=False)
    return 200, answer(f"Here it is:\n```yaml\n{text}```" if number % 2 else text), {}


def env(stub) -> dict:
    return os.environ | {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": stub.url}


@pytest.fixture
def classes(tmp_path):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps({"0": "abseiling", "1": "yes", "2": "dancing: slow"}))
    return path


def test_both_stages(tmp_path, classes):
    askg, xprompt = tmp_path / "askg.yml", tmp_path / "xprompt.yml"
    with Stub(good) as stub:
        done = run_tool("text_prompts.py", "askg", classes, askg, "--model", "m1", env=env(stub))
        assert done.returncode == 0, done.stderr
        assert stub.keys == [f"Bearer {KEY}"] * 3 and stub.asked[0]["model"] == "m1"
        done = run_tool(
            "text_prompts.py", "xprompt", classes, xprompt, "--askg", askg, env=env(stub)
        )
        assert done.returncode == 0, done.stderr
    names = read_class_names(classes)
    graphs = store.read_classes(askg)
    assert list(graphs) == names and graphs["yes"] == graph("yes")
    assert store.read_classes(xprompt)["dancing: slow"] == prompts("dancing: slow")
    assert KEY not in done.stdout + done.stderr + askg.read_text() + xprompt.read_text()


def test_garbage_is_asked_again(tmp_path, caplog):
    replies = [
        "I cannot do that.",
        "abseiling: [",
        yaml.safe_dump({"abseiling": {"label": "x"}}),
        yaml.safe_dump({"abseiling": graph("abseiling") | {"act_obj_triples": ["rope"]}}),
        yaml.safe_dump(graph("abseiling")),  # without the root: good enough
    ]
    with Stub(lambda number, *_: (200, answer(replies[number - 1]), {})) as stub:
        chat = service.ChatService(service.Secret(KEY), stub.url, "m", pause=0)
        file = store.ClassStore(tmp_path / "askg.yml")
        arguments = (["abseiling"], stages.graph_messages, stages.parse_graph)
        assert stages.write_stage(chat, file, *arguments, attempts=5) == {}
        assert file.entries["abseiling"] == graph("abseiling")
        last = stub.asked[-1]["messages"]
    assert last[-1]["content"].startswith("That cannot be used: act_obj_triples holds 'rope'")
    assert last[-2]["content"] == replies[3]
    assert "the answer is no YAML" in caplog.text and "obj_en_li is missing" in caplog.text


def test_a_class_without_answer_does_not_stop_the_others(tmp_path, classes):
    def reply(number, name, messages):
        return (200, answer("no"), {}) if name == "yes" else good(number, name, messages)

    with Stub(reply) as stub:
        done = run_tool(
            "text_prompts.py", "askg", classes, tmp_path / "a.yml", "--attempts", 2, env=env(stub)
        )
        assert done.returncode == 1 and "no usable answer for yes" in done.stderr
        assert list(store.read_classes(tmp_path / "a.yml")) == ["abseiling", "dancing: slow"]


def test_one_completion_for_every_triple():
    short = prompts("a") | {"xprompt_ao": ["which needs a rope"]}
    with pytest.raises(stages.BadAnswer, match="xprompt_ao holds 1 completions for 2 triples"):
        stages.parse_prompts(yaml.safe_dump({"a": short}), "a", graph("a"))


PASSING = {
    "limit": (429, b'{"error": {"message": "slow down"}}', {"Retry-After": "0"}),
    "overload": (503, b"busy", {}),
    "no json": (200, b"<html>", {}),
    "no message": (200, b'{"choices": []}', {}),
}


@pytest.mark.parametrize("kind", PASSING)
def test_passing_errors_are_tried_again(kind, caplog):
    with Stub(lambda number, *_: PASSING[kind] if number < 3 else (200, answer("ok"), {})) as stub:
        chat = service.ChatService(service.Secret(KEY), stub.url, "m", tries=3, pause=0.01)
        assert chat.ask(stages.graph_messages("x")) == "ok" and len(stub.asked) == 3
    assert caplog.text.count("asking again") == 2


def test_pauses_grow_and_follow_the_service():
    chat = service.ChatService(service.Secret(KEY), "", "m", pause=2.0)
    assert [chat._wait(n, None) for n in range(6)] == [2, 4, 8, 16, 32, 60]
    assert chat._wait(0, 7.5) == 7.5


def test_no_answer_in_the_end(tmp_path, classes):
    """What was done stays; the next run asks for the rest alone."""
    out = tmp_path / "askg.yml"

    def reply(number, name, messages):
        return good(number, name, messages) if name == "abseiling" else PASSING["overload"]

    with Stub(reply) as stub:
        done = run_tool(
            "text_prompts.py", "askg", classes, out, "--tries", 2, "--pause", 0, env=env(stub)
        )
        assert done.returncode == 1 and "gave no answer in 2 tries" in done.stderr
    assert list(store.read_classes(out)) == ["abseiling"]
    with Stub(good) as stub:
        assert run_tool("text_prompts.py", "askg", classes, out, env=env(stub)).returncode == 0
        assert len(stub.asked) == 2
    assert len(store.read_classes(out)) == 3


@pytest.mark.parametrize("code, named", [(401, "OPENAI_API_KEY"), (404, "--model")])
def test_refusals_are_not_repeated(code, named):
    body = json.dumps({"error": {"message": f"bad key {KEY}"}}).encode()
    with Stub(lambda *_: (code, body, {})) as stub:
        chat = service.ChatService(service.Secret(KEY), stub.url, "m", pause=0)
        with pytest.raises(UserError) as caught:
            chat.ask(stages.graph_messages("x"))
        assert len(stub.asked) == 1
    assert named in str(caught.value) and "bad key ***" in str(caught.value)


def test_key_shows_nowhere(caplog):
    """Not in errors, not in what led to them, not in representations."""
    chat = service.ChatService(service.Secret(KEY), "http://127.0.0.1:9", "m", tries=2, pause=0)
    with pytest.raises(RunFailure) as caught:
        chat.ask(stages.graph_messages("x"))
    chain, error = [], caught.value
    while error is not None:
        chain.append(f"{error!r} {error} {vars(error)}")
        error = None if error.__suppress_context__ else error.__cause__ or error.__context__
    assert KEY not in " ".join(chain) + caplog.text + repr(chat)
    assert "cannot be reached" in caplog.text


def test_settings(tmp_path, monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / ".env"
    with pytest.raises(UserError, match="OPENAI_API_KEY: is not set"):
        service.read_settings(file)
    file.write_text(f'# a key\nexport OPENAI_API_KEY="{KEY}"\nOPENAI_API_BASE=http://here/v1/\n')
    key, url = service.read_settings(file)
    assert key.reveal() == KEY and url == "http://here/v1"
    monkeypatch.setenv("OPENAI_API_KEY", "other")
    assert service.read_settings(file)[0].reveal() == "other"


def test_broken_store_is_named(tmp_path):
    (tmp_path / "a.yml").write_text("a: [")
    with pytest.raises(UserError, match="a.yml: is not valid YAML"):
        store.ClassStore(tmp_path / "a.yml")


# -- features ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory):
    torch.manual_seed(0)
    sizes = ClipSizes(8, 64, 1, 16, 32, 77, text_width=64, text_layers=1)
    path = tmp_path_factory.mktemp("clip") / "clip.pt"
    torch.save(CLIP(sizes).state_dict(), path)
    return path


def test_features_by_hand(clip_file):
    """Mean over the first eight templates; the shorter class repeats its sentence."""
    network = features.load_clip(str(clip_file))
    one = {"xprompt_oo": ["where it rains"], "xprompt_ao": [], "xprompt_aa": []}
    two = {"xprompt_oo": ["by a"], "xprompt_ao": ["with b"], "xprompt_aa": ["then c."]}
    found = features.prompt_features(network, ["walking", "running"], [one, two])
    assert found.shape == (2, 3, 16)
    assert torch.equal(found[0, 0], found[0, 1]) and not torch.equal(found[1, 0], found[1, 2])
    sentences = [t.format("running, then c") for t in TEMPLATES[:8]]
    with torch.no_grad():
        each = F.normalize(network.encode_text(tokenize(sentences, 77)), dim=-1)
    assert torch.allclose(found[1, 2], F.normalize(each.mean(0), dim=-1), atol=1e-5)


def test_published_prompts_fit_the_published_classes(tmp_path, clip_file, caplog):
    names = read_class_names(DATA / "class_maps" / "hmdb51.json")
    (tmp_path / "some.json").write_text(json.dumps(names))
    done = run_tool(
        "text_prompts.py",
        "features",
        tmp_path / "some.json",
        tmp_path / "f.pt",
        "--prompts",
        DATA / "text_aug" / "classes_xprompt_hmdb51.yml",
        "--clip",
        clip_file,
    )
    assert done.returncode == 0, done.stderr
    assert torch.load(tmp_path / "f.pt").shape == (51, 19, 16)
    for maps, prompted in (("kinetics400", "k400"), ("ucf101", "ucf101"), ("hmdb51", "hmdb51")):
        names = read_class_names(DATA / "class_maps" / f"{maps}.json")
        for kind in ("ASKG", "xprompt"):
            entries = store.read_classes(DATA / "text_aug" / f"classes_{kind}_{prompted}.yml")
            assert len(store.match_classes(names, entries, kind)) == len(names)
    assert "'falling to the floor' is taken for 'fall floor'" in caplog.text


def test_missing_entries_and_options(tmp_path, classes, clip_file):
    (tmp_path / "p.yml").write_text(yaml.safe_dump({"abseiling": prompts("abseiling")}))
    done = run_tool(
        "text_prompts.py",
        "features",
        classes,
        tmp_path / "f.pt",
        "--prompts",
        tmp_path / "p.yml",
        "--clip",
        clip_file,
    )
    assert done.returncode == 2 and "no entry for 2 of 3 classes, e.g. 'yes'" in done.stderr
    done = run_tool("text_prompts.py", "xprompt", classes, tmp_path / "x.yml")
    assert done.returncode == 2 and "--askg: xprompt needs it" in done.stderr
