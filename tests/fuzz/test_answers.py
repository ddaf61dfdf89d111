"""Answers of a chat service, its errors and its headers: used, or refused with one line."""

from __future__ import annotations

import json
from email.message import Message

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from slowfast.analysis.text_prompts import service, stages
from slowfast.analysis.text_prompts.transport import Answer
from slowfast.utils.errors import UserError
from tests.fuzz.conftest import bounded, found_cases

KEY = "sk-0123456789"
FIELDS = st.sampled_from([*stages.LISTS, *stages.TRIPLES, *stages.PROMPTS, "label", "x", ""])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10))
LISTS = st.lists(st.one_of(SCALARS, st.just("<a, b, c>")), max_size=4)
VALUES = st.one_of(SCALARS, LISTS, st.dictionaries(FIELDS, LISTS, max_size=9))
FENCES = st.sampled_from(["", "```", "```yaml\n", "Here:\n```yml\n", "\n```", "```python\n"])


@st.composite
def answers(draw) -> str:
    """A text that is nearly an answer."""
    content = draw(st.dictionaries(st.one_of(FIELDS, st.just("run")), VALUES, max_size=9))
    text = yaml.safe_dump(content, allow_unicode=True) if draw(st.booleans()) else draw(st.text())
    cut = draw(st.integers(0, len(text)))
    return draw(FENCES) + (text[:cut] if draw(st.booleans()) else text) + draw(FENCES)


def parse(text: str) -> None:
    """A graph whose fields are lists of texts that a file can hold, or one line."""
    for fields, read in (
        ((*stages.LISTS, *stages.TRIPLES), lambda: stages.parse_graph(text, "run")),
        (
            stages.PROMPTS,
            lambda: stages.parse_prompts(text, "run", dict.fromkeys(stages.TRIPLES, ["a"])),
        ),
    ):
        try:
            entry = read()
        except stages.BadAnswer as error:
            assert str(error) and "\n" not in str(error)
            continue
        assert all(isinstance(t, str) and t.strip() for field in fields for t in entry[field])
        yaml.safe_dump(entry, allow_unicode=True).encode()


@bounded(60)
@given(text=answers())
def test_any_text(text):
    parse(text)


BODIES = st.one_of(
    st.binary(max_size=60),
    st.recursive(
        st.one_of(SCALARS, st.just(KEY)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.sampled_from(["choices", "message", "content", "error"]), inner),
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
)


@bounded(100)
@given(
    body=BODIES,
    status=st.integers(100, 599),
    header=st.one_of(st.text(max_size=20), st.just("nan")),
)
def test_any_body(body, status, header):
    """A text, an error of the user, or a reason to ask again; never the key."""
    headers = Message()
    for name in ("Retry-After", "Location"):
        headers[name] = "".join(filter(str.isprintable, header))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "post", lambda *words: Answer(status, headers, body))
        chat = service.ChatService(service.Secret(KEY), "http://h", "m")
        try:
            said = chat._request([])
        except service._Passing as error:
            said = str(error)
            assert error.after is None or chat._wait(0, error.after) <= 60
        except UserError as error:
            said = str(error)
            assert status >= 300 or status < 200
    assert isinstance(said, str) and KEY not in said


@pytest.mark.parametrize("case", found_cases("answers"), ids=lambda path: path.name)
def test_found_cases(case):
    parse(case.read_text(encoding="utf-8", errors="surrogatepass"))
