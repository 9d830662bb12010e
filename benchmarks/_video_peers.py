"""The readers that `video.py` compares: each gives the same frames, the way its library is used.

A reader maps (path, frames (N, T)) to uint8 (N, T, 224, 224, 3), in any memory order: short side to
256 as the library scales, centre crop of 224. All decode on one thread. Time stamps that a peer
needs in order to ask for a frame by its number come from `packets_of`, outside its time.

torchvision's own readers (`read_video`, `VideoReader`) are no peers: they are gone since 0.26.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import io
import sys
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
import torch
from _video_work import CLIPS, INPUT, SAMPLERS, Pixels, Wanted, geometry, packets_of

from rsbench.data.loaders import read_views
from rsbench.media import transforms
from rsbench.media.video import read_clips
from rsbench.specs import Item, Reading, Views

Reader = Callable[[Path, Wanted], Pixels]

INDEX_SUFFIX = ".index"
"""Where rsbench keeps a video's index here: beside it."""


class Entry(NamedTuple):
    """A reader in the table."""

    read: Reader
    package: str
    """What must be installed for it."""
    family: str
    """Whose it is: goals are held against a family's best."""


def available() -> tuple[dict[str, Entry], dict[str, str]]:
    """Give the readers whose libraries load, and why the others are left out, each by name."""
    faults = {name: _fault(probe) for name, probe in _PROBES.items()}
    found = {name: entry for name, entry in READERS.items() if faults.get(entry.package) is None}
    missing = {name: fault for name, fault in faults.items() if fault is not None}
    return found, missing


def versions() -> dict[str, str]:
    """Give the versions of all libraries that take part."""
    names = ("av", "numpy", "opencv-python", "torch", "torchvision")
    peers = ("torchcodec", "decord", "pytorchvideo", "mmaction2", "mmcv-lite", "scikit-video")
    found = {}
    for name in (*names, *peers):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


# --------------------------------------------------------------------------------------- rsbench


def rsbench_kept(path: Path, wanted: Wanted) -> Pixels:
    """Read with rsbench, the video's index kept from an earlier reading."""
    return _rsbench(path, wanted, path.with_suffix(INDEX_SUFFIX))


def rsbench_scanned(path: Path, wanted: Wanted) -> Pixels:
    """Read with rsbench, the index made anew each time."""
    return _rsbench(path, wanted, None)


def _rsbench(path: Path, wanted: Wanted, index_file: Path | None) -> Pixels:
    view = transforms.FrameViews(input=INPUT, num_crops=1)
    clips = read_clips(path, lambda _, __: wanted, transform=view, index_file=index_file)
    return clips.frames[:, :, 0]


def rsbench_loader(path: Path, wanted: Wanted) -> Pixels:
    """Read as a run does, through its loader: sampler by name, contiguous (V, C, T, H, W)."""
    workload = {32: "W1", 8: "W2", 16: "W3"}[wanted.shape[1]]
    clip, num_clips = CLIPS[workload]
    reading = Reading(
        modality="video",
        input=INPUT,
        clip=clip,
        sampler=SAMPLERS[workload],
        views=Views(clips=num_clips),
    )
    item = Item(id=path.stem, source=path)
    if workload == "W1":
        rate, span = packets_of(path).rate, int(wanted[0, -1] - wanted[0, 0]) + 1
        start = int(wanted[0, 0])
        item = Item(
            id=path.stem,
            source=path,
            start_seconds=float(start / rate),
            end_seconds=float((start + span) / rate),
        )
    views_VCTHW = read_views(item, reading)
    return views_VCTHW.numpy().transpose(0, 2, 3, 4, 1).reshape(*wanted.shape, 224, 224, 3)


# ------------------------------------------------------------------------------------ torchcodec


def torchcodec_exact(path: Path, wanted: Wanted) -> Pixels:
    """Seek by an index that torchcodec scans first."""
    return _torchcodec(path, wanted, "exact")


def torchcodec_approximate(path: Path, wanted: Wanted) -> Pixels:
    """Seek by the header's frame rate."""
    return _torchcodec(path, wanted, "approximate")


def torchcodec_transforms(path: Path, wanted: Wanted) -> Pixels:
    """As before, scaled and cropped by torchcodec's own transforms as it decodes."""
    from torchcodec.transforms import CenterCrop, Resize

    width, height, _, _ = geometry(path)
    crop = CenterCrop((INPUT.pixels, INPUT.pixels))
    given = [crop] if _is_scaled(path) else [Resize((height, width)), crop]
    return _torchcodec(path, wanted, "approximate", transforms=given)


def _torchcodec(path: Path, wanted: Wanted, seek_mode: str, transforms: Any = None) -> Pixels:  # noqa: ANN401 - torchcodec's own objects
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(
        str(path),
        dimension_order="NHWC",
        num_ffmpeg_threads=1,
        seek_mode=seek_mode,
        **({} if transforms is None else {"transforms": transforms}),
    )
    frames = decoder.get_frames_at(wanted.ravel().tolist()).data
    return _folded(frames if transforms else _resized(path, frames), wanted)


