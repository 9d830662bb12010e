"""Features of JPEG files: rsbench's extraction beside plain PyTorch loops, the same network in all.

    python benchmarks/extraction.py [--backbone resnet_rs_50] [--pixels 160] [--images 64]
                                    [--workers 0] [--precision float32] [--device cpu]

Who takes part, each from the files to a (N, D) array in memory:

- rsbench: `extract` into an empty cache, so writing and flushing shards is in it; and once more
  from the cache it left.
- plain loop: a DataLoader of torchvision's ImageFolder transforms (Resize, CenterCrop, ToTensor,
  Normalize) and `model(batch)` under inference_mode, as tutorials have it.
- timm: its own transform of the same sizes through the same kind of loop, its network of the same
  name with the same weights, where timm is installed and has one.
- network alone: the plain loop's forward pass over batches that are in memory already, the least
  that a network of this layout can take.

They take turns, each round beginning with another one, and the plain loop runs twice: what its two
times differ by is noise. Ratios are over CPU time of the process and its readers (wall clock on a
GPU), round by round, and their median is given: above 1, rsbench is faster. Features are compared
first. `waited` is the share of rsbench's wall clock in which the network waited for pictures; with
--workers 0 one process does both, and it is what reading takes.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from rsbench.data.features import extract
from rsbench.registry import find_backbone
from rsbench.specs import (
    ClipSpec,
    Extraction,
    InputSpec,
    Item,
    Model,
    Reading,
    Settings,
    Views,
)

HEIGHT, WIDTH = 375, 500
"""The usual size of an ImageNet picture."""

CROP_RATIO = 0.875
"""224 of 256, about."""

OURS, CACHED, PLAIN, AGAIN, TIMM, ALONE = (
    "rsbench",
    "rsbench, cached",
    "plain loop",
    "plain loop again",
    "timm",
    "network alone",
)

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Lap(NamedTuple):
    """What one pass over all pictures took."""

    cpu_seconds: float
    seconds: float


class Work(NamedTuple):
    """What all contenders are given."""

    paths: Sequence[Path]
    spec: InputSpec
    module: nn.Module
    """In eval mode, on the device, as it was built."""
    batch_size: int
    num_workers: int
    precision: str
    device: str


def write_pictures(folder: Path, number: int) -> list[Path]:
    """Cut JPEGs, quality 92, out of scikit-learn's two photographs."""
    generator = np.random.default_rng(0)
    photographs = [np.asarray(each) for each in load_sample_images().images]
    paths = []
    for index in range(number):
        source = photographs[index % len(photographs)]
        top = generator.integers(0, source.shape[0] - HEIGHT + 1)
        left = generator.integers(0, source.shape[1] - WIDTH + 1)
        pixels = source[top : top + HEIGHT, left : left + WIDTH]
        mirrored = pixels[:, ::-1] if generator.integers(2) else pixels
        paths.append(folder / f"{index:05d}.jpg")
        Image.fromarray(np.ascontiguousarray(mirrored)).save(paths[-1], quality=92)
    return paths


class Pictures(Dataset[Tensor]):
    """Files through a transform, as ImageFolder reads them."""

    def __init__(self, paths: Sequence[Path], transform: Callable[[Image.Image], Tensor]) -> None:
        """Take the files and the transform."""
        self._paths = paths
        self._transform = transform

    def __len__(self) -> int:
        """Count the files."""
        return len(self._paths)

    def __getitem__(self, index: int) -> Tensor:
        """Read one, (3, H, W)."""
        with Image.open(self._paths[index]) as picture:
            return self._transform(picture.convert("RGB"))


def tutorial_transform(spec: InputSpec) -> Callable[[Image.Image], Tensor]:
    """Give the transform of torchvision's own references."""
    mode = getattr(transforms.InterpolationMode, spec.interpolation.upper())
    transform: Callable[[Image.Image], Tensor] = transforms.Compose(
        [
            transforms.Resize(round(spec.pixels / spec.crop_ratio), interpolation=mode),
            transforms.CenterCrop(spec.pixels),
            transforms.ToTensor(),
            transforms.Normalize(spec.mean, spec.std),
        ]
    )
    return transform


