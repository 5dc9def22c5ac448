"""Elements by a backbone and by a server, on Ray."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from typer.testing import CliRunner

from tests.integration.test_elements import read, write_csv
from tokenfocus_ray.backbones import registry
from tokenfocus_ray.cli.app import app
from tokenfocus_ray.distributed.elements.job import make_elements, run_elements
from tokenfocus_ray.distributed.elements.methods import FromBackbone
from tokenfocus_ray.elements import endpoint as asking
from tokenfocus_ray.elements.decomposed import decomposed, failed
from tokenfocus_ray.elements.endpoint import Endpoint, EndpointClient
from tokenfocus_ray.errors import ConfigError, JobError
from tokenfocus_ray.schema import Element
from tokenfocus_ray.tables.text import PLAIN

KEY = "sk-very-secret"
GOOD = json.dumps({"elements": [{"text": "cat", "type": "animal"}]})
CAT = decomposed([Element("cat", "animal")])
Reply = tuple[int, dict[str, str], str]


def completion(text: str | None) -> Reply:
    usage = {"prompt_tokens": 1000, "completion_tokens": 100}
    return 200, {}, json.dumps({"choices": [{"message": {"content": text}}], "usage": usage})


def error(code: int, message: str, **headers: str) -> Reply:
    return code, headers, json.dumps({"error": {"message": message}})


class StandIn(BaseHTTPRequestHandler):
    """Gives the replies of a list, then good ones."""

    replies: ClassVar[list[Reply]] = []
    asked: ClassVar[list[dict[str, Any]]] = []
    keys: ClassVar[set[str | None]] = set()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.asked.append(json.loads(body))
        self.keys.add(self.headers["authorization"])
        code, headers, text = self.replies.pop(0) if self.replies else completion(GOOD)
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for values in (StandIn.replies, StandIn.asked, StandIn.keys):
        values.clear()
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr("random.uniform", lambda low, high: 0.01)
    running = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_address[1]}/v1"
    running.shutdown()
    running.server_close()


def client(server: str, tmp_path: Path) -> EndpointClient:
    found = Endpoint.of(server, "m", "OPENAI_API_KEY", requests_per_minute=60_000)
    assert KEY not in repr(found)
    return EndpointClient(found, tmp_path / "answers")


def test_patience_with_a_busy_server(server: str, tmp_path: Path) -> None:
    StandIn.replies += [error(429, "slow down", **{"retry-after": "0.2"}), error(503, "busy")]
    ask = client(server, tmp_path)
    assert list(ask(["a cat"])) == [CAT]
    assert {key for key in StandIn.keys} == {f"Bearer {KEY}"}
    assert [sent["model"] for sent in StandIn.asked] == ["m"] * 3
    assert StandIn.asked[0]["response_format"]["type"] == "json_schema"
    assert (ask.usage.requests, ask.usage.tokens_in, ask.usage.tokens_out) == (1, 1000, 100)
    assert list(client(server, tmp_path)(["a cat", "a cat"])) == [CAT, CAT]
    assert len(StandIn.asked) == 3  # what is known is not asked again


def test_answers_of_no_use(server: str, tmp_path: Path) -> None:
    StandIn.replies += [completion("Sure! Here they are"), completion(GOOD)]
    ask = client(server, tmp_path)
    assert list(ask(["a cat"])) == [CAT]
    StandIn.replies += [completion('{"elements": 3}')] * 3
    StandIn.replies += [error(400, f"too long, {KEY}")]
    assert list(ask(["b"])) == [failed(
        "3 answers, none of use; the last: the answer has no list of elements: "
        "'{\"elements\": 3}'"
    )]  # fmt: skip
    assert list(ask(["c"])) == [failed("the server refuses the prompt: 400 too long, [key]")]
    assert ask.usage.requests == 5


def test_servers_without_schemas_or_of_newer_names(server: str, tmp_path: Path) -> None:
    StandIn.replies += [
        error(400, "response_format of type json_schema is not supported"),
        error(400, "use max_completion_tokens, not max_tokens"),
    ]
    assert list(client(server, tmp_path)(["a cat"])) == [CAT]
    assert "response_format" not in StandIn.asked[2]
    assert StandIn.asked[2]["max_completion_tokens"] == 2048


def test_a_server_that_never_answers(server: str, tmp_path: Path) -> None:
    StandIn.replies += [error(500, "down")] * asking.TRIES
    with pytest.raises(JobError) as caught:
        list(client(server, tmp_path)(["a cat"]))
    assert str(caught.value) == (
        f"{server} gave no answer in 7 tries, the last: 500 down; what is answered is kept: launch "
        f"the same command again, with a lower --rpm if it is too busy"
    )


def test_by_the_command(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong key ends the job at once; a right one goes on with it, and says what it costs."""
    monkeypatch.setenv("TOKENFOCUS_CACHE", str(tmp_path / "cache"))
    path, out = write_csv(tmp_path / "m.csv", ["a cat", "b", "a cat", "", "c"]), tmp_path / "out"
    command = ["data", "elements", path, "--map", "prompt=words", "--with", "endpoint", "--url"]
    command += [server, "--model", "m", "--rpm", "6000", "--price-in", "2", "--price-out", "10"]
    StandIn.replies += [error(401, f"Incorrect API key provided: {KEY}")]
    result = CliRunner().invoke(app, [*command, "--out", str(out)])
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception) == (
        f"{server} refuses the request: 401 Incorrect API key provided: [key]"
    )
    assert len(StandIn.asked) == 1
    result = CliRunner().invoke(app, [*command, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert (
        "rows=5 prompts=3 elements=4 given=0 made=4 cut=0 none=1 failed=0 requests=3 "
        "tokens_in=3000 tokens_out=300 cost=0.0090 seconds="
    ) in result.output
    assert KEY not in result.output
    assert [len(row["elements"] or ()) for row in read(str(out))] == [1, 1, 1, 0, 1]
    kept = b"".join(p.read_bytes() for p in out.rglob("*") if p.is_file())
    assert KEY.encode() not in kept


def test_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENFOCUS_CACHE", str(tmp_path / "cache"))
    path = write_csv(tmp_path / "m.csv", ["a red circle", "", "a blue square", "a red circle"])
    how = FromBackbone(registry.resolve("tiny-qwen2_5_vl"), most=1)
    summary = run_elements(
        [path], str(tmp_path / "out"), how, mapping={"prompt": "words"}, text=PLAIN,
        replace=False, say=lambda line: None,
    )  # fmt: skip
    rows = read(str(tmp_path / "out"))
    assert (summary.rows, summary.prompts, summary.statuses["none"]) == (4, 2, 1)
    assert rows[0]["elements"] == rows[3]["elements"]
    assert [len(row["elements"] or ()) for row in rows] == [1, 0, 1, 1]
    assert rows[0]["elements_reason"] == (
        "the backbone may list 1 elements, and did; there may be more"
    )
    with pytest.raises(ConfigError) as caught:
        run_elements(
            [path], str(tmp_path / "more"), FromBackbone(how.source, workers=99),
            mapping={"prompt": "words"}, text=PLAIN, replace=False, say=lambda line: None,
        )  # fmt: skip
    assert str(caught.value).startswith("--workers 99: each takes a logical CPU, and the session")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "backbone"}, "--with backbone: give --backbone NAME, a folder, or a hub id"),
        ({"method": "endpoint"}, "--with endpoint: give --model NAME, as the server names it"),
        ({"backbone": "tiny-internvl"}, "--backbone is not for --with rules; leave one of them "
         "out"),
        ({"method": "endpoint", "workers": 2}, "--workers is not for --with endpoint; leave one of "
         "them out"),
    ],
)  # fmt: skip
def test_what_does_not_go_together(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        make_elements("no.csv", str(tmp_path / "out"), **options)
    assert str(caught.value) == message