# ---------------------------------------------------------------------------------------- decord


def decord_plain(path: Path, wanted: Wanted) -> Pixels:
    """Ask for every frame of every clip."""
    import decord

    reader = decord.VideoReader(str(path), num_threads=1)
    frames = torch.from_numpy(reader.get_batch(wanted.ravel().tolist()).asnumpy())
    return _folded(_resized(path, frames), wanted)


def decord_deduplicated(path: Path, wanted: Wanted) -> Pixels:
    """Ask for every frame once, scaled by decord's own decoder."""
    import decord

    width, height, _, _ = geometry(path)
    size = {} if _is_scaled(path) else {"width": width, "height": height}
    reader = decord.VideoReader(str(path), num_threads=1, **size)
    once, back = np.unique(wanted, return_inverse=True)
    frames = torch.from_numpy(reader.get_batch(once.tolist()).asnumpy())
    return _folded(_resized(path, frames)[torch.from_numpy(back.ravel())], wanted)


def mmaction2_pipeline(path: Path, wanted: Wanted) -> Pixels:
    """DecordInit, DecordDecode, Resize(-1, 256), CenterCrop(224): mmaction2's own classes."""
    results: dict[str, Any] = {"filename": str(path), "frame_inds": wanted.ravel()}
    for transform in _mmaction2_transforms():
        results = transform(results)
    return np.stack(results["imgs"]).reshape(*wanted.shape, INPUT.pixels, INPUT.pixels, 3)


@functools.cache
def _mmaction2_transforms() -> tuple[Callable[[dict[str, Any]], dict[str, Any]], ...]:
    from mmaction.datasets.transforms import CenterCrop, DecordDecode, DecordInit, Resize

    return (
        DecordInit(num_threads=1),
        DecordDecode(),
        Resize(scale=(-1, 256)),
        CenterCrop(crop_size=INPUT.pixels),
    )


def mmaction2_copied(path: Path, wanted: Wanted) -> Pixels:
    """Do the same steps with decord and OpenCV, where mmaction2 itself is not installed."""
    import decord

    reader = decord.VideoReader(io.BytesIO(path.read_bytes()), num_threads=1)
    frames = reader.get_batch(wanted.ravel()).asnumpy()
    return _resized_by_opencv(path, frames).reshape(*wanted.shape, INPUT.pixels, INPUT.pixels, 3)


# ---------------------------------------------------------------------------------- pytorchvideo


def encoded_video(path: Path, wanted: Wanted) -> Pixels:
    """Pytorchvideo's EncodedVideo as it comes: clip by clip, sound decoded too."""
    return _encoded_video(path, wanted, sound=True)


def encoded_video_mute(path: Path, wanted: Wanted) -> Pixels:
    """The same without sound."""
    return _encoded_video(path, wanted, sound=False)


def _encoded_video(path: Path, wanted: Wanted, *, sound: bool) -> Pixels:
    video = _encoded_video_class().from_path(str(path), decode_audio=sound, decoder="pyav")
    packets = packets_of(path)
    width, height, left, top = geometry(path)
    clips = []
    for clip in wanted.tolist():
        first, last = (packets.times[place] - packets.times[0] for place in (clip[0], clip[-1]))
        window = (first * packets.time_base, last * packets.time_base + Fraction(1, 1000))
        clip_CTHW = video.get_clip(*window)["video"]
        # What its UniformTemporalSubsample is for, by exact places.
        clip_CTHW = clip_CTHW[:, [place - clip[0] for place in clip]]
        if not _is_scaled(path):
            clip_CTHW = torch.nn.functional.interpolate(
                clip_CTHW, size=(height, width), mode="bilinear", align_corners=False
            )
        cut = clip_CTHW[:, :, top : top + INPUT.pixels, left : left + INPUT.pixels]
        clips.append(cut.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 3, 0))
    video.close()
    return torch.stack(clips).numpy()


@functools.cache
def _encoded_video_class() -> Any:  # noqa: ANN401 - a class without types
    # A module that torchvision renamed and pytorchvideo still asks for.
    renamed = importlib.import_module("torchvision.transforms._functional_tensor")
    sys.modules.setdefault("torchvision.transforms.functional_tensor", renamed)
    return importlib.import_module("pytorchvideo.data.encoded_video").EncodedVideo


# ------------------------------------------------------------------------------ plain PyAV, OpenCV


def pyav_seek(path: Path, wanted: Wanted) -> Pixels:
    """Seek to each clip with PyAV, decode on, convert what is wanted."""
    packets, taken = packets_of(path), []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        for clip in wanted.tolist():
            times = [packets.times[place] for place in clip]
            container.seek(times[0], stream=stream, backward=True)
            found: dict[int, Pixels] = {}
            for frame in container.decode(stream):
                if frame.pts in times:
                    found[frame.pts] = frame.to_ndarray(format="rgb24")
                if frame.pts is not None and frame.pts >= times[-1]:
                    break
            taken += [found[pts] for pts in times]
    return _folded(_resized(path, torch.from_numpy(np.stack(taken))), wanted)


