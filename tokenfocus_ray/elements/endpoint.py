"""Any server that speaks OpenAI's chat completions: asked at a bounded rate, with patience.

Format: https://platform.openai.com/docs/api-reference/chat. vLLM, SGLang, Ollama and others speak
it too.
"""

from __future__ import annotations

import email.utils
import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tokenfocus_ray.elements.cache import AnswerCache
from tokenfocus_ray.elements.decomposed import Decomposed, decomposed, failed, nothing
from tokenfocus_ray.elements.usage import Usage
from tokenfocus_ray.elements.wording import answer_schema, question, read_answer
from tokenfocus_ray.errors import ConfigError, JobError, UserError

#: Where OpenAI's own server is.
OPENAI = "https://api.openai.com/v1"
_KEY_FROM = "OPENAI_API_KEY"
#: Requests at a time, tries of one, and tries that may bring no usable answer.
AT_ONCE, TRIES, ANSWERS = 8, 7, 3
_NOTHING = "the server's model lists no elements"
_TIMEOUT = httpx.Timeout(120.0, connect=15.0)
_LONGEST_PAUSE = 120.0
_MAX_TOKENS, _LIMITS = 2048, ("max_tokens", "max_completion_tokens")
#: Of these codes a later try may succeed; of those, none.
_AGAIN, _NEVER = frozenset((408, 409, 425, 429)), frozenset((401, 402, 403, 404, 405))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Which server is asked, and how.

    Attributes:
        url: Up to and including ``/v1``.
        model: As the server names it.
        requests_per_minute: At the most.
        price_in: Money for a million tokens in; None: unknown.
        price_out: Likewise of tokens out.
        key: Sent as a bearer token; empty: none is sent.
    """

    url: str
    model: str
    requests_per_minute: float = 60.0
    price_in: float | None = None
    price_out: float | None = None
    key: str = field(default="", repr=False)

    @classmethod
    def of(
        cls, url: str | None, model: str | None, key_from: str | None = None, **rest: Any
    ) -> Endpoint:
        """Checks what the user gave.

        Args:
            url: See :class:`Endpoint`; None: OpenAI's.
            model: Likewise.
            key_from: Environment variable that holds the key; None: ``OPENAI_API_KEY``.
            **rest: The other fields.

        Raises:
            ConfigError: something is missing or out of range.
        """
        url, key_from = url or OPENAI, key_from or _KEY_FROM
        if not url.startswith(("http://", "https://")) or "@" in url or "?" in url:
            raise ConfigError(
                "--url: wanted http:// or https://, without a name, a key or a query in it, such "
                f"as {OPENAI} or http://localhost:8000/v1"
            )
        if not model:
            raise ConfigError("--with endpoint: give --model NAME, as the server names it")
        key = os.environ.get(key_from, "").strip()
        if not key and url.rstrip("/") == OPENAI:
            raise ConfigError(
                f"--with endpoint: the environment variable {key_from} is not set; put the key of "
                f"{OPENAI} there, or name another with --key-env"
            )
        found = cls(url.rstrip("/"), model, key=key, **rest)
        if found.requests_per_minute <= 0:
            raise ConfigError(f"--rpm {found.requests_per_minute:g}: wanted more than 0")
        for name, price in (("--price-in", found.price_in), ("--price-out", found.price_out)):
            if price is not None and price < 0:
                raise ConfigError(f"{name} {price:g}: wanted 0 or more")
        return found


class Pace:
    """Lets one request pass every so often, whoever asks.

    Args:
        a_minute: How many.
    """

    def __init__(self, a_minute: float) -> None:
        self._seconds, self._lock, self._next = 60.0 / a_minute, threading.Lock(), 0.0

    def wait(self) -> None:
        """Returns when it is this request's turn."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._seconds
        time.sleep(turn - now)


class _Refused(Exception):
    """The server takes this prompt for wrong, or has no usable answer to it."""


