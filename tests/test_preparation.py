"""Prepared roots: every frame at its time, every name, every failure, whatever was interrupted.

What was written is judged by PyAV's own plain decoding, by the tasks' own loaders, and by counting.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from command_line import contents_of, rsbench
from test_cli import _documented, _unlike

from rsbench.data.prepared import MANIFEST, prepared_form
from rsbench.errors import DataError, DiskError, MediaError, RunError
from rsbench.media import short_side
from rsbench.media.short_side import Encoding, NotExactError, remarks_on, shorten, size_at
from rsbench.media.video import count_frames, read_all_frames, read_clips, write_video
from rsbench.preparation import roots
from rsbench.preparation.roots import ENTRIES, Report, prepare, read_entries
from rsbench.preparation.survey import PARTIAL, survey
from rsbench.preparation.videos import Job, prepare_all
from rsbench.registry import find_task

NUM_SOAK_RUNS = int(os.environ.get("RSBENCH_SOAK", "1"))
SMALL = Encoding(short_side=32)


def scene(num_frames: int, *, height: int = 64, width: int = 92) -> Iterator[np.ndarray]:
    """A smooth random picture that slides by three pixels a frame."""
    coarse = np.random.default_rng(0).integers(0, 256, (8, 16, 3))
    tall = np.repeat(np.repeat(coarse, height // 8, 0), -(-width // 8), 1)
    picture = (tall + np.roll(tall, 3, 0) + np.roll(tall, 3, 1)) // 3
    for number in range(num_frames):
        yield np.roll(picture, 3 * number, axis=1)[:, :width].astype(np.uint8)


def write_root(root: Path, *, num_videos: int = 6) -> Path:
    """Own data in class folders: train and test, one video small, one unreadable."""
    for number in range(num_videos):
        for split in ("train", "test"):
            path = root / split / ("left" if number % 2 else "right") / f"{number}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, scene(8 + number), fps=10, audio_codec="aac")
    (root / "test" / "left").mkdir(exist_ok=True)
    write_video(root / "test" / "left" / "small.mp4", scene(5, height=32, width=40), fps=10)
    (root / "test" / "right" / "bad.avi").write_bytes(b"no video at all")
    (root / "notes.csv").write_text("a,b\n1,2\n")
    (root / "backup.tar.gz").write_bytes(b"an archive")
    return root


def stamps(path: Path) -> list[Fraction]:
    """Seconds of all frames from the first, sorted, by plain decoding."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = sorted(frame.pts * stream.time_base for frame in container.decode(stream))
    return [each - times[0] for each in times]


def do(root: Path, target: Path, cache: Path, **changes: object) -> Report:
    found = find_task("folder")
    assert found.for_root is not None
    tree = survey(found.for_root(root), root)
    words = {"num_workers": 0, "cache_root": cache, **changes}
    return prepare(tree, target, SMALL, **words)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((720, 1280), (256, 456)),  # 455.1 to the nearest even number
        ((1280, 720), (456, 256)),
        ((256, 340), (256, 340)),
        ((480, 640), (256, 342)),  # 341.3
        ((333, 333), (256, 256)),
        ((1080, 1081), (256, 256)),
    ],
)
def test_the_short_side_is_exact_and_the_long_one_even(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert size_at(*size, short_side=256) == expected


VARIABLE = [Fraction(tick, 600) for tick in (0, 20, 41, 60, 95, 100, 230, 231, 260, 281)]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("even.mp4", {"fps": 25}),
        ("ntsc.avi", {"fps": Fraction(30000, 1001), "codec": "mpeg4"}),
        ("b_frames.mkv", {"fps": 24, "options": {"bf": "3"}}),
        ("gestures.webm", {"fps": 30, "codec": "libvpx-vp9"}),
        ("variable.mp4", {"fps": 30, "times": VARIABLE, "time_base": Fraction(1, 600)}),
        (
            "late.mkv",
            {
                "fps": 30,
                "times": [2 + Fraction(each, 1000) for each in (0, 33, 67, 100, 133, 300, 333)],
                "time_base": Fraction(1, 1000),
            },
        ),
    ],
)
def test_frames_and_times_are_those_of_the_source(tmp_path: Path, name: str, words: dict) -> None:
    num_frames = len(words.get("times", range(20)))
    source = tmp_path / name
    write_video(source, scene(num_frames), **words)
    target = tmp_path / f"copy{'.mkv' if source.suffix in ('.webm', '.mkv') else '.mp4'}"

    made = shorten(source, target, SMALL)

    assert made is not None
    assert (made.num_frames, made.height, made.width) == (num_frames, 32, 46)
    assert stamps(target) == stamps(source)
    copy = read_all_frames(target).astype(int)
    before = read_all_frames(source).astype(int)
    assert copy.shape == (num_frames, 32, 46, 3)
    # Halved by the mean of 2 x 2 pixels here, by Pillow there: another frame of this scene, which
    # slides by three pixels, is much farther away.
    halved = before.reshape(num_frames, 32, 2, 46, 2, 3).mean((2, 4))
    wide = np.abs(copy - halved).mean((1, 2, 3))
    neighbour = np.abs(copy[1:] - halved[:-1]).mean((1, 2, 3))
    assert (1.5 * wide[1:] < neighbour).all()