def autocast(work: Work) -> AbstractContextManager[Any]:
    """Compute in the precision asked for."""
    if work.precision == "float32":
        return nullcontext()
    return torch.autocast(work.device, DTYPES[work.precision])


def forward(work: Work, module: nn.Module, batches: Iterator[Tensor]) -> np.ndarray:
    """Run the network as a plain loop does."""
    found = []
    with torch.inference_mode(), autocast(work):
        for batch in batches:
            found.append(module(batch.to(work.device, non_blocking=True)).float().cpu())
    return torch.cat(found).numpy()


def loader_of(work: Work, transform: Callable[[Image.Image], Tensor]) -> Iterator[Tensor]:
    """Read with PyTorch's own loader."""
    return iter(
        DataLoader(
            Pictures(work.paths, transform),
            batch_size=work.batch_size,
            num_workers=work.num_workers,
            pin_memory=work.device == "cuda",
        )
    )


class Rsbench:
    """Extraction as a run does it, into a cache that is emptied before each pass."""

    def __init__(self, work: Work, folder: Path, *, width: int) -> None:
        """Take the work, and a folder for the cache."""
        self._items = tuple(Item(id=path.name, source=path) for path in work.paths)
        self._cache = folder / "cache"
        self._model = Model(
            module=work.module,
            head=None,
            head_classes=(),
            feature_width=width,
            lifting="none",
            digest="benchmark",
            maps_digest=lambda: "benchmark",
        )
        self._reading = Reading(
            modality="image",
            input=work.spec,
            clip=ClipSpec(frames=1, stride=1),
            sampler="mmaction2@1",
            views=Views(),
        )
        self.waited: list[float] = []
        self._settings = Settings(
            device=work.device,
            batch_size=work.batch_size,
            num_workers=work.num_workers,
            precision=work.precision,  # type: ignore[arg-type]  # one of argparse's choices
            cache_root=self._cache,
            work_root=folder / "work",
            extracted=self._note,
        )

    def fresh(self) -> np.ndarray:
        """Compute everything."""
        shutil.rmtree(self._cache, ignore_errors=True)
        return self.cached()

    def cached(self) -> np.ndarray:
        """Take what the cache has."""
        found = extract(self._model, self._items, self._reading, self._settings, output="features")
        assert not found.failures
        values: np.ndarray = found.values[:, 0]
        return values

    def _note(self, extraction: Extraction) -> None:
        if extraction.views_computed:
            self.waited.append(extraction.seconds_waited / extraction.seconds)


def timm_network(name: str, module: nn.Module) -> nn.Module | None:
    """Give timm's network of a ResNet-RS with the same weights; None where there is none."""
    try:
        import timm
    except ImportError:
        return None
    if not name.startswith("resnet_rs_") or not name.removeprefix("resnet_rs_").isdigit():
        return None
    network = timm.create_model(name.replace("_", ""), num_classes=0)
    network.load_state_dict(module.state_dict())
    return network.eval()


def timm_transform(spec: InputSpec) -> Callable[[Image.Image], Tensor]:
    """Give timm's own evaluation transform of the same sizes."""
    from timm.data.transforms_factory import create_transform

    transform: Callable[[Image.Image], Tensor] = create_transform(
        input_size=(3, spec.pixels, spec.pixels),
        interpolation=spec.interpolation,
        mean=spec.mean,
        std=spec.std,
        crop_pct=spec.crop_ratio,
    )
    return transform


def contenders(work: Work, ours: Rsbench, name: str) -> dict[str, Callable[[], np.ndarray]]:
    """Give everybody by name; rsbench's cached pass comes right after its fresh one."""
    plain = tutorial_transform(work.spec)
    batches = [each.to(work.device) for each in loader_of(work, plain)]

    def loop() -> np.ndarray:
        return forward(work, work.module, loader_of(work, plain))

    found: dict[str, Callable[[], np.ndarray]] = {
        OURS: ours.fresh,
        CACHED: ours.cached,
        PLAIN: loop,
        AGAIN: loop,
        ALONE: lambda: forward(work, work.module, iter(batches)),
    }
    network = timm_network(name, work.module)
    if network is not None:
        on_device = network.to(work.device)
        found[TIMM] = lambda: forward(work, on_device, loader_of(work, timm_transform(work.spec)))
    return found


