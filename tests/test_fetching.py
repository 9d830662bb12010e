"""Fetching over loopback: whole or not at all, the right file or none, on from where it broke."""

from __future__ import annotations

import errno
import io
import os
import socket
import tarfile
import threading
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from email.message import Message
from pathlib import Path
from urllib.request import Request

import h5py
import numpy as np
import pytest
from safetensors.torch import save_file
from weights_world import TINY_2D, URL, Server, serving, tiny_file, tiny_state, weights

from rsbench.digests import digest_bytes
from rsbench.errors import DiskError, WeightsError
from rsbench.specs import Weights
from rsbench.weights import downloading, shelf
from rsbench.weights.downloading import DownloadError
from rsbench.weights.fetching import Fetched, fetch
from rsbench.weights.shelf import Place

PATH = "/nets/one.pth"

DiskUsage = namedtuple("DiskUsage", "total used free")


@pytest.fixture(autouse=True)
def _quick_and_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "PAUSES_SECONDS", (0.0, 0.0, 0.0))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("HF_ENDPOINT", raising=False)


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return tiny_file(tmp_path_factory.mktemp("published") / "one.pth")


@pytest.fixture
def server(body: bytes) -> Iterator[Server]:
    with serving({PATH: body}) as found:
        yield found


def placed(tmp_path: Path, entry: Weights | None = None) -> Place:
    return shelf.place_of(TINY_2D, entry or weights(), cache_root=tmp_path)


def left(place: Place) -> list[str]:
    return sorted(path.name for path in place.raw.parent.iterdir())


def refused(place: Place, server: Server | None = None, **how: object) -> str:
    """Fetch what must be refused, by one line; gives the line."""
    mirror = {} if server is None else {"mirror": server.address}
    with pytest.raises(WeightsError) as caught:
        fetch(place, **mirror, **how)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert not place.raw.exists()
    return str(caught.value)


# ------------------------------------------------------------------------------------------- whole


def test_a_file_comes_whole_and_is_pinned(tmp_path: Path, server: Server, body: bytes) -> None:
    place, seen = placed(tmp_path), []

    done = fetch(place, mirror=server.address, progress=lambda *numbers: seen.append(numbers))

    assert place.raw.read_bytes() == body
    assert done == Fetched(
        path=place.raw,
        sha256=digest_bytes(body),
        size_bytes=len(body),
        held_to="nothing",
        was_here=False,
    )
    assert seen[-1] == (len(body), len(body))
    pin = shelf.read_pin(place)
    assert pin is not None
    assert (pin.sha256, pin.size_bytes) == (digest_bytes(body), len(body))
    assert pin.origin == f"{server.address}{PATH}"
    assert left(place) == ["one.pin.json", "one.pth"]


@pytest.mark.parametrize(("digits", "held_to"), [(64, "declared"), (8, "first digits")])
def test_a_declared_sha256_is_held_to(
    digits: int, held_to: str, tmp_path: Path, server: Server, body: bytes
) -> None:
    place = placed(tmp_path, weights(sha256=digest_bytes(body)[:digits]))

    assert fetch(place, mirror=server.address).held_to == held_to


def test_what_is_here_is_not_fetched_again(tmp_path: Path, server: Server) -> None:
    place = placed(tmp_path)
    first = fetch(place, mirror=server.address)

    assert fetch(place, mirror=server.address) == replace(first, was_here=True)
    assert len(server.asked) == 1


def test_a_file_put_there_by_hand_is_pinned_when_it_is_met(tmp_path: Path) -> None:
    place = placed(tmp_path)
    tiny_file(place.raw)

    assert fetch(place).was_here
    tiny_file(place.raw, seed=1)
    with pytest.raises(WeightsError, match="of the first fetch"):
        fetch(place)


# -------------------------------------------------------------------------------- broken and mended


def test_a_download_that_is_cut_goes_on_where_it_stopped(
    tmp_path: Path, server: Server, body: bytes
) -> None:
    server.cuts = [1000, 500]
    place = placed(tmp_path)

    fetch(place, mirror=server.address)

    assert place.raw.read_bytes() == body
    etag = server.etags[PATH]
    assert server.asked == [
        (PATH, None, None),
        (PATH, "bytes=1000-", etag),
        (PATH, "bytes=1500-", etag),
    ]