@pytest.mark.parametrize("fault", ["a frame less", "a later frame", "other pictures", "half size"])
def test_a_copy_with_a_fault_never_counts(
    tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "a.mp4", tmp_path / "copy.mp4"
    write_video(source, scene(20), fps=25)

    def faulty(path: Path, frames: Iterator[np.ndarray], **words: Any) -> None:
        pictures, times = [*frames], [*words.pop("times")]
        if fault == "a frame less":
            pictures, times = pictures[:-1], times[:-1]
        elif fault == "a later frame":
            times[7] += Fraction(1, 100)
            words["time_base"] = Fraction(1, 100)
        elif fault == "other pictures":
            pictures = [255 - picture for picture in pictures]
        else:
            pictures = [picture[::2, ::2] for picture in pictures]
        write_video(path, pictures, times=times, **words)

    monkeypatch.setattr(short_side, "write_video", faulty)
    with pytest.raises(NotExactError):
        shorten(source, target, SMALL)

    assert not target.exists()


def test_two_frames_at_one_time_are_refused_and_not_moved(tmp_path: Path) -> None:
    source = tmp_path / "a.mkv"
    # Ticks of a millisecond: at 3000 frames a second three share one.
    write_video(source, scene(9), fps=3000, time_base=Fraction(1, 3000))

    with pytest.raises(NotExactError):
        shorten(source, tmp_path / "copy.mkv", SMALL)

    assert not (tmp_path / "copy.mkv").exists()


def test_a_prepared_root_has_every_name_and_says_what_became_of_each(tmp_path: Path) -> None:
    root = write_root(tmp_path / "data")

    done = do(root, tmp_path / "short", tmp_path / "cache")

    assert done.counts == {"resized": 12, "small": 1, "failed": 1}
    assert [entry.path for entry in done.failed] == ["test/right/bad.avi"]
    assert done.splits == ("test", "train")
    names = {name for name, content in contents_of(root).items() if content is not None}
    made = {name for name, content in contents_of(tmp_path / "short").items() if content}
    hidden = {".rsbench-lock"}
    assert made - hidden - {MANIFEST, ENTRIES} == names - {"backup.tar.gz"}
    assert done.archives == ("backup.tar.gz",)
    for name in ("test/left/small.mp4", "test/right/bad.avi", "notes.csv"):
        assert (tmp_path / "short" / name).read_bytes() == (root / name).read_bytes()
    assert prepared_form(tmp_path / "short") == "short-32"
    with av.open(str(tmp_path / "short" / "test" / "left" / "1.mp4")) as container:
        assert not container.streams.audio


def test_a_bad_video_stays_a_failure_of_the_prepared_root(tmp_path: Path) -> None:
    root = write_root(tmp_path / "data")
    do(root, tmp_path / "short", tmp_path / "cache")

    with pytest.raises(MediaError) as before:
        count_frames(root / "test" / "right" / "bad.avi")
    with pytest.raises(MediaError) as after:
        count_frames(tmp_path / "short" / "test" / "right" / "bad.avi")

    assert str(after.value) == str(before.value)


@pytest.mark.parametrize(
    "task", ["kinetics400", "ucf101", "something_something_v2", "hmdb51", "folder"]
)
def test_the_tasks_own_loader_gives_equal_items(tmp_path: Path, task: str) -> None:
    root = tmp_path / "data"
    root.mkdir()
    if task == "folder":
        write_root(root)
    else:
        find_task(task).spec.sample.write(root)
    found = find_task(task)
    spec = found.for_root(root) if found.for_root is not None else found.spec

    done = prepare(
        survey(spec, root),
        tmp_path / "short",
        SMALL,
        num_workers=0,
        cache_root=tmp_path / "cache",
    )

    assert done.counts["resized"] > 0
    for name in done.splits:
        one, other = spec.load(root, name), spec.load(tmp_path / "short", name)
        assert [each.id for each in one.items] == [each.id for each in other.items]
        assert [each.target for each in one.items] == [each.target for each in other.items]
        for item in other.items:
            assert (tmp_path / "short") in item.source.parents  # type: ignore[union-attr]
    # Own data is of one form only where its root says so; published sets must always say it.
    if task != "folder":
        assert spec.load(tmp_path / "short", done.splits[0]).media == "short-32"


def test_going_on_makes_nothing_twice_and_mends_what_was_damaged(tmp_path: Path) -> None:
    root, target = write_root(tmp_path / "data"), tmp_path / "short"
    do(root, target, tmp_path / "cache")
    before = contents_of(target)
    stamped = {path: path.stat().st_mtime_ns for path in target.rglob("*.mp4")}

    again = do(root, target, tmp_path / "cache")
    assert again.num_done_before == 14
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*.mp4")} == stamped

    (target / "test" / "left" / "1.mp4").write_bytes(b"damaged")
    (target / "train" / "left" / "3.mp4").unlink()
    write_video(root / "train" / "left" / "5.mp4", scene(30), fps=10)
    mended = do(root, target, tmp_path / "cache")

    assert mended.num_done_before == 11
    after = contents_of(target)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"train/left/5.mp4", ENTRIES}
    assert count_frames(target / "train" / "left" / "5.mp4") == 30