class EndpointClient:
    """Decomposes prompts by asking a server.

    Args:
        endpoint: Which.
        cache: File of answers that are known.

    Attributes:
        usage: Of all requests.
    """

    def __init__(self, endpoint: Endpoint, cache: Path) -> None:
        self._endpoint, self.usage = endpoint, Usage()
        self._cache = AnswerCache(cache, f"{endpoint.url} {endpoint.model}")
        self._pace, self._lock = Pace(endpoint.requests_per_minute), threading.Lock()
        self._with_schema, self._limit = True, _LIMITS[0]
        headers = {"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
        self._client = httpx.Client(headers=headers, timeout=_TIMEOUT)

    def __call__(self, prompts: Sequence[str]) -> Iterator[Decomposed]:
        """What becomes of each prompt, in their order.

        Raises:
            ConfigError: the server does not let us in, or takes the first request for wrong.
            JobError: it does not answer.
        """
        known = self._cache.get(prompts)
        unknown = [prompt for prompt in dict.fromkeys(prompts) if prompt not in known]
        first = unknown[:1] if not self.usage.requests else []
        for prompt in first:  # alone, so that what is wrong with all is asked once
            known |= self._kept([prompt])
        rest = unknown[len(first) :]
        for start in range(0, len(rest), 4 * AT_ONCE):
            known |= self._kept(rest[start : start + 4 * AT_ONCE])
        yield from (known[prompt] for prompt in prompts)

    def _kept(self, prompts: Sequence[str]) -> dict[str, Decomposed]:
        """Asks about prompts, several at a time, and keeps the answers, also before an error."""
        made: dict[str, Decomposed] = {}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            asked = {prompt: pool.submit(self._decompose, prompt) for prompt in prompts}
            try:
                for prompt, future in asked.items():
                    made[prompt] = future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
            finally:
                self._cache.put(made)
        return made

    def _decompose(self, prompt: str) -> Decomposed:
        problem = ""
        for _ in range(ANSWERS):
            try:
                elements = read_answer(self._ask(prompt))
            except _Refused as error:
                return failed(str(error))
            except UserError:  # which is a ValueError too
                raise
            except ValueError as error:
                problem = str(error)
                continue
            if elements:
                return decomposed(elements)
            problem = _NOTHING
        if problem == _NOTHING:
            return nothing(problem)
        return failed(f"{ANSWERS} answers, none of use; the last: {problem}")

    def _ask(self, prompt: str) -> str:
        """The model's answer."""
        body: dict[str, Any] = {
            "model": self._endpoint.model,
            "messages": [{"role": "user", "content": question(prompt)}],
        }
        response = self._sent(body)
        try:
            value = response.json()
            used = value.get("usage") or {}
            with self._lock:
                self.usage.requests += 1
                self.usage.tokens_in += int(used.get("prompt_tokens") or 0)
                self.usage.tokens_out += int(used.get("completion_tokens") or 0)
            content = value["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, AttributeError):
            raise ValueError(f"no chat completion came: {self._shown(response)}") from None
        if not isinstance(content, str):
            raise _Refused("the server's model answered without a text")
        return content

    def _sent(self, body: dict[str, Any]) -> httpx.Response:
        """A response of success, after as many tries as it takes."""
        problem, pause = "", 0.0
        for attempt in range(TRIES):
            time.sleep(pause)
            self._pace.wait()
            with_schema = self._with_schema
            limit = self._limit
            sent = body | {limit: _MAX_TOKENS} | (_FORMAT if with_schema else {})
            pause = min(_LONGEST_PAUSE, 2.0**attempt) * random.uniform(0.5, 1.0)
            try:
                response = self._client.post(f"{self._endpoint.url}/chat/completions", json=sent)
            except httpx.TransportError as error:
                problem = f"{type(error).__name__}: {error}"
                continue
            if response.is_success:
                return response
            code, problem = response.status_code, self._shown(response)
            if code in _AGAIN or code >= 500:
                pause = max(pause, _retry_after(response))
            elif with_schema and code in (400, 422) and "response_format" in response.text:
                self._with_schema, pause = False, 0.0
            elif limit == _LIMITS[0] and code in (400, 422) and limit in response.text:
                self._limit, pause = _LIMITS[1], 0.0  # its newer name
            elif code in _NEVER or not self.usage.requests:
                raise ConfigError(f"{self._endpoint.url} refuses the request: {problem}")
            else:
                raise _Refused(f"the server refuses the prompt: {problem}")
        raise JobError(
            f"{self._endpoint.url} gave no answer in {TRIES} tries, the last: {problem}; what is "
            f"answered is kept: launch the same command again, with a lower --rpm if it is too busy"
        )

    def _shown(self, response: httpx.Response) -> str:
        """Code and message of a response, without the key, which some servers repeat."""
        text = " ".join(response.text.split())
        try:
            error = response.json()["error"]
            text = str(error["message"] if isinstance(error, dict) else error)
        except (ValueError, LookupError, TypeError):
            pass
        if self._endpoint.key:
            text = text.replace(self._endpoint.key, "[key]")
        return f"{response.status_code} {text[:300]}".strip()


_FORMAT = {
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "elements", "strict": True, "schema": answer_schema()},
    }
}


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the server asks to wait, within reason."""
    given = response.headers.get("retry-after", "")
    try:
        seconds = float(given)
    except ValueError:
        try:
            when = email.utils.parsedate_to_datetime(given)
            seconds = when.timestamp() - time.time()
        except (ValueError, TypeError):
            seconds = 0.0
    return max(0.0, min(_LONGEST_PAUSE, seconds))
