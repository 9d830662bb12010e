"""Known failures: not decoded again, still counted and named, and never in other words."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import rsbench
from small_world import image_reading, model, settings, video_reading
from test_cli import _documented, _unlike

from rsbench.data import loaders
from rsbench.data import quarantine as quarantine_module
from rsbench.data.features import extract
from rsbench.data.quarantine import FILE, Quarantine
from rsbench.errors import MediaError
from rsbench.media import image, video
from rsbench.media.augment import Augmentation
from rsbench.media.image import write_image
from rsbench.media.video import decoding, write_video
from rsbench.specs import Item, Reading


def _world(folder: Path) -> list[Item]:
    """Two good videos, one without bytes, one of noise, one cut off behind its header."""
    grey = np.broadcast_to(np.uint8(90), (6, 16, 16, 3))
    write_video(folder / "good.mp4", grey, fps=10)
    write_video(folder / "other.mp4", grey + np.uint8(40), fps=10)
    (folder / "empty.mp4").touch()
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(4000))
    (folder / "cut.mp4").write_bytes((folder / "good.mp4").read_bytes()[:40])
    names = ("good", "empty", "noise", "other", "cut")
    return [Item(id=name, source=folder / f"{name}.mp4") for name in names]


def _failures(items: list[Item], folder: Path, reading: Reading, **changes: object) -> dict:
    read = loaders.batches(items, reading, settings(folder, batch_size=2, **changes))
    return {failure.row: failure.reason for batch in read for failure in batch.failures}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the videos that were opened in this process, in order."""
    names: list[str] = []
    real = video.read_clips

    def noted(path: Path, *words: object, **more: object) -> object:
        names.append(path.name)
        return real(path, *words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(video, "read_clips", noted)
    return names


def test_what_failed_once_is_not_opened_again_and_fails_in_the_same_words(
    tmp_path: Path, opened: list[str]
) -> None:
    items = _world(tmp_path)
    first = _failures(items, tmp_path, video_reading())
    opened.clear()

    again = _failures(items, tmp_path, video_reading())

    assert sorted(first) == [1, 2, 4]
    assert again == first
    assert opened == ["good.mp4", "other.mp4"]


def test_a_file_that_can_not_be_read_at_all_is_known_to_every_reading(
    tmp_path: Path, opened: list[str]
) -> None:
    items = _world(tmp_path)
    first = _failures(items, tmp_path, video_reading())
    opened.clear()

    again = _failures(items, tmp_path, video_reading(clips=3, crops=3))

    assert again == first
    assert opened == ["good.mp4", "other.mp4"]


def test_a_window_without_frames_condemns_no_other_window_of_the_file(tmp_path: Path) -> None:
    (item, *_) = _world(tmp_path)
    late = replace(item, start_seconds=90.0)

    assert list(_failures([late], tmp_path, video_reading())) == [0]
    assert _failures([item], tmp_path, video_reading()) == {}
    assert list(_failures([late], tmp_path, video_reading())) == [0]


def test_a_mended_file_is_tried_again(tmp_path: Path) -> None:
    items = _world(tmp_path)
    _failures(items, tmp_path, video_reading())

    items[1].source.write_bytes((tmp_path / "good.mp4").read_bytes())  # type: ignore[union-attr]

    assert sorted(_failures(items, tmp_path, video_reading())) == [2, 4]


def test_another_decoder_tries_again(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    items = _world(tmp_path)
    _failures(items, tmp_path, video_reading())
    opened.clear()

    monkeypatch.setattr(video, "decoder_version", lambda: "another")
    _failures(items, tmp_path, video_reading())

    assert len(opened) == 5


def test_equal_bytes_under_another_name_keep_their_own_reason(tmp_path: Path) -> None:
    items = _world(tmp_path)
    _failures(items, tmp_path, video_reading())
    (tmp_path / "renamed.mp4").write_bytes((tmp_path / "noise.mp4").read_bytes())

    (reason,) = _failures(
        [Item(id="r", source=tmp_path / "renamed.mp4")], tmp_path, video_reading()
    ).values()

    assert "renamed.mp4" in reason


def test_a_run_says_how_many_were_not_tried_and_where_they_stand(tmp_path: Path) -> None:
    items = _world(tmp_path)
    said: list[str] = []
    _failures(items, tmp_path, video_reading(), say=said.append)
    assert said == []

    _failures(items, tmp_path, video_reading(), say=said.append)

    assert len(said) == 1
    assert said[0].startswith("3 unreadable items")
    assert str(tmp_path / "cache" / FILE) in said[0]


def test_pictures_are_remembered_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "good.png", np.zeros((9, 9, 3), dtype=np.uint8))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    items = [Item(id=name, source=tmp_path / f"{name}.png") for name in ("good", "bad")]
    first = _failures(items, tmp_path, image_reading())
    opened: list[str] = []
    real = image.read_image
    monkeypatch.setattr(image, "read_image", lambda path: (opened.append(path.name), real(path))[1])

    assert _failures(items, tmp_path, image_reading()) == first
    assert opened == ["good.png"]


def test_failures_of_the_machine_are_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (item, *_) = _world(tmp_path)

    def out_of_memory(*words: object, **more: object) -> object:
        raise MemoryError("no room")

    monkeypatch.setattr(video, "read_clips", out_of_memory)
    assert len(_failures([item], tmp_path, video_reading())) == 1
    monkeypatch.undo()

    assert _failures([item], tmp_path, video_reading()) == {}


def test_broken_lines_and_half_lines_are_ignored(tmp_path: Path) -> None:
    items = _world(tmp_path)
    _failures(items, tmp_path, video_reading())
    path = tmp_path / "cache" / FILE
    whole = path.read_bytes()

    path.write_bytes(b'\xff{"content": 3}\n[]\n{"a"' + whole + b'\n{"content": "half')

    entries = Quarantine(tmp_path / "cache").entries()
    assert [entry.id for entry in entries] == ["empty", "noise", "cut"]
    assert {entry.reading for entry in entries} == {""}


def _no_read(item: Item) -> object:
    raise AssertionError(f"{item.id} can't be read whole, which is asked first")


def _write_many(folder: str, number: int) -> None:
    quarantine = Quarantine(Path(folder) / "cache")
    for row in range(20):
        path = Path(folder) / f"bad_{number}_{row}.mp4"
        path.write_bytes(b"bad %d %d" % (number, row))
        item = Item(id=path.stem, source=path)
        with pytest.raises(MediaError) as raised:
            video.count_frames(path)
        assert quarantine.add(
            item, str(raised.value), video_reading(), reading_key="k", read=_no_read
        )


def test_several_processes_write_whole_lines(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [
        context.Process(target=_write_many, args=(str(tmp_path), number)) for number in range(3)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    lines = (tmp_path / "cache" / FILE).read_text().split("\n")
    assert len([json.loads(line) for line in lines if line]) == 60


def test_the_command_lists_and_clears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSBENCH_CACHE", str(tmp_path / "cache"))
    _failures(_world(tmp_path), tmp_path, video_reading())

    listed = rsbench("data", "quarantine")
    as_json = json.loads(rsbench("data", "quarantine", "--json").out)
    cleared = rsbench("data", "quarantine", "--clear")

    assert listed.out.count("known since") == 3
    assert [entry["id"] for entry in as_json] == ["empty", "noise", "cut"]
    assert _unlike(_documented()["data quarantine"], as_json) == []
    assert cleared.out.startswith("3 ")
    assert Quarantine(tmp_path / "cache").entries() == ()


def test_a_file_that_is_completed_after_it_failed_is_not_condemned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "coming.png"
    write_image(path, np.zeros((9, 9, 3), dtype=np.uint8))
    whole = path.read_bytes()
    path.write_bytes(whole[:20])
    items = [Item(id="coming", source=path)]
    real = image.read_image

    def read_then_complete(path: Path) -> np.ndarray:
        try:
            return real(path)
        finally:
            path.write_bytes(whole)

    monkeypatch.setattr(image, "read_image", read_then_complete)
    assert list(_failures(items, tmp_path, image_reading())) == [0]
    monkeypatch.undo()

    assert Quarantine(tmp_path / "cache").entries() == ()
    assert _failures(items, tmp_path, image_reading()) == {}


def test_a_video_that_is_completed_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (good, *_) = _world(tmp_path)
    whole = good.source.read_bytes()  # type: ignore[union-attr]
    path = tmp_path / "coming.mp4"
    path.write_bytes(whole[:40])
    real = video.read_clips

    def read_then_complete(*words: object, **more: object) -> object:
        try:
            return real(*words, **more)  # type: ignore[arg-type]
        finally:
            path.write_bytes(whole)

    monkeypatch.setattr(video, "read_clips", read_then_complete)

    assert _failures([Item(id="coming", source=path)], tmp_path, video_reading()) == {}
    assert Quarantine(tmp_path / "cache").entries() == ()


@pytest.mark.parametrize("when", ["before it is read again", "while it is read again"])
def test_an_entry_names_bytes_that_failed(tmp_path: Path, when: str) -> None:
    (good, *_) = _world(tmp_path)
    late = replace(good, start_seconds=90.0)
    path = late.source
    assert isinstance(path, Path)

    def read(item: Item) -> None:
        if when == "while it is read again":
            path.write_bytes((tmp_path / "other.mp4").read_bytes())
            raise MediaError("no frame")

    quarantine = Quarantine(tmp_path / "cache")
    assert not quarantine.add(late, "no frame", video_reading(), reading_key="k", read=read)
    assert quarantine.entries() == ()


def test_training_reads_what_only_the_test_reading_could_not(tmp_path: Path) -> None:
    (good, *_) = _world(tmp_path)
    items = [replace(good, start_seconds=90.0)]
    # The same window, asked for as training asks: its own failures are not looked up.
    assert list(_failures(items, tmp_path, video_reading())) == [0]
    reading, machine = video_reading(), settings(tmp_path)

    test = loaders.Lookup(items, reading, machine, rows=[0], is_random=False)
    training = loaders.Lookup(items, reading, machine, rows=[0], is_random=True)

    assert list(test.found.known.reasons) == [0]
    assert training.found.known.reasons == {}


def test_the_failures_of_a_run_are_looked_up_and_told_once_for_all_epochs(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    items = _world(tmp_path)
    _failures(items, tmp_path, video_reading())
    opened.clear()
    said: list[str] = []
    asked: list[int] = []
    known = Quarantine.known
    monkeypatch.setattr(
        Quarantine, "known", lambda *words, **more: (asked.append(1), known(*words, **more))[1]
    )
    machine = settings(tmp_path, say=said.append)

    lookup = loaders.Lookup(items, video_reading(), machine, rows=range(5), is_random=True)
    for epoch in range(3):
        read = loaders.training_batches(
            items,
            video_reading(),
            machine,
            plan=[[0, 1, 2, 3, 4]],
            augmentation=Augmentation(),
            seed=0,
            epoch=epoch,
            lookup=lookup,
        )
        assert [sorted(each.row for each in batch.failures) for batch in read] == [[1, 2, 4]]

    assert len(said) == len(asked) == 1
    assert opened == ["good.mp4", "other.mp4"] * 3


def test_what_fails_in_the_first_epoch_is_not_opened_in_the_second(
    tmp_path: Path, opened: list[str]
) -> None:
    items, machine = _world(tmp_path), settings(tmp_path)
    lookup = loaders.Lookup(items, video_reading(), machine, rows=range(5), is_random=True)
    seen = []
    for epoch in range(2):
        opened.clear()
        read = loaders.training_batches(
            items,
            video_reading(),
            machine,
            plan=[[0, 1, 2, 3, 4]],
            augmentation=Augmentation(),
            seed=0,
            epoch=epoch,
            lookup=lookup,
        )
        seen.append([batch.failures for batch in read])

    assert seen[0] == seen[1]
    assert opened == ["good.mp4", "other.mp4"]


def test_one_item_is_told_in_the_singular(tmp_path: Path) -> None:
    (_, empty, *_) = _world(tmp_path)
    said: list[str] = []
    _failures([empty], tmp_path, video_reading())
    _failures([empty], tmp_path, video_reading(), say=said.append)

    assert [line.split(" known")[0] for line in said] == ["1 unreadable item"]


def test_one_frame_is_enough_to_know_that_a_file_is_not_bad_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "long.mp4", np.zeros((200, 16, 16, 3), dtype=np.uint8), fps=10)
    late = Item(id="late", source=tmp_path / "long.mp4", start_seconds=90.0)
    num_decoded = 0
    real = decoding.frames_of

    def counted(*words: object) -> object:
        nonlocal num_decoded
        for frame in real(*words):  # type: ignore[arg-type]
            num_decoded += 1
            yield frame
        return 0

    monkeypatch.setattr(decoding, "frames_of", counted)
    added = Quarantine(tmp_path / "cache").add(
        late, "another reason", video_reading(), reading_key=None, read=_no_read
    )

    assert not added
    assert num_decoded == 1


def test_the_file_is_parsed_once_and_again_when_someone_else_changed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_many(str(tmp_path), 0)
    parsed: list[str] = []
    real = quarantine_module._entry_of
    monkeypatch.setattr(
        quarantine_module, "_entry_of", lambda line: (parsed.append(line), real(line))[1]
    )
    quarantine = Quarantine(tmp_path / "cache")
    assert len(quarantine.entries()) == 20
    parsed.clear()

    (tmp_path / "more").mkdir()
    for row in range(3):
        path = tmp_path / "more" / f"{row}.mp4"
        path.write_bytes(b"more %d" % row)
        with pytest.raises(MediaError) as raised:
            video.count_frames(path)
        item = Item(id=f"more {row}", source=path)
        assert quarantine.add(
            item, str(raised.value), video_reading(), reading_key="k", read=_no_read
        )
    assert len(parsed) == 3

    _write_many(str(tmp_path), 1)
    assert len(quarantine.entries()) == 43
    quarantine.path.unlink()
    assert quarantine.entries() == ()


def test_shards_ask_for_known_failures_again_so_that_they_are_told_and_can_be_cleared(
    tmp_path: Path, opened: list[str]
) -> None:
    items = _world(tmp_path)
    said: list[str] = []
    machine = settings(tmp_path, say=said.append)

    def run() -> dict[int, str]:
        opened.clear()
        network = model()
        return dict(extract(network, items, video_reading(), machine, output="features").failures)

    first = run()
    assert said == []
    assert run() == first
    assert len(said) == 1
    assert opened == []

    Quarantine(tmp_path / "cache").clear()
    assert run() == first

    assert len(said) == 1
    assert opened[:3] == ["empty.mp4", "noise.mp4", "cut.mp4"]
    assert len(Quarantine(tmp_path / "cache").entries()) == 3