def test_workers_change_no_byte(tmp_path: Path) -> None:
    root = write_root(tmp_path / "data", num_videos=3)
    do(root, tmp_path / "alone", tmp_path / "cache")
    do(root, tmp_path / "helped", tmp_path / "cache", num_workers=2)

    one, other = contents_of(tmp_path / "alone"), contents_of(tmp_path / "helped")
    one.pop(ENTRIES), other.pop(ENTRIES)
    assert one == other
    by_path = [
        sorted(read_entries(tmp_path / name), key=lambda entry: entry.path)
        for name in ("alone", "helped")
    ]
    assert by_path[0] == by_path[1]


def test_other_words_or_a_strange_folder_or_one_inside_the_other_are_refused(
    tmp_path: Path,
) -> None:
    root, target = write_root(tmp_path / "data", num_videos=1), tmp_path / "short"
    do(root, target, tmp_path / "cache")
    found = find_task("folder")
    assert found.for_root is not None
    tree = survey(found.for_root(root), root)
    words = {"num_workers": 0, "cache_root": tmp_path / "cache"}

    with pytest.raises(DataError, match=r"short side 32.*not with short side 64"):
        prepare(tree, target, Encoding(short_side=64), **words)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="outside"):
        prepare(tree, root / "short", SMALL, **words)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="outside"):
        prepare(tree, tmp_path, SMALL, **words)  # type: ignore[arg-type]
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "file").touch()
    with pytest.raises(DataError, match="holds other files"):
        prepare(tree, tmp_path / "strange", SMALL, **words)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="encoded once"):
        survey(found.for_root(target), target)


def test_a_video_that_the_original_has_not_is_refused(tmp_path: Path) -> None:
    root, target = write_root(tmp_path / "data", num_videos=1), tmp_path / "short"
    do(root, target, tmp_path / "cache")
    (root / "test" / "left" / "small.mp4").unlink()

    with pytest.raises(RunError, match=r"test/left/small\.mp4"):
        do(root, target, tmp_path / "cache")

    with pytest.raises(DataError, match="not finished"):
        prepared_form(target)