def pyav_whole(path: Path, wanted: Wanted) -> Pixels:
    """Decode and convert the whole video with PyAV, then take the frames."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    taken = np.stack([frames[place] for place in wanted.ravel()])
    return _folded(_resized(path, torch.from_numpy(taken)), wanted)


def opencv_grab(path: Path, wanted: Wanted) -> Pixels:
    """Grab frames with OpenCV up to the last wanted one, convert those wanted."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    once, back = np.unique(wanted, return_inverse=True)
    taken = []
    for place in range(int(once[-1]) + 1):
        capture.grab()
        if place in once:
            taken.append(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB))
    capture.release()
    frames = _resized_by_opencv(path, np.stack(taken))[back.ravel()]
    return frames.reshape(*wanted.shape, INPUT.pixels, INPUT.pixels, 3)


READERS: Mapping[str, Entry] = {
    "rsbench, index kept": Entry(rsbench_kept, "rsbench", "rsbench"),
    "rsbench, index scanned": Entry(rsbench_scanned, "rsbench", "rsbench"),
    "rsbench, its loader": Entry(rsbench_loader, "rsbench", "rsbench"),
    "torchcodec exact": Entry(torchcodec_exact, "torchcodec", "torchcodec"),
    "torchcodec approximate": Entry(torchcodec_approximate, "torchcodec", "torchcodec"),
    "torchcodec transforms": Entry(torchcodec_transforms, "torchcodec", "torchcodec"),
    "decord": Entry(decord_plain, "decord", "decord"),
    "decord deduplicated": Entry(decord_deduplicated, "decord", "decord"),
    "mmaction2": Entry(mmaction2_pipeline, "mmaction2", "mmaction2"),
    "mmaction2's steps": Entry(mmaction2_copied, "mmaction2's steps", "mmaction2"),
    "pytorchvideo": Entry(encoded_video, "pytorchvideo", "pytorchvideo"),
    "pytorchvideo, no sound": Entry(encoded_video_mute, "pytorchvideo", "pytorchvideo"),
    "OpenCV": Entry(opencv_grab, "rsbench", "OpenCV"),
    "PyAV seek a clip": Entry(pyav_seek, "rsbench", "PyAV"),
    "PyAV whole video": Entry(pyav_whole, "rsbench", "PyAV"),
}
"""Every reader by its name in the table; what comes with rsbench's own packages is always there."""


# ---------------------------------------------------------------------------------------- shared


def _import_mmaction2() -> None:
    _mmaction2_transforms()


def _import_copied_steps() -> None:
    try:
        _mmaction2_transforms()
    except Exception:
        importlib.import_module("decord")
        return
    raise ImportError("mmaction2 itself is here")


_PROBES: Mapping[str, Callable[[], object]] = {
    "torchcodec": functools.partial(importlib.import_module, "torchcodec.decoders"),
    "decord": functools.partial(importlib.import_module, "decord"),
    "mmaction2": _import_mmaction2,
    "mmaction2's steps": _import_copied_steps,
    "pytorchvideo": _encoded_video_class,
}
"""What each package must be able to do before it takes part."""


def _fault(probe: Callable[[], object]) -> str | None:
    """Say in a line why a library does not load; None where it does."""
    try:
        probe()
    except Exception as error:
        lines = str(error).strip().splitlines()
        return lines[0] if lines else type(error).__name__
    return None


def _is_scaled(path: Path) -> bool:
    """Whether frames have the short side already, so that nothing is left to scale."""
    return geometry(path)[:2] == (packets_of(path).width, packets_of(path).height)


def _resized(path: Path, frames_NHWC: torch.Tensor) -> torch.Tensor:
    """Scale in float, bilinear, and crop: uint8 (N, H, W, 3) -> (N, 224, 224, 3)."""
    width, height, left, top = geometry(path)
    if not _is_scaled(path):
        scaled = torch.nn.functional.interpolate(
            frames_NHWC.permute(0, 3, 1, 2).float(),
            size=(height, width),
            mode="bilinear",
            align_corners=False,
        )
        frames_NHWC = scaled.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    return frames_NHWC[:, top : top + INPUT.pixels, left : left + INPUT.pixels]


def _resized_by_opencv(path: Path, frames_NHWC: Pixels) -> Pixels:
    width, height, left, top = geometry(path)
    if not _is_scaled(path):
        frames_NHWC = np.stack([cv2.resize(frame, (width, height)) for frame in frames_NHWC])
    return frames_NHWC[:, top : top + INPUT.pixels, left : left + INPUT.pixels]


def _folded(frames: torch.Tensor, wanted: Wanted) -> Pixels:
    return frames.reshape(*wanted.shape, *frames.shape[1:]).numpy()
