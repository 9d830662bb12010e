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
from command_line import rsbench
from records_factory import save_record, some_hits

from rsbench import doctor, installation, registry
from rsbench.data.shards import Shard, ShardStore
from rsbench.digests import digest_file
from rsbench.findings import Check
from rsbench.media import exactness, video
from rsbench.media.image import write_image
from rsbench.registry import Broken, Found, find_backbone
from rsbench.specs import Backbone, InputSpec, MediaFacts, Weights
from rsbench.weights.fetching import fetch
from rsbench.weights.shelf import place_of

DiskUsage = namedtuple("DiskUsage", "total used free")

H264 = exactness.TRIALS[0]


def by_name(checks: Iterable[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def bad(checks: Iterable[Check]) -> list[Check]:
    return [check for check in checks if not check.ok]


def test_a_sound_machine_passes_every_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The imports and the other codecs have tests of their own.
    monkeypatch.setattr(installation, "IMPORTS", {})
    monkeypatch.setattr(exactness, "TRIALS", (H264,))
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
        "data: digits",
        "weights",
        "decoder: H.264, B-frames, mp4",
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

    # Digits come with a package, which is there.
    assert list(checks) == ["data: config file", "data: names", "data: digits"]
    assert bad(checks.values()) == []
    assert checks["data: digits"].detail == "899 of 899 official items in test"
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
    assert any(check.name == "decoder: H.264, B-frames, mp4" for check in checks)


@pytest.mark.parametrize("trial", exactness.TRIALS, ids=lambda trial: trial.name)
def test_the_full_proof_finds_nothing_on_any_kind_of_video_and_prints_nothing(
    trial: exactness.Trial, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(exactness, "TRIALS", (trial,))

    *found, verdict = doctor.look_at_decoder(short=False)

    assert bad([*found, verdict]) == []
    assert verdict.name == "decoder: verdict"
    # SVT-AV1 and x265 write to the terminal themselves, past sys.stderr.
    assert capfd.readouterr() == ("", "")


def test_the_full_proof_has_what_data_sets_come_in() -> None:
    """The list of the reader's own promise: codecs, containers, depths, timing, open groups."""
    names = [trial.name for trial in exactness.TRIALS]

    for word in (
        *("H.264", "HEVC", "VP8", "VP9", "AV1", "MPEG-4", "MPEG-2", "MJPEG"),
        *("mp4", "webm", "mkv", "avi", "ts", "mov"),
        *("10 bits", "odd size", "variable rate", "late start", "open groups"),
    ):
        assert any(word in name for name in names), word
    assert len({*names}) == len(names)


def test_trials_of_open_groups_show_frames_before_their_key_frame(tmp_path: Path) -> None:
    (trial,) = [each for each in exactness.TRIALS if each.name == "HEVC, open groups, mkv"]
    path = exactness.write_trial(trial, tmp_path)
    av = pytest.importorskip("av")
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]

    keys = [place for place, packet in enumerate(packets) if packet.is_keyframe]

    # Matroska marks the clean random access pictures as key frames; what follows them in the file
    # and precedes them on the screen refers to the group before (ITU-T H.265, 3.132: RASL).
    assert len(keys) == 4
    assert all(packets[key + 1].pts < packets[key].pts for key in keys[1:])


def test_variable_and_late_trials_have_the_times_they_claim() -> None:
    # 20 ms ticks: steps of 1, 2 and 6 of them in turn, by hand.
    assert [float(time) for time in exactness.times_of("variable")[:5]] == [
        0,
        0.02,
        0.06,
        0.18,
        0.2,
    ]
    assert [float(time) for time in exactness.times_of("late")[:3]] == [7, 7.04, 7.08]


@pytest.fixture
def _h264_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exactness, "TRIALS", (H264,))


@pytest.mark.usefixtures("_h264_only")
def test_a_reader_that_is_off_by_one_frame_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = video.read_clips

    def late(path: Path, choose: video.Choose, **rest: Any) -> video.Clips:
        return real(path, lambda num, fps: np.minimum(choose(num, fps) + 1, num - 1), **rest)

    monkeypatch.setattr(video, "read_clips", late)

    (check,) = doctor.look_at_decoder()

    assert not check.ok
    assert "alone must give the 1 frames asked for; it gave 1, the first other" in check.detail
    assert "Do not trust video scores" in check.next_step


@pytest.mark.usefixtures("_h264_only")
def test_a_reader_that_stops_at_key_frames_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = video.read_clips

    def coarse(path: Path, choose: video.Choose, **rest: Any) -> video.Clips:
        group = exactness.GROUP
        return real(path, lambda num, fps: choose(num, fps) // group * group, **rest)

    monkeypatch.setattr(video, "read_clips", coarse)

    (check,) = doctor.look_at_decoder()

    assert not check.ok


@pytest.mark.usefixtures("_h264_only")
def test_a_reader_that_is_wrong_only_with_a_kept_index_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = video.read_clips
    seen: set[Path] = set()

    def stale(*words: Any, index_file: Path | None, **rest: Any) -> video.Clips:
        clips = real(*words, index_file=None, **rest)
        kept = index_file in seen
        seen.update(() if index_file is None else (index_file,))
        return clips._replace(frames=clips.frames[:, ::-1]) if kept else clips

    monkeypatch.setattr(video, "read_clips", stale)

    (check,) = doctor.look_at_decoder()

    assert "reading across a group's border must give the 6 frames" in check.detail


@pytest.mark.usefixtures("_h264_only")
def test_a_reader_that_miscounts_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = video.read_clips
    monkeypatch.setattr(video, "read_clips", lambda *a, **k: real(*a, **k)._replace(num_frames=39))

    (check,) = doctor.look_at_decoder()

    assert check.detail.endswith("must count 40 frames; it counted 39")


@pytest.mark.usefixtures("_h264_only")
def test_a_reader_that_drops_the_last_frame_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = video.read_all_frames
    monkeypatch.setattr(video, "read_all_frames", lambda *a, **k: real(*a, **k)[:-1])

    check, verdict = doctor.look_at_decoder(short=False)

    assert check.detail == "reading all frames must give the 40 frames asked for; it gave 39"
    assert not verdict.ok
    assert "frame-exact on 0 of 1 kinds" in verdict.detail
    assert verdict.detail.endswith("not exact: H.264, B-frames, mp4")


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
    absent = replace(H264, codec="no_such_codec")
    other = replace(absent, name="the other", required=False)
    monkeypatch.setattr(exactness, "TRIALS", (absent, other))

    needed, said = doctor.look_at_decoder()

    assert not needed.ok
    assert "can't be written as no_such_codec" in needed.detail
    assert said.ok
    assert said.detail.endswith("to try them with: the other")


@pytest.mark.usefixtures("_h264_only")
def test_the_command_proves_the_decoder_alone_and_ends_with_the_verdict() -> None:
    answer = rsbench("doctor", "--decoder")

    first, last = answer.out.splitlines()
    assert answer.code == 0
    assert first.startswith("ok      decoder: H.264, B-frames, mp4: all 40 frames")
    assert last.startswith("ok      decoder: verdict: av-")
    assert "is frame-exact on 1 of 1 kinds of video, 0 were not tried" in last


@pytest.mark.usefixtures("_h264_only")
def test_the_command_fails_where_the_reader_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "read_all_frames", lambda *a, **k: np.zeros((40, 64, 96, 3), "u1"))

    answer = rsbench("doctor", "--decoder")

    assert answer.code == 1
    assert "Do not trust video scores of this machine" in answer.out


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
        store.save(
            key,
            Shard(
                values=np.ones((2, 1, 4), dtype=np.float32),
                failures={},
                facts=(MediaFacts(num_frames=1, fps=0.0, height=8, width=8),) * 2,
            ),
        )
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
