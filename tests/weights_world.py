"""Weights to fetch, and a server of loopback to fetch them from, whose manners a test decides."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import rsbench_backbones.tiny
import torch
from rsbench_backbones.tiny import BACKBONES

from rsbench.specs import Backbone, InputSpec, Weights

TINY_2D, TINY_3D = BACKBONES
URL = "https://weights.example/nets/one.pth"
MOST_REQUESTS = 50


def tiny_state(
    seed: int = 0, *, num_classes: int | None = 3, backbone: Backbone = TINY_2D
) -> dict[str, torch.Tensor]:
    """Parameters of a tiny network, other ones for each seed, running statistics included."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        state = backbone.build(num_classes).state_dict()
        for name, value in state.items():
            if "running" in name:
                value.uniform_(0.5, 1.5)
    return dict(state)


def tiny_file(path: Path, seed: int = 0, **how: Any) -> bytes:
    """Save them as a torch file; gives its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(tiny_state(seed, **how), path)
    return path.read_bytes()


def weights(**fields: Any) -> Weights:
    """An entry of tiny_2d: a torch file with a head of three classes."""
    given = {"name": "one", "url": URL, "format": "torch", "num_classes": 3, **fields}
    return Weights(input=InputSpec(pixels=24), **given)


def declare(monkeypatch: pytest.MonkeyPatch, *entries: Weights, **fields: Any) -> Backbone:
    """Let the registry's tiny_2d have these weights; tiny_3d stays as it is."""
    backbone = replace(TINY_2D, weights=entries, **fields)
    monkeypatch.setattr(rsbench_backbones.tiny, "BACKBONES", (backbone, TINY_3D))
    return backbone


@dataclass
class Server:
    """What the server has, how it behaves, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    """Path -> ETag; a path without one has none."""
    address: str = ""
    cuts: list[int] = field(default_factory=list)
    """How many bytes of a body are sent before the connection breaks, one a request."""
    knows_ranges: bool = True
    knows_if_range: bool = True
    answers: list[tuple[int, dict[str, str]] | None] = field(default_factory=list)
    """Status and headers that come first, one a request; None is the file as ever."""
    gate: threading.Event | None = None
    """A body's second half waits for it."""
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    """Path, Range and If-Range of each request."""


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Server]:
    """Serve files on loopback until the block ends; every one has an ETag."""
    server = Server(files=files, etags={path: f'"{len(body)}-a"' for path, body in files.items()})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, server)

        def log_message(self, format: str, *args: Any) -> None:
            del format, args

    class Listening(ThreadingHTTPServer):
        def handle_error(self, *what: Any) -> None:
            """Say nothing where a client leaves before its answer: tests make clients that do."""

    with Listening(("127.0.0.1", 0), Handler) as listening:
        server.address = f"http://127.0.0.1:{listening.server_address[1]}"
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()


def answer(handler: BaseHTTPRequestHandler, server: Server) -> None:
    """Answer one request as RFC 9110 says, or as badly as the test wants it."""
    asked_range, if_range = handler.headers.get("Range"), handler.headers.get("If-Range")
    server.asked.append((handler.path, asked_range, if_range))
    assert len(server.asked) < MOST_REQUESTS, "a client that never gives up"
    given = server.answers.pop(0) if server.answers else None
    if given is not None:
        status, headers = given
        handler.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        return
    body, etag = server.files.get(handler.path), server.etags.get(handler.path)
    if body is None:
        handler.send_error(404)
        return
    start = _start(server, asked_range, if_range, etag)
    if start >= len(body) and start:
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{len(body)}")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
    if etag is not None:
        handler.send_header("ETag", etag)
    handler.send_header("Content-Length", str(len(body) - start))
    handler.end_headers()
    part = body[start:]
    if server.cuts:
        handler.wfile.write(part[: server.cuts.pop(0)])
        handler.close_connection = True
        return
    half = len(part) // 2
    handler.wfile.write(part[:half])
    if server.gate is not None:
        handler.wfile.flush()
        server.gate.wait(30)
    handler.wfile.write(part[half:])


def _start(server: Server, asked: str | None, if_range: str | None, etag: str | None) -> int:
    match = re.fullmatch(r"bytes=(\d+)-", asked or "")
    if match is None or not server.knows_ranges:
        return 0
    if server.knows_if_range and if_range is not None and if_range != etag:
        return 0
    return int(match[1])