def test_a_later_command_goes_on_where_an_earlier_one_gave_up(
    tmp_path: Path, server: Server, body: bytes
) -> None:
    place = placed(tmp_path)
    server.cuts = [1000, 0, 0, 0]

    line = refused(place, server)
    assert "stopped after 1,000 bytes" in line
    assert "run the same command again" in line
    assert place.raw.with_name("one.pth.partial").read_bytes() == body[:1000]

    server.asked.clear()
    fetch(place, mirror=server.address)

    assert place.raw.read_bytes() == body
    assert server.asked == [(PATH, "bytes=1000-", server.etags[PATH])]
    assert left(place) == ["one.pin.json", "one.pth"]


def test_a_server_that_knows_no_ranges_sends_it_all_again(
    tmp_path: Path, server: Server, body: bytes
) -> None:
    server.cuts, server.knows_ranges = [1000], False
    place = placed(tmp_path)

    fetch(place, mirror=server.address)

    assert place.raw.read_bytes() == body
    assert [asked for _, asked, _ in server.asked] == [None, "bytes=1000-"]


@pytest.mark.parametrize("knows_if_range", [True, False], ids=["as it should", "badly"])
def test_a_file_that_changed_on_the_server_is_begun_again(
    knows_if_range: bool, tmp_path: Path, server: Server, body: bytes
) -> None:
    place = placed(tmp_path)
    half = len(body) // 2
    server.cuts = [half, 0, 0, 0]
    refused(place, server)

    other = tiny_file(tmp_path / "other.pth", seed=1)
    assert other[:half] != body[:half], "a mixture must be another file"
    server.files[PATH], server.etags[PATH] = other, '"other"'
    server.knows_if_range = knows_if_range
    fetch(place, mirror=server.address)

    assert place.raw.read_bytes() == other


def test_without_etag_nothing_is_gone_on_with(tmp_path: Path, server: Server, body: bytes) -> None:
    server.etags.clear()
    server.cuts = [1000]
    place = placed(tmp_path)

    fetch(place, mirror=server.address)

    assert place.raw.read_bytes() == body
    assert [asked for _, asked, _ in server.asked] == [None, None]


def test_a_weak_etag_is_no_ground_to_go_on(tmp_path: Path, server: Server, body: bytes) -> None:
    # RFC 9110, 13.1.5: a weak validator must not stand in If-Range.
    server.etags[PATH] = 'W/"1"'
    server.cuts = [1000]
    place = placed(tmp_path)

    fetch(place, mirror=server.address)

    assert place.raw.read_bytes() == body
    assert [asked for _, asked, _ in server.asked] == [None, None]


def test_a_part_of_another_address_is_begun_again(
    tmp_path: Path, server: Server, body: bytes
) -> None:
    server.cuts = [1000, 0, 0, 0]
    server.files["/copies/nets/one.pth"] = body
    server.etags["/copies/nets/one.pth"] = server.etags[PATH]
    refused(placed(tmp_path), server)

    fetch(placed(tmp_path), mirror=f"{server.address}/copies")

    assert server.asked[-1] == ("/copies/nets/one.pth", None, None)


def test_a_part_that_is_all_of_it_is_accepted(tmp_path: Path, server: Server, body: bytes) -> None:
    # As a process leaves it that is killed between the last byte and the name.
    place = placed(tmp_path)
    server.cuts = [1000, 0, 0, 0]
    refused(place, server)
    place.raw.with_name("one.pth.partial").write_bytes(body)

    fetch(place, mirror=server.address)

    assert place.raw.read_bytes() == body
    assert server.asked[-1][1] == f"bytes={len(body)}-"


def test_a_part_longer_than_the_file_is_begun_again(
    tmp_path: Path, server: Server, body: bytes
) -> None:
    place = placed(tmp_path)
    server.cuts = [1000, 0, 0, 0]
    refused(place, server)
    place.raw.with_name("one.pth.partial").write_bytes(body + b"more")

    fetch(place, mirror=server.address)

    assert place.raw.read_bytes() == body


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_is_busy_is_asked_again(
    status: int, tmp_path: Path, server: Server, body: bytes
) -> None:
    server.answers = [(status, {}), (status, {})]

    assert fetch(placed(tmp_path), mirror=server.address).size_bytes == len(body)


def test_a_server_that_stays_busy_is_given_up(tmp_path: Path, server: Server) -> None:
    server.answers = [(503, {})] * 3

    assert "the server answered 503" in refused(placed(tmp_path), server)
    assert len(server.asked) == 3


