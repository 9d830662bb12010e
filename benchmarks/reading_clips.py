"""Read one clip of a video: rsbench beside plain PyAV and OpenCV, on one thread.

    python benchmarks/reading_clips.py [--seconds 10] [--repeats 5]

The video is made here: H.264 with B-frames at 30 frames a second, of a picture that slides. Each
reader gives the same 16 x 4 frames from the middle as RGB arrays, and the last column says whether
they are: libraries convert colours differently, by less than one frame differs from the next.
rsbench decodes whole files to count what is there; OpenCV believes the header and stops early.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np

from rsbench.media.sampling import chooser, sample_clips
from rsbench.media.video import count_frames, read_clips, write_video
from rsbench.specs import ClipSpec

CLIP = ClipSpec(frames=16, stride=4)
SAMPLER = "mmaction2@1"
FRAMES_PER_SECOND = 30
HEIGHT, WIDTH = 256, 340

Pixels = np.ndarray
Reader = Callable[[Path], Pixels]


def moving_picture(num_frames: int) -> Iterator[Pixels]:
    """Give uint8 (H, W, 3) frames: a smooth random picture that slides by two pixels a frame."""
    coarse = np.random.default_rng(0).integers(0, 256, (16, 64, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (4 * WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    for index in range(num_frames):
        yield np.roll(picture, 2 * index, axis=1)[:, :WIDTH]


def with_rsbench(path: Path) -> Pixels:
    """Read with rsbench: uint8 (T, H, W, 3)."""
    return read_clips(path, chooser(SAMPLER, clip=CLIP, num_clips=1)).frames[0]


def _middle(num_frames: int) -> Pixels:
    (indices,) = sample_clips(
        SAMPLER, num_frames=num_frames, clip=CLIP, num_clips=1, fps=FRAMES_PER_SECOND
    )
    return indices


def with_pyav(path: Path) -> Pixels:
    """Decode all frames with PyAV, convert the wanted ones."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        frames = list(container.decode(stream))
    return np.stack([frames[index].to_ndarray(format="rgb24") for index in _middle(len(frames))])


def with_opencv(path: Path) -> Pixels:
    """Grab frames with OpenCV up to the last wanted one, as many as its header promises."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    wanted = _middle(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    taken = []
    for index in range(int(wanted[-1]) + 1):
        capture.grab()
        if index in wanted:
            taken.append(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB))
    capture.release()
    return np.stack(taken)


READERS: dict[str, Reader] = {
    "rsbench": with_rsbench,
    "PyAV": with_pyav,
    "OpenCV": with_opencv,
}


def _one_frame_later(path: Path) -> float:
    """Give the mean difference of two neighbouring frames: what a reader off by one would show."""
    choose = chooser(SAMPLER, clip=ClipSpec(frames=2, stride=1), num_clips=1)
    first, second = read_clips(path, choose).frames[0].astype(int)
    return float(np.abs(first - second).mean())


def measure(path: Path, *, repeats: int) -> dict[str, float]:
    """Give the median milliseconds of each reader; they take turns, so that all see one machine."""
    seconds: dict[str, list[float]] = {name: [] for name in READERS}
    for _ in range(repeats):
        for name, read in READERS.items():
            started = time.perf_counter()
            read(path)
            seconds[name].append(time.perf_counter() - started)
    return {name: 1000 * statistics.median(each) for name, each in seconds.items()}


def main() -> None:
    """Make the video, measure, print one line a reader."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=10, help="length of the video")
    parser.add_argument("--repeats", type=int, default=5, help="turns each reader takes")
    words = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        frames = moving_picture(words.seconds * FRAMES_PER_SECOND)
        write_video(path, frames, fps=FRAMES_PER_SECOND)
        print(
            f"one clip of {CLIP.frames} x {CLIP.stride} out of {count_frames(path)} frames of"
            f" {WIDTH} x {HEIGHT}, one thread, median of {words.repeats}"
        )
        reference = with_rsbench(path).astype(int)
        step = _one_frame_later(path)
        milliseconds = measure(path, repeats=words.repeats)
        for name, read in READERS.items():
            difference = float(np.abs(read(path).astype(int) - reference).mean())
            same = "same frames" if difference < step / 2 else "OTHER FRAMES"
            same += f" (mean difference {difference:.2f} of 255, one frame is {step:.2f})"
            ratio = milliseconds[name] / milliseconds["rsbench"]
            print(f"{name:8} {milliseconds[name]:8.1f} ms   {ratio:5.2f} x   {same}")


if __name__ == "__main__":
    main()