def test_a_video_that_kills_its_process_is_copied_and_named(tmp_path: Path) -> None:
    jobs = []
    for name in ("one", "two", "three", "killer"):
        source = tmp_path / "data" / f"{name}.mp4"
        source.parent.mkdir(exist_ok=True)
        write_video(source, scene(6), fps=10)
        jobs.append(
            Job(
                path=source.name,
                source=source,
                target=tmp_path / "short" / source.name,
                partial=tmp_path / "short" / ".partial",
                encoding=SMALL,
                cache_root=Killing(tmp_path / "cache") if name == "killer" else tmp_path / "cache",
                known=None,
            )
        )

    entries = {each.entry.path: each.entry for each in prepare_all(jobs, num_workers=2)}

    assert {name: entry.status for name, entry in entries.items()} == {
        "one.mp4": "resized",
        "two.mp4": "resized",
        "three.mp4": "resized",
        "killer.mp4": "failed",
    }
    assert (tmp_path / "short" / "killer.mp4").read_bytes() == jobs[3].source.read_bytes()


class Killing(os.PathLike):  # type: ignore[type-arg]
    """A folder whose first use in another process kills that process by signal 9."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.home = os.getpid()

    def __truediv__(self, name: str) -> Path:
        if os.getpid() != self.home:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.path / name

    def __fspath__(self) -> str:
        return str(self.path)


def _command(root: Path, target: Path) -> list[str]:
    words = ("data", "prepare", "folder", "--data", root, "--to", target, "--short-side", "32")
    return [sys.executable, "-m", "rsbench", *map(str, words), "--workers", "2"]


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    root = write_root(tmp_path / "data", num_videos=8)
    do(root, tmp_path / "whole", tmp_path / "cache")
    whole = contents_of(tmp_path / "whole")
    whole.pop(ENTRIES)
    generator = np.random.default_rng(0)
    environment = {**os.environ, "RSBENCH_CACHE": str(tmp_path / "other")}
    for number in range(3 * NUM_SOAK_RUNS):
        target = tmp_path / f"short{number}"
        for _ in range(2):
            process = subprocess.Popen(
                _command(root, target), env=environment, stdout=subprocess.DEVNULL
            )
            started = time.monotonic()
            wanted = int(generator.integers(0, 17))
            while process.poll() is None and time.monotonic() - started < 60:
                if target.exists() and len([*target.rglob("*.mp4")]) >= wanted:
                    break
            process.kill()
            process.wait()
            if (target / MANIFEST).exists():
                finished = json.loads((target / MANIFEST).read_text())["finished"]
                assert finished or len([*target.rglob("*.mp4")]) <= 17
        done = subprocess.run(_command(root, target), env=environment, capture_output=True)
        assert done.returncode == 0, done.stderr
        found = contents_of(target)
        found.pop(ENTRIES)
        assert found == whole


def test_the_command_says_what_it_did_and_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    root, target = write_root(tmp_path / "data", num_videos=2), tmp_path / "short"
    words = ("data", "prepare", "folder", "--data", root, "--to", target, "--short-side", "32")

    dry = rsbench(*words, "--dry-run")
    assert not target.exists()
    done = rsbench(*words, "--workers", "1")
    again = rsbench(*words, "--workers", "1", "--json")
    odd = rsbench(*words[:-1], "33")

    assert dry.code == 0
    assert dry.out.startswith("6 videos")
    assert done.code == 0
    assert "4 resized" in done.out
    assert "test/right/bad.avi" in done.out
    assert json.loads(again.out)["num_done_before"] == 6
    shown, printed = _documented()["data prepare"], json.loads(again.out)
    # Keys of these are what became of the videos: here resized ones and a broken one, as shown.
    assert shown.pop("counts").keys() == printed.pop("counts").keys()
    assert printed["failed"]
    shown |= dict.fromkeys(("kept", "remarked"), shown["failed"])
    assert _unlike(shown, printed) == []
    dry_json = json.loads(rsbench(*words, "--dry-run", "--json").out)
    assert _unlike(_documented()["data prepare --dry-run"], dry_json) == []
    assert odd.code == 2
    assert "even" in odd.err


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RunError])
def test_a_root_is_marked_finished_only_after_it_was_checked(
    tmp_path: Path, stop: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, target = write_root(tmp_path / "data", num_videos=1), tmp_path / "short"
    marks = []

    def stopped(tree: object, data: Path) -> tuple[str, ...]:
        # What a process killed here leaves.
        marks.append(json.loads((target / MANIFEST).read_text())["finished"])
        assert prepared_form(target) == "short-32"
        raise stop

    with monkeypatch.context() as patch:
        patch.setattr(roots, "_check_alike", stopped)
        with pytest.raises(stop):
            do(root, target, tmp_path / "cache")

    assert marks == [False]
    with pytest.raises(DataError, match="not finished"):
        prepared_form(target)
    do(root, target, tmp_path / "cache")
    assert prepared_form(target) == "short-32"


def test_after_a_refusal_for_want_of_room_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, target = write_root(tmp_path / "data", num_videos=1), tmp_path / "short"
    with monkeypatch.context() as patch:
        patch.setattr(roots, "_SPARE_BYTES", 2**60)
        for _ in range(2):
            with pytest.raises(DiskError, match="bytes free"):
                do(root, target, tmp_path / "cache")
    # What a process leaves that is killed before its first mark.
    (target / PARTIAL).mkdir()
    (target / ".0123.tmp").touch()

    assert do(root, target, tmp_path / "cache").counts["resized"] == 2


def test_a_target_that_is_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    root = write_root(tmp_path / "data", num_videos=1)
    (tmp_path / "file").write_text("a file")

    with pytest.raises(DataError, match="--to must be a folder, new or empty"):
        do(root, tmp_path / "file", tmp_path / "cache")
    done = rsbench("data", "prepare", "folder", "--data", root, "--to", tmp_path / "file")

    assert done.code == 2
    assert done.err.count("\n") == 1
    assert (tmp_path / "file").read_text() == "a file"


def test_what_is_odd_about_an_original_is_written_down_and_told(tmp_path: Path) -> None:
    root, target = write_root(tmp_path / "data", num_videos=1), tmp_path / "short"
    odd = root / "test" / "right" / "odd.avi"
    write_video(odd, scene(40), fps=10, codec="mpeg4")
    # The header's count of frames: at 48 of the file ("avih", whose fifth number it is) and in the
    # stream's own header.
    content = bytearray(odd.read_bytes())
    avih, strh = content.index(b"avih"), content.index(b"strh")
    content[avih + 24 : avih + 28] = (60).to_bytes(4, "little")
    content[strh + 40 : strh + 44] = (60).to_bytes(4, "little")
    odd.write_bytes(content)
    expected = read_clips(odd, lambda num_frames, fps: np.zeros((1, 1), dtype=np.int64)).remarks
    assert expected

    done = do(root, target, tmp_path / "cache")

    (entry,) = done.remarked
    assert (entry.path, entry.status) == ("test/right/odd.avi", "resized")
    assert entry.remarks == expected
    again = do(root, target, tmp_path / "cache")
    assert again.num_done_before == len(read_entries(target))
    assert again.remarked == done.remarked
    words = ("data", "prepare", "folder", "--data", root, "--to", target, "--short-side", "32")
    told = rsbench(*words, "--workers", "1")
    assert "of 1 of the originals there is something to remark" in told.out
    assert f"test/right/odd.avi: {expected[0]}" in told.out


def test_frames_that_the_header_claims_and_the_file_has_not_are_remarked(
    tmp_path: Path,
) -> None:
    source = tmp_path / "lost.mp4"
    write_video(source, scene(30), fps=10, options={"g": "5", "bf": "0"})
    with av.open(str(source)) as container:
        packets = [each for each in container.demux(video=0) if each.size]
        places = [(each.pos, each.size) for each in packets]
    content = bytearray(source.read_bytes())
    start, size = places[-1]
    content[start + 4 : start + size] = bytes(size - 4)
    source.write_bytes(content)
    made = shorten(source, tmp_path / "copy.mp4", SMALL)
    assert made is not None
    assert made.num_frames < 30

    assert any("30 frames" in remark for remark in remarks_on(source, made))
