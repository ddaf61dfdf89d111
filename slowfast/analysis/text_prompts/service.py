"""A chat service that speaks OpenAI's protocol: asked politely, its key kept to itself."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from slowfast.analysis.text_prompts.transport import Answer, TransportError, check_url, post
from slowfast.utils.errors import RunFailure, UserError
from slowfast.utils.logging import get_logger
from slowfast.utils.text import read_text, shorten

logger = get_logger(__name__)

_KEY, _URLS = "OPENAI_API_KEY", ("OPENAI_BASE_URL", "OPENAI_API_BASE")
_PUBLIC_URL = "https://api.openai.com/v1"
_LONGEST_PAUSE = 60.0  # seconds
_DOUBLINGS = 20  # of a pause, which then is the longest
_LONGEST_ENV_FILE = 1 << 20  # bytes
_LONGEST_MESSAGE = 10_000  # bytes of an error that is no JSON
_PASSING = (408, 409, 425, 429)  # and all above 499: another try may succeed

Message = dict[str, str]


class Secret:
    """A text that does not show itself."""

    def __init__(self, text: str):
        self._text = text

    def __repr__(self) -> str:
        return "***"

    def reveal(self) -> str:
        return self._text

    def hide(self, text: str) -> str:
        """``text`` without it."""
        return text.replace(self._text, "***") if self._text else text


def read_settings(env_file: str | Path = ".env") -> tuple[Secret, str]:
    """(key, address) from the environment, else from ``.env``; UserError without a key."""
    values = _read_env_file(Path(env_file)) | dict(os.environ)
    key = (values.get(_KEY) or "").strip()
    if not key:
        raise UserError(
            "is not set",
            f"export {_KEY}=…, or write it into a file .env (never into a configuration)",
            _KEY,
        )
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise UserError("holds characters that no key has", "is it copied as a whole?", _KEY)
    name, url = next(((n, values[n].strip()) for n in _URLS if values.get(n)), ("", _PUBLIC_URL))
    check_url(url, name)
    return Secret(key), url.rstrip("/")


def _read_env_file(file: Path) -> dict[str, str]:
    if not file.is_file():
        return {}
    try:
        text = read_text(file, _LONGEST_ENV_FILE)
    except (ValueError, OSError) as error:
        raise UserError(f"cannot be read: {error}", "", str(file)) from None
    values = {}
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not name.lstrip().startswith("#"):
            values[name.strip()] = value.strip().strip("\"'")
    return values


@dataclass
class ChatService:
    """``tries`` requests at most for an answer, ``pause`` seconds before the second, then twice as
    long each time, unless the service says how long. A request with its whole answer takes
    ``timeout`` seconds at most."""

    key: Secret
    url: str
    model: str
    tries: int = 8
    pause: float = 1.0
    timeout: float = 120.0
    temperature: float = 0.7

    def ask(self, messages: Sequence[Message]) -> str:
        """The answer to a conversation; UserError if the service refuses (key, model), RunFailure
        if it does not answer in all tries."""
        reason = ""
        for number in range(self.tries):
            try:
                return self._request(messages)
            except _Passing as error:
                reason = str(error)
                if number + 1 < self.tries:
                    wait = self._wait(number, error.after)
                    logger.warning("%s; asking again in %.1f s", reason, wait)
                    time.sleep(wait)
        raise RunFailure(
            f"{self.url} gave no answer in {self.tries} tries: {reason}",
            "what was done is saved: run the command again later",
        )

    def _wait(self, number: int, after: float | None) -> float:
        wait = self.pause * 2 ** min(number, _DOUBLINGS) if after is None else after
        return min(wait, _LONGEST_PAUSE)

    def _request(self, messages: Sequence[Message]) -> str:
        content = {"model": self.model, "messages": list(messages), "temperature": self.temperature}
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {self.key.reveal()}",
        }
        try:
            address = f"{self.url}/chat/completions"
            answer = post(address, json.dumps(content).encode(), headers, self.timeout)
        except TransportError as error:  # "from None": an error may hold the request and the key
            raise _Passing(self.key.hide(f"{self.url} {error}")) from None
        if not 200 <= answer.status < 300:
            raise self._refusal(answer)
        try:
            text = json.loads(answer.body)["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            text = None
        except (ValueError, RecursionError):
            raise _Passing(f"{self.url} answered with something that is no JSON") from None
        if not isinstance(text, str):
            raise _Passing(f"{self.url} answered without a message")
        return self.key.hide(text)

    def _refusal(self, answer: Answer) -> Exception:
        said = f"{self.url} answered {answer.status}"
        if 300 <= answer.status < 400:
            target = self.key.hide(answer.headers.get("Location") or "nowhere")
            return UserError(
                f"{said}: it redirects to {shorten(target)}, which is not asked: the key is sent "
                "to the configured address alone",
                "if that is the address of the service, set it",
                _URLS[0],
            )
        said += f" {shorten(self.key.hide(_message(answer.body)))}"
        if answer.status in _PASSING or answer.status >= 500:
            return _Passing(said, _seconds(answer.headers.get("Retry-After", "")))
        key = _KEY if answer.status in (401, 403) else "--model"
        return UserError(said, f"check {key}", key)


class _Passing(Exception):
    """What may be over at the next try; ``after`` seconds, if the service says so."""

    def __init__(self, text: str, after: float | None = None):
        super().__init__(text)
        self.after = after


def _seconds(text: str) -> float | None:
    """A header Retry-After, in seconds or as a date; None if it says nothing of use."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            date = parsedate_to_datetime(text)
            seconds = date.timestamp() - time.time()
        except (ValueError, TypeError, OverflowError, IndexError, AttributeError):
            return None
        seconds = max(seconds, 0.0)
    return seconds if seconds >= 0 else None  # nan is not


def _message(body: bytes) -> str:
    """What an error says, one line of it."""
    text = body[:_LONGEST_MESSAGE].decode("utf-8", "replace")
    try:
        content: Any = json.loads(body)
        text = content["error"]["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return next((line for line in str(text).splitlines() if line.strip()), "")