def measure(run: Callable[[], np.ndarray], device: str) -> tuple[Lap, np.ndarray]:
    """Run once; readers are counted when they have ended."""

    def spent() -> float:
        used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(each.ru_utime + each.ru_stime for each in used)

    cpu, wall = spent(), time.perf_counter()
    found = run()
    if device == "cuda":
        torch.cuda.synchronize()
    return Lap(spent() - cpu, time.perf_counter() - wall), found


def take_turns(
    found: Mapping[str, Callable[[], np.ndarray]], device: str, *, repeats: int
) -> tuple[dict[str, list[Lap]], dict[str, np.ndarray]]:
    """Measure everybody once a round, after one round to warm up."""
    names = list(found)
    laps: dict[str, list[Lap]] = {name: [] for name in names}
    features: dict[str, np.ndarray] = {}
    for number in range(repeats + 1):
        first = number % len(names)
        for name in [*names[first:], *names[:first]]:
            if name == CACHED:
                found[OURS]()  # whatever the turn, the cache is whole
            lap, features[name] = measure(found[name], device)
            if number:
                laps[name].append(lap)
    return laps, features


def likeness(features: np.ndarray, of: np.ndarray) -> float:
    """Give the least cosine between rows, (N, D) each."""
    norms = np.linalg.norm(features, axis=1) * np.linalg.norm(of, axis=1)
    return float(((features * of).sum(axis=1) / norms).min())


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="resnet_rs_50", help="a 2D network of rsbench")
    parser.add_argument("--pixels", type=int, default=160)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", choices=("float32", "bf16", "fp16"), default="float32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    backbone = find_backbone(words.backbone).spec
    # Whatever the side, the resize before the crop is a whole number: nobody has to round.
    spec = InputSpec(
        pixels=words.pixels, crop_ratio=words.pixels / round(words.pixels / CROP_RATIO)
    )
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        work = Work(
            paths=write_pictures(Path(folder), words.images),
            spec=spec,
            module=backbone.build(None).eval().to(words.device),
            batch_size=words.batch,
            num_workers=words.workers,
            precision=words.precision,
            device=words.device,
        )
        # Extraction changes the layout of what it is given; the loops keep theirs.
        own = backbone.build(None).eval().to(words.device)
        own.load_state_dict(work.module.state_dict())
        ours = Rsbench(work._replace(module=own), Path(folder), width=backbone.feature_width)
        found = contenders(work, ours, words.backbone)
        laps, features = take_turns(found, words.device, repeats=words.repeats)
    print_table(laps, features, words)
    print(f"\nwaited: {100 * statistics.median(ours.waited[1:]):.1f}% of rsbench's wall clock")


def print_table(
    laps: Mapping[str, Sequence[Lap]],
    features: Mapping[str, np.ndarray],
    words: argparse.Namespace,
) -> None:
    """Print a line for each contender: pictures a second, and its time over rsbench's."""
    on_gpu = words.device == "cuda"
    print(
        f"{words.backbone} at {words.pixels}, {words.images} JPEGs of {WIDTH} x {HEIGHT}, batch"
        f" {words.batch}, {words.precision}, {words.threads} threads, {words.workers} workers,"
        f" {torch.cuda.get_device_name() if on_gpu else 'CPU'}, torch {torch.__version__}\n"
    )
    print("| | images / CPU s | images / s | time / rsbench's (least, most) | least cosine |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, mine in laps.items():
        cpu, wall = (statistics.median(each) for each in zip(*mine, strict=True))
        over = [
            lap.seconds / our.seconds if on_gpu else lap.cpu_seconds / our.cpu_seconds
            for lap, our in zip(mine, laps[OURS], strict=True)
        ]
        print(
            f"| {name} | {words.images / cpu:.1f} | {words.images / wall:.1f} |"
            f" {statistics.median(over):.2f} ({min(over):.2f}, {max(over):.2f}) |"
            f" {likeness(features[name], features[OURS]):.6f} |"
        )


if __name__ == "__main__":
    main()
