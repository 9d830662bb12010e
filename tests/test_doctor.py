"""Every question the doctor asks has a fault planted here, and finds it."""

from __future__ import annotations

import shutil
from collections import namedtuple
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from records_factory import save_record, some_hits

from rsbench import doctor, installation, registry
from rsbench.data.shards import Shard, ShardStore
from rsbench.digests import digest_file
from rsbench.findings import Check
from rsbench.media import video
from rsbench.media.image import write_image
from rsbench.registry import Broken, Found, find_backbone
from rsbench.specs import Backbone, InputSpec, Weights
from rsbench.weights.fetching import fetch
from rsbench.weights.shelf import place_of

DiskUsage = namedtuple("DiskUsage", "total used free")

H264 = doctor.CODECS[0]


def by_name(checks: Iterable[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def bad(checks: Iterable[Check]) -> list[Check]:
    return [check for check in checks if not check.ok]


def test_a_sound_machine_passes_every_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The imports and the other codecs have tests of their own.
    monkeypatch.setattr(installation, "IMPORTS", {})
    monkeypatch.setattr(doctor, "CODECS", (H264,))
    results, cache = tmp_path / "results", tmp_path / "cache"

    checks = by_name(doctor.examine(results=results, cache_root=cache))

    assert bad(checks.values()) == []
    assert list(checks) == [
        "versions: python",
        "versions: packages",
        "versions: torch and torchvision",
        "plug-ins: tasks",
        "plug-ins: backbones",
        "plug-ins: protocols",
        "data: config file",
        "data: names",
        "weights",
        "decoder: libx264",
        "disk: results",
        "disk: cache",
        "results",
        "feature cache",
    ]
    assert not results.exists()
    assert not cache.exists()


# ---------------------------------------------------------------------------------------- plug-ins


@pytest.mark.parametrize("kind", ["task", "backbone", "protocol"])
def test_a_broken_plug_in_is_found(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = registry.everything

    def everything(asked: Any) -> Any:
        works, broken = real(asked)
        if asked != kind:
            return works, broken
        planted = Broken(kind=asked, origin="far_away", reason="far_away can't be imported: boom")
        return works, (*broken, planted)

    monkeypatch.setattr(doctor, "everything", everything)

    checks = by_name(doctor.look_at_plugins())

    assert [check.name for check in bad(checks.values())] == [f"plug-ins: {kind}s"]
    assert "far_away can't be imported: boom" in checks[f"plug-ins: {kind}s"].detail


# -------------------------------------------------------------------------------------------- data


def pictures(root: Path) -> Path:
    for name in ("cats", "dogs"):
        (root / name).mkdir(parents=True)
        for number in range(6):
            write_image(root / name / f"{number}.png", np.full((8, 8, 3), number, dtype=np.uint8))
    return root


def test_configured_data_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSBENCH_DATA_FOLDER", str(pictures(tmp_path / "pets")))

    checks = by_name(doctor.look_at_data())

    assert bad(checks.values()) == []
    assert checks["data: folder"].detail.startswith("12 of 12")


def test_no_configured_data_is_said_and_no_fault() -> None:
    checks = by_name(doctor.look_at_data())

    assert list(checks) == ["data: config file", "data: names"]
    assert bad(checks.values()) == []
    assert checks["data: names"].detail.startswith("no data is configured")


def test_a_configured_folder_that_is_gone_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RSBENCH_DATA_KINETICS400", str(tmp_path / "gone"))

    found = bad(doctor.look_at_data())

    assert [check.name for check in found] == ["data: kinetics400"]
    assert str(tmp_path / "gone") in found[0].detail


def test_a_configured_folder_without_the_reported_split_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RSBENCH_DATA_KINETICS400", str(tmp_path))

    assert [check.name for check in bad(doctor.look_at_data())] == ["data: kinetics400"]


def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    monkeypatch.setenv("RSBENCH_CONFIG", str(path))
    return path


def test_data_named_by_the_config_file_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(tmp_path / "pets")
    config(tmp_path, monkeypatch, '[data]\nfolder = "pets"\nkinetics400 = "gone"\n')

    checks = by_name(doctor.look_at_data())

    assert checks["data: folder"].ok
    assert [check.name for check in bad(checks.values())] == ["data: kinetics400"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[data\n", "must be readable TOML"),
        ("data = 3\n", "must have a table [data]"),
    ],
)
def test_a_config_file_that_can_t_be_understood_is_found_once(
    text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config(tmp_path, monkeypatch, text)

    checks = by_name(doctor.look_at_data())

    assert list(checks) == ["data: config file"]
    assert words in checks["data: config file"].detail


def test_a_config_file_that_is_named_and_gone_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config(tmp_path, monkeypatch, "").unlink()

    assert "does not exist" in by_name(doctor.look_at_data())["data: config file"].detail


def test_a_misspelt_variable_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSBENCH_DATA_KINETIC400", str(tmp_path))

    check = by_name(doctor.look_at_data())["data: names"]

    assert not check.ok
    assert "RSBENCH_DATA_KINETIC400 says where" in check.detail
    assert "Did you mean RSBENCH_DATA_KINETICS400" in check.detail


def test_a_misspelt_name_in_the_config_file_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config(tmp_path, monkeypatch, '[data]\nkinetics_400 = "somewhere"\n')

    check = by_name(doctor.look_at_data())["data: names"]

    assert "Did you mean kinetics400" in check.detail


# ----------------------------------------------------------------------------------------- weights


@pytest.fixture
def tiny_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights of tiny_2d with three classes, declared and in the cache; gives the file."""
    tiny = find_backbone("tiny_2d")
    path = tmp_path / "weights" / "tiny_2d" / "seven.pth"
    path.parent.mkdir(parents=True)
    torch.save(tiny.spec.build(3).state_dict(), path)
    weights = Weights(
        name="seven",
        url="hub/seven",
        sha256=digest_file(path),
        format="torch",
        num_classes=3,
        input=InputSpec(pixels=32),
    )
    found = replace(tiny, spec=replace(tiny.spec, weights=(weights,)))
    monkeypatch.setattr(doctor, "everything", lambda kind: ((found,), ()))
    return path


def test_weights_that_are_the_declared_file_pass(tiny_weights: Path, tmp_path: Path) -> None:
    check = doctor.look_at_weights(tmp_path)

    assert check.ok
    assert check.detail.startswith("1 of 1 known files are here, all fit")


def test_weights_with_a_changed_byte_are_found(tiny_weights: Path, tmp_path: Path) -> None:
    content = bytearray(tiny_weights.read_bytes())
    content[len(content) // 2] ^= 1
    tiny_weights.write_bytes(content)

    check = doctor.look_at_weights(tmp_path)

    assert not check.ok
    assert "seven.pth must have sha256" in check.detail
    assert check.next_step == "Delete these files and get them again."


def undeclared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the declared sha256, so that the file itself is looked at."""
    (found,) = doctor.everything("backbone")[0]
    assert isinstance(found.spec, type(find_backbone("tiny_2d").spec))
    weights = replace(found.spec.weights[0], sha256=None)
    other = Found(spec=replace(found.spec, weights=(weights,)), origin=found.origin)
    monkeypatch.setattr(doctor, "everything", lambda kind: ((other,), ()))


def test_weights_that_are_cut_short_are_found(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undeclared(monkeypatch)
    tiny_weights.write_bytes(tiny_weights.read_bytes()[:5000])

    check = doctor.look_at_weights(tmp_path)

    assert not check.ok
    assert "seven.pth" in check.detail


def test_weights_of_another_network_are_found(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undeclared(monkeypatch)
    torch.save(find_backbone("tiny_3d").spec.build(3).state_dict(), tiny_weights)

    assert "seven.pth into tiny_2d" in doctor.look_at_weights(tmp_path).detail


def test_weights_without_declared_sha256_are_called_unverified(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undeclared(monkeypatch)

    check = doctor.look_at_weights(tmp_path)

    assert check.ok
    assert "unverified, as no sha256 is declared: seven" in check.detail


def test_weights_held_to_a_given_sha256_are_not_called_unverified(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undeclared(monkeypatch)
    spec = doctor.everything("backbone")[0][0].spec
    assert isinstance(spec, Backbone)
    fetch(
        place_of(spec, spec.weights[0], cache_root=tmp_path),
        source=tiny_weights,
        sha256=digest_file(tiny_weights),
    )

    check = doctor.look_at_weights(tmp_path)

    assert check.ok
    assert "unverified" not in check.detail


def test_weights_of_another_network_name_the_one_they_fit(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undeclared(monkeypatch)
    works = (*doctor.everything("backbone")[0], find_backbone("tiny_3d"))
    monkeypatch.setattr(doctor, "everything", lambda kind: (works, ()))
    torch.save(find_backbone("tiny_3d").spec.build(3).state_dict(), tiny_weights)

    assert "it fits tiny_3d" in doctor.look_at_weights(tmp_path).detail


# ----------------------------------------------------------------------------------------- decoder


def test_every_codec_of_this_library_is_read_exactly() -> None:
    checks = list(doctor.look_at_decoder())

    assert bad(checks) == []
    assert any(check.name == "decoder: libx264" for check in checks)


@pytest.fixture
def _h264_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CODECS", (H264,))


@pytest.mark.usefixtures("_h264_only")
def test_a_reader_that_is_off_by_one_frame_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = video.read_clips

    def late(*words: Any, **named: Any) -> video.Clips:
        clips = real(*words, **named)
        return clips._replace(frames=np.roll(clips.frames, 1, axis=1))

    monkeypatch.setattr(video, "read_clips", late)

    (check,) = doctor.look_at_decoder()

    assert not check.ok
    assert "reading clips must give the 24 frames asked for; it gave 24" in check.detail
    assert "Do not trust video scores" in check.next_step


@pytest.mark.usefixtures("_h264_only")
def test_a_reader_that_drops_the_last_frame_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = video.read_all_frames
    monkeypatch.setattr(video, "read_all_frames", lambda *a, **k: real(*a, **k)[:-1])

    (check,) = doctor.look_at_decoder()

    assert check.detail == "reading all frames must give the 40 frames asked for; it gave 39"


@pytest.mark.usefixtures("_h264_only")
def test_a_reader_whose_window_is_shifted_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = video.read_all_frames

    def shifted(path: Path, **window: float) -> np.ndarray:
        return real(path, **{name: seconds + 0.04 for name, seconds in window.items()})

    monkeypatch.setattr(video, "read_all_frames", shifted)

    (check,) = doctor.look_at_decoder()

    assert "0.4 s to 0.8 s must give the 10 frames asked for; it gave 10" in check.detail
    assert check.detail.endswith("the first other one is 11 for 10")


@pytest.mark.usefixtures("_h264_only")
def test_a_reader_that_blends_frames_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = video.read_clips

    def blended(*words: Any, **named: Any) -> video.Clips:
        clips = real(*words, **named)
        frames = clips.frames.astype(np.uint16)
        mixed = ((frames + np.roll(frames, 1, axis=1)) // 2).astype(np.uint8)
        return clips._replace(frames=mixed)

    monkeypatch.setattr(video, "read_clips", blended)

    (check,) = doctor.look_at_decoder()

    assert not check.ok
    assert "barcode" in check.detail


def test_a_library_without_h264_is_a_fault_and_without_another_codec_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    absent = replace(H264, name="no_such_codec")
    monkeypatch.setattr(doctor, "CODECS", (absent, replace(absent, required=False)))

    needed, said = doctor.look_at_decoder()

    assert not needed.ok
    assert "can't be written as no_such_codec" in needed.detail
    assert said.ok
    assert said.detail.endswith("no_such_codec")


# -------------------------------------------------------------------------------- disk and results


def disk(tmp_path: Path) -> dict[str, Check]:
    where = {"results": tmp_path / "results", "cache_root": tmp_path / "cache" / "deep"}
    return by_name(doctor.look_at_disk(**where))


def test_folders_that_do_not_exist_yet_are_judged_by_the_one_above(tmp_path: Path) -> None:
    assert bad(disk(tmp_path).values()) == []
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = DiskUsage(total=10**12, used=10**12 - 3 * 1024**2, free=3 * 1024**2)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)

    checks = disk(tmp_path)

    assert checks["disk: results"].detail == f"{tmp_path} must have 200 MiB free; it has 3 MiB"
    assert checks["disk: cache"].detail == f"{tmp_path} must have 4.0 GiB free; it has 3 MiB"
    assert "RSBENCH_CACHE" in checks["disk: cache"].next_step


def test_a_read_only_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may write anywhere, so the system's answer is planted and not the rights.
    def refuse(*, dir: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)

    check = disk(tmp_path)["disk: results"]

    assert check.detail == f"{tmp_path} must be writable; writing failed: Permission denied"
    assert "--results" in check.next_step


def test_a_file_in_the_place_of_a_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")

    check = disk(tmp_path)["disk: cache"]

    assert f"{tmp_path / 'cache'} is no folder" in check.detail


def test_readable_records_are_counted(tmp_path: Path) -> None:
    save_record(tmp_path, some_hits(80))

    check = doctor.look_at_results(tmp_path)

    assert check.ok
    assert check.detail == "1 records are readable"


@pytest.mark.parametrize("fault", ["cut short", "not JSON", "edited"])
def test_an_unreadable_record_is_named(fault: str, tmp_path: Path) -> None:
    save_record(tmp_path, some_hits(80), seed=1)
    save_record(tmp_path, some_hits(90), seed=2)
    path = sorted((tmp_path / "runs").rglob("*.json"))[0]
    text = path.read_text()
    planted = {
        "cut short": text[: len(text) // 2],
        "not JSON": "hello",
        "edited": text.replace('"seed": 1', '"seed": 3'),
    }
    assert planted[fault] != text
    path.write_text(planted[fault])

    check = doctor.look_at_results(tmp_path)

    assert not check.ok
    assert check.detail.startswith("1 of 2 records can't be read")
    assert path.name in check.detail


def test_a_damaged_shard_of_features_is_named(tmp_path: Path) -> None:
    store = ShardStore(tmp_path / "shards")
    keys = [digit * 64 for digit in "abc"]
    for key in keys:
        store.save(key, Shard(values=np.ones((2, 1, 4), dtype=np.float32), failures={}))
    assert doctor.look_at_feature_cache(tmp_path).detail == "3 of 3 shards were read, all whole"
    path = store.path(keys[1])
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    check = doctor.look_at_feature_cache(tmp_path)

    assert check.detail == f"1 of 3 shards are damaged: {path}"


def test_a_bad_answer_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSBENCH_DATA_KINETICS400", str(tmp_path / "gone"))
    (tmp_path / "cache").write_text("")

    for check in [*doctor.look_at_data(), *disk(tmp_path).values()]:
        assert check.ok == (check.next_step == "")
        assert "\n" not in check.detail
