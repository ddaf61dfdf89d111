"""A chat service that speaks OpenAI's protocol: asked politely, its key kept to itself."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowfast.utils.errors import RunFailure, UserError
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)

_KEY, _URLS = "OPENAI_API_KEY", ("OPENAI_BASE_URL", "OPENAI_API_BASE")
_PUBLIC_URL = "https://api.openai.com/v1"
_LONGEST_PAUSE = 60.0  # seconds
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
    if not values.get(_KEY):
        raise UserError(
            "is not set",
            f"export {_KEY}=…, or write it into a file .env (never into a configuration)",
            _KEY,
        )
    url = next((values[name] for name in _URLS if values.get(name)), _PUBLIC_URL)
    return Secret(values[_KEY].strip()), url.rstrip("/")


def _read_env_file(file: Path) -> dict[str, str]:
    if not file.is_file():
        return {}
    values = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        name, equals, value = line.removeprefix("export ").partition("=")
        if equals and not name.lstrip().startswith("#"):
            values[name.strip()] = value.strip().strip("\"'")
    return values


@dataclass
class ChatService:
    """``tries`` requests at most for an answer, ``pause`` seconds before the second, then twice as
    long each time, unless the service says how long."""

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
        wait = self.pause * 2**number if after is None else after
        return min(wait, _LONGEST_PAUSE)

    def _request(self, messages: Sequence[Message]) -> str:
        content = {"model": self.model, "messages": list(messages), "temperature": self.temperature}
        request = urllib.request.Request(
            f"{self.url}/chat/completions",
            json.dumps(content).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self.key.reveal()}"},
        )
        # Errors are raised again "from None": the first ones hold the request and so the key.
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                answer = json.loads(response.read())
        except urllib.error.HTTPError as error:
            raise self._refusal(error) from None
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            reason = getattr(error, "reason", error)
            raise _Passing(self.key.hide(f"{self.url} cannot be reached: {reason}")) from None
        except ValueError:
            raise _Passing(f"{self.url} answered with something that is no JSON") from None
        try:
            return str(answer["choices"][0]["message"]["content"])
        except (KeyError, IndexError, TypeError):
            raise _Passing(f"{self.url} answered without a message") from None

    def _refusal(self, error: urllib.error.HTTPError) -> Exception:
        text = self.key.hide(_message(error.read()))
        if error.code in _PASSING or error.code >= 500:
            return _Passing(f"{self.url} answered {error.code} {text}", _seconds(error))
        key = _KEY if error.code in (401, 403) else "--model"
        return UserError(f"{self.url} answered {error.code} {text}", f"check {key}", key)


class _Passing(Exception):
    """What may be over at the next try; ``after`` seconds, if the service says so."""

    def __init__(self, text: str, after: float | None = None):
        super().__init__(text)
        self.after = after


def _seconds(error: urllib.error.HTTPError) -> float | None:
    try:
        return float(error.headers.get("Retry-After", ""))
    except ValueError:
        return None


def _message(body: bytes) -> str:
    """What an error says, one line of it."""
    text = body.decode("utf-8", "replace")
    try:
        content: Any = json.loads(text)
        text = content["error"]["message"]
    except (ValueError, KeyError, TypeError):
        pass
    return (str(text).splitlines() or [""])[0][:200]