# ------------------------------------------------------------------------------------ not this file


@pytest.mark.parametrize("digits", [64, 8])
def test_a_file_of_another_sha256_is_not_kept(
    digits: int, tmp_path: Path, server: Server, body: bytes
) -> None:
    place = placed(tmp_path, weights(sha256="0" * digits))

    line = refused(place, server)

    assert "0" * digits in line
    assert digest_bytes(body) in line
    assert left(place) == []


def test_a_file_cut_short_on_the_server_itself_is_not_kept(
    tmp_path: Path, server: Server, body: bytes
) -> None:
    place = placed(tmp_path, weights(sha256=digest_bytes(body)))
    server.files[PATH] = body[:-1]

    assert digest_bytes(body[:-1]) in refused(place, server)
    assert left(place) == []


def test_the_user_s_sha256_is_held_to(tmp_path: Path, server: Server, body: bytes) -> None:
    place = placed(tmp_path)

    line = refused(place, server, sha256="12345678")
    assert "must have sha256 12345678, as --sha256 says" in line
    assert digest_bytes(body) in line

    done = fetch(place, mirror=server.address, sha256=digest_bytes(body).upper())
    assert done.held_to == "given"
    # It stays so for whoever fetches again without saying it.
    assert fetch(place, mirror=server.address).held_to == "given"


@pytest.mark.parametrize("typed", ["", "1234567", "xyz" * 4, "0" * 65])
def test_a_sha256_that_is_none_is_refused_before_anything_is_asked(
    typed: str, tmp_path: Path, server: Server
) -> None:
    assert "--sha256 must be 8 to 64" in refused(placed(tmp_path), server, sha256=typed)
    assert server.asked == []


def test_another_file_than_at_the_first_fetch_is_refused(
    tmp_path: Path, server: Server, body: bytes
) -> None:
    place = placed(tmp_path)
    fetch(place, mirror=server.address)
    place.raw.unlink()
    server.files[PATH] = tiny_file(tmp_path / "other.pth", seed=1)

    line = refused(place, server)

    assert "of the first fetch" in line
    assert digest_bytes(body) in line
    assert digest_bytes(server.files[PATH]) in line
    assert left(place) == ["one.pin.json"]


def test_a_page_instead_of_a_file_is_refused(tmp_path: Path, server: Server) -> None:
    server.files[PATH] = b"<!doctype html><title>Log in to this network</title>"

    assert "begins with b'<!doctype'" in refused(placed(tmp_path), server)


def test_a_file_that_is_not_there_says_how_it_can_come_all_the_same(
    tmp_path: Path, server: Server
) -> None:
    del server.files[PATH]
    place = placed(tmp_path)

    line = refused(place, server)

    assert "the server answered 404" in line
    assert f"download {URL}" in line
    assert f"{server.address}{PATH}" in line
    assert str(place.raw) in line
    assert "`rsbench weights fetch tiny_2d one --from FILE`" in line


# ------------------------------------------------------------------------------ where it leads


def test_a_redirect_is_followed(tmp_path: Path, server: Server, body: bytes) -> None:
    server.answers = [(302, {"Location": f"{server.address}/cdn/file"})]
    server.files["/cdn/file"] = body

    fetch(placed(tmp_path), mirror=server.address)

    assert [path for path, *_ in server.asked] == [PATH, "/cdn/file"]


def test_a_download_goes_on_behind_a_redirect_too(
    tmp_path: Path, server: Server, body: bytes
) -> None:
    # As the hub answers each request: it leads to another host, which has the ETag.
    leads = (302, {"Location": f"{server.address}/cdn/file"})
    server.answers = [leads, None, leads, None]
    server.files["/cdn/file"], server.etags["/cdn/file"] = body, '"cdn"'
    server.cuts = [1000]

    place = placed(tmp_path)
    fetch(place, mirror=server.address)

    assert place.raw.read_bytes() == body
    assert server.asked[1] == ("/cdn/file", None, None)
    assert server.asked[3] == ("/cdn/file", "bytes=1000-", '"cdn"')


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_a_redirect_to_another_scheme_is_refused(
    target: str, tmp_path: Path, server: Server
) -> None:
    server.answers = [(302, {"Location": target})]

    assert target in refused(placed(tmp_path), server)


def test_a_redirect_never_leads_from_https_to_http() -> None:
    asked = Request("https://weights.example/a")

    with pytest.raises(DownloadError, match=r"from https to http://weights\.example/b"):
        downloading._Redirects().redirect_request(
            asked,
            io.BytesIO(),
            302,
            "Found",
            {},
            "http://weights.example/b",
        )


def hub(server: Server, monkeypatch: pytest.MonkeyPatch, linked: str) -> Weights:
    """Let the server answer as huggingface.co does: a redirect that states the file's sha256."""
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    headers = {"Location": f"{server.address}{PATH}", "X-Linked-Etag": f'"{linked}"'}
    server.answers = [(302, headers)]
    return weights(url="timm/tiny", format="torch")


def test_what_a_hub_states_is_held_to(
    tmp_path: Path, server: Server, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = hub(server, monkeypatch, digest_bytes(body))

    done = fetch(placed(tmp_path, entry))

    assert server.asked[0][0] == "/timm/tiny/resolve/main/pytorch_model.bin"
    # Not huggingface.co itself: that the file came whole says nothing of whose it is.
    assert done.held_to == "nothing"


def test_another_file_than_the_hub_states_is_refused(
    tmp_path: Path, server: Server, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = hub(server, monkeypatch, "0" * 64)

    line = refused(placed(tmp_path, entry))

    assert "0" * 64 in line
    assert digest_bytes(body) in line


def test_the_word_of_the_hub_itself_counts(
    tmp_path: Path, server: Server, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The hub's own address, answered by this server standing in as a proxy.
    monkeypatch.setattr(shelf, "HUB", "http://huggingface.co")
    monkeypatch.setattr("rsbench.weights.fetching.HUB", "http://huggingface.co")
    monkeypatch.setenv("http_proxy", server.address)
    monkeypatch.setenv("no_proxy", "")
    file = "http://huggingface.co/timm/tiny/resolve/main/pytorch_model.bin"
    server.answers = [
        (302, {"Location": "http://cdn.example/f", "X-Linked-Etag": f'"{digest_bytes(body)}"'})
    ]
    server.files["http://cdn.example/f"] = body
    place = placed(tmp_path, weights(url="timm/tiny", format="torch"))

    done = fetch(place)

    assert server.asked[0][0] == file
    assert done.held_to == "hub"
    pin = shelf.read_pin(place)
    assert pin is not None
    assert (pin.origin, pin.held_to) == (file, "hub")


def test_a_proxy_of_the_environment_is_asked(
    tmp_path: Path, server: Server, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.address)
    server.files["http://weights.example/nets/one.pth"] = body

    fetch(placed(tmp_path), mirror="http://weights.example")

    assert server.asked[0][0] == "http://weights.example/nets/one.pth"


def test_without_network_the_line_says_what_to_download_and_where_to_put_it(
    tmp_path: Path,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        mirror = f"http://127.0.0.1:{taken.getsockname()[1]}"
        place = placed(tmp_path)

        line = refused(place, None, mirror=mirror)

    assert "Can't reach 127.0.0.1" in line
    # The mirror's own address is of no use to who can't reach it.
    assert f"download {URL} by other means" in line
    assert f"put the file at {place.raw}" in line
    assert "--from FILE" in line


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://weights.example/one.pth"])
def test_an_address_of_another_scheme_is_refused(url: str, tmp_path: Path) -> None:
    assert "by http or https alone" in refused(placed(tmp_path, weights(url=url)))


def test_weights_without_address_say_where_they_are_from(tmp_path: Path) -> None:
    line = refused(placed(tmp_path, weights(url=None, source="ask the authors")))

    assert "(ask the authors) and give it with --from FILE" in line


# ----------------------------------------------------------------------------------- local files


def test_a_file_of_the_user_s_is_copied_and_checked_alike(tmp_path: Path, body: bytes) -> None:
    place = placed(tmp_path, weights(sha256=digest_bytes(body)))
    source = tmp_path / "downloads" / "whatever.bin"
    source.parent.mkdir()
    source.write_bytes(body)

    done = fetch(place, source=source)

    assert (done.path, done.held_to) == (place.raw, "declared")
    assert place.raw.read_bytes() == source.read_bytes() == body
    pin = shelf.read_pin(place)
    assert pin is not None
    assert pin.origin == str(source)


@pytest.mark.parametrize("name", ["one.pth", "net-a1b2.pth"])
def test_a_folder_is_searched_for_the_published_names(
    name: str, tmp_path: Path, body: bytes
) -> None:
    place = placed(tmp_path, weights(url="https://weights.example/nets/net-a1b2.pth"))
    folder = tmp_path / "downloads"
    folder.mkdir()
    (folder / name).write_bytes(body)

    assert fetch(place, source=folder).path == place.raw


def test_a_folder_without_the_file_says_what_it_must_hold(tmp_path: Path) -> None:
    line = refused(placed(tmp_path), source=tmp_path)

    assert "must hold one.pth" in line


def test_a_source_that_does_not_exist_is_named(tmp_path: Path) -> None:
    assert "does not exist" in refused(placed(tmp_path), source=tmp_path / "gone.pth")


def test_a_wrong_file_of_the_user_s_is_not_kept(tmp_path: Path) -> None:
    place = placed(tmp_path, weights(sha256="0" * 64))
    body = tiny_file(tmp_path / "mine.pth")

    assert digest_bytes(body) in refused(place, source=tmp_path / "mine.pth")
    assert left(place) == []
    assert (tmp_path / "mine.pth").read_bytes() == body


# ----------------------------------------------------------------------------------------- the disk


def test_what_is_larger_than_the_disk_is_not_begun(
    tmp_path: Path, server: Server, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = DiskUsage(1, 1, len(body) - 1)
    monkeypatch.setattr(downloading.shutil, "disk_usage", lambda folder: usage)

    with pytest.raises(DiskError) as caught:
        fetch(placed(tmp_path), mirror=server.address)

    assert f"{len(body):,} bytes and has {len(body) - 1:,}" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_full_disk_is_one_line(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(DiskError, match="No space left on device"):
        fetch(placed(tmp_path), mirror=server.address)


# ------------------------------------------------------------------------------------- side by side


def test_two_fetches_at_once_do_not_meet(tmp_path: Path, server: Server, body: bytes) -> None:
    server.gate = threading.Event()
    place, begun, done = placed(tmp_path), threading.Event(), []

    def slow() -> None:
        done.append(fetch(place, mirror=server.address, progress=lambda *_: begun.set()))

    # One block is more than the file, so progress comes with its end: wait for the request instead.
    first = threading.Thread(target=slow)
    first.start()
    while not server.asked:
        first.join(0.01)
    with pytest.raises(WeightsError, match="Another rsbench is fetching"):
        fetch(place, mirror=server.address)
    server.gate.set()
    first.join(30)

    assert begun.is_set()
    assert [each.was_here for each in done] == [False]
    assert place.raw.read_bytes() == body
    assert len(server.asked) == 1


def test_where_no_lock_is_known_the_partial_file_has_a_name_of_its_own(
    tmp_path: Path, server: Server, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("rsbench.weights.fetching.fcntl.flock", unknown)
    place = placed(tmp_path)
    server.cuts = [1000, 0, 0, 0]

    line = refused(place, server)
    assert "stopped after 1,000 bytes" in line
    assert "goes on" not in line
    assert left(place) == []
    fetch(place, mirror=server.address)
    assert place.raw.read_bytes() == body


def test_the_declared_address_is_what_is_downloaded() -> None:
    assert shelf.address(weights()) == URL


# -------------------------------------------------------------------------------------------- whole


def cut(path: Path, name: str, content: bytes) -> Path:
    (path / name).write_bytes(content)
    return path / name


def contents(format: str, tmp_path: Path) -> bytes:
    """A small whole file of a format."""
    path = tmp_path / "whole"
    if format == "torch":
        return tiny_file(path)
    if format == "safetensors":
        save_file(tiny_state(), path)
    elif format == "keras-h5":
        with h5py.File(path, "w") as file:
            file["a"] = np.arange(5000)
    else:
        (tmp_path / "inside").write_bytes(os.urandom(5000))
        with tarfile.open(path, "w:gz") as archive:
            archive.add(tmp_path / "inside", arcname="model.ckpt.index")
    return path.read_bytes()


FORMATS = ["torch", "safetensors", "keras-h5", "tf1", "tf2"]


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_cut_short_is_refused_by_its_container(format: str, tmp_path: Path) -> None:
    whole = contents(format, tmp_path)
    place = placed(tmp_path, weights(format=format))

    for size in (len(whole) // 2, len(whole) - 1):
        line = refused(place, source=cut(tmp_path, "cut", whole[:size]))
        assert f"must be a whole {format} file; it is cut short or damaged" in line
        assert left(place) == []
    assert fetch(place, source=cut(tmp_path, "whole", whole)).size_bytes == len(whole)


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_of_another_format_is_refused(format: str, tmp_path: Path) -> None:
    other = contents("keras-h5" if format == "torch" else "torch", tmp_path)
    place = placed(tmp_path, weights(format=format))

    assert f"must be a {format} file and begins with" in refused(
        place, source=cut(tmp_path, "other", other)
    )


def test_an_hdf5_file_of_the_newest_layout_is_walked_too(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        file["a"] = np.arange(5000)
    whole = (tmp_path / "a.h5").read_bytes()
    place = placed(tmp_path, weights(format="keras-h5"))

    assert "cut short" in refused(place, source=cut(tmp_path, "cut.h5", whole[:-1]))
    assert fetch(place, source=tmp_path / "a.h5").size_bytes == len(whole)


def test_another_size_than_declared_is_refused(tmp_path: Path, body: bytes) -> None:
    place = placed(tmp_path, weights(size_bytes=len(body) + 1))

    line = refused(place, source=cut(tmp_path, "a.pth", body))

    assert f"must have {len(body) + 1:,} bytes to be one; it has {len(body):,}" in line


class Unsaid:
    """An answer that does not say how long it is, as of a server that closes the connection."""

    status = 200

    def __init__(self, content: bytes) -> None:
        self.headers = Message()
        self._stream = io.BytesIO(content)

    def __enter__(self) -> Unsaid:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def read(self, size: int) -> bytes:
        return self._stream.read(size)


def test_a_file_of_unknown_length_is_refused_unless_something_tells_the_whole(
    tmp_path: Path, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(*_: object, **__: object) -> Unsaid:
        return Unsaid(body[:-1] if is_cut else body)

    monkeypatch.setattr(downloading.OpenerDirector, "open", answer)
    is_cut = False
    assert "does not say how long the file is" in refused(placed(tmp_path))
    assert fetch(placed(tmp_path), sha256=digest_bytes(body)).size_bytes == len(body)
    sized = placed(tmp_path, weights(name="two", size_bytes=len(body)))
    is_cut = True
    assert f"stopped after {len(body) - 1:,} bytes" in refused(sized)
    is_cut = False
    assert fetch(sized).size_bytes == len(body)


def test_what_is_begun_again_each_time_is_given_up(tmp_path: Path, server: Server) -> None:
    # More comes each time, and yet no try is nearer than the first: no part can be gone on with.
    server.etags.clear()
    server.cuts = [*range(1000, 3000, 100)]

    assert "stopped after" in refused(placed(tmp_path), server)
    assert len(server.asked) == 4


# ------------------------------------------------------------------------------- again, and secrets


def test_another_file_than_the_one_here_is_not_ignored(tmp_path: Path, body: bytes) -> None:
    place = placed(tmp_path)
    fetch(place, source=cut(tmp_path, "a.pth", body))
    other = tiny_file(tmp_path / "other.pth", seed=1)

    assert fetch(place, source=tmp_path / "a.pth").was_here
    with pytest.raises(WeightsError, match="add --again to the same command"):
        fetch(place, source=tmp_path / "other.pth")
    place.converted.write_bytes(b"of the first")
    done = fetch(place, source=tmp_path / "other.pth", again=True)

    assert not done.was_here
    assert place.raw.read_bytes() == other
    assert not place.converted.exists()
    pin = shelf.read_pin(place)
    assert pin is not None
    assert (pin.sha256, pin.converted_sha256) == (digest_bytes(other), None)


def test_what_is_here_stays_where_it_can_not_be_fetched_again(tmp_path: Path, body: bytes) -> None:
    place = placed(tmp_path)
    fetch(place, source=cut(tmp_path, "a.pth", body))

    with pytest.raises(WeightsError, match="cut short"):
        fetch(place, source=cut(tmp_path, "cut.pth", body[:-1]), again=True)

    assert place.raw.read_bytes() == body
    assert shelf.read_pin(place) is not None


def test_a_password_in_an_address_is_neither_sent_nor_printed(
    tmp_path: Path, server: Server
) -> None:
    place = placed(tmp_path)

    line = refused(place, mirror=server.address.replace("//", "//me:secret@"))
    server.answers = [(302, {"Location": "http://me:secret@weights.example/a"})]
    led = refused(place, server)

    assert "must be without user and password" in line
    assert "leads from http to http://weights.example/a" in led
    assert "secret" not in line + led
