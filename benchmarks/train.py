"""A step of training: rsbench's loop beside the loops people use, the same network in all.

    python benchmarks/train.py [--networks resnet_rs_50@128x4,resnet_rs_3d_50@64x2x16] [--steps 4]
                               [--repeats 3] [--precision float32] [--device cpu] [--threads 1]
    python benchmarks/train.py --device cuda --precision bf16 --threads 8 --workers 8 --files 4096
        --networks resnet_rs_50@160x256,resnet_rs_101@192x192,resnet_rs_152@224x96

A network is written NAME@PIXELSxBATCH, of videos NAME@PIXELSxBATCHxFRAMES, the batch 2 or more
(rsbench joins batches of one: batch norm needs two). Who takes part, each training a copy of one
network of 400 classes on the same batches, which lie on the device already:

- rsbench: `rsbench.training.loop.train` as a run has it: finite losses checked, metrics, schedules,
  moving average; its rehearsal and its checkpoints are left out.
- bare loop: forward, loss, backward, step, and nothing else: the loss is not even looked at.
- torchvision: a step as in its references/classification/train.py: loss and accuracies of each
  batch are read, the average is `torch.optim.swa_utils.AveragedModel` of parameters and buffers.
- timm: a step as in its train.py: `create_optimizer_v2`, `LabelSmoothingCrossEntropy`,
  `ModelEmaV3`, a schedule by updates; where timm is installed.
- mmengine: its `Runner` with `IterBasedTrainLoop`, `OptimWrapper`, `EMAHook` and default hooks,
  which is how mmaction2 trains.

All use SGD with Nesterov momentum, weight decay, label smoothing, a cosine and an average of the
weights (the bare loop none of the last two). They take turns, each round beginning with another,
and the bare loop runs twice: what its two times differ by is noise. Ratios are over CPU time of the
process (wall clock on a GPU), round by round, and their median is given: above 1, rsbench is
faster. The loss of everybody's first step stands beside; where a network draws (stochastic depth),
each loop has its own draws, and losses differ.

"of peak" is 3 forward passes of operations (2 x multiply-adds) a step over what the fastest matrix
product of this machine reached. The overhead is measured on a network of one small layer, where
nothing else takes time: what a step costs there beyond the bare loop's, over this network's step.

With --files N rsbench also trains an image network on N JPEGs of 500 x 375 through its readers;
"waiting" is the share of wall clock in which the network waited for them.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.nn import functional

from rsbench.media.augment import Augmentation
from rsbench.profile import count_macs
from rsbench.registry import find_backbone
from rsbench.specs import ClipSpec, Item, Reading, Settings, Views
from rsbench.training.checkpoints import Checkpoint
from rsbench.training.loop import Machine, TrainingBatch, train
from rsbench.training.optimisation import TrainingPlan

NUM_CLASSES = 400
RATE, MOMENTUM, DECAY, SMOOTHING, AVERAGE = 1e-3, 0.9, 4e-5, 0.1, 0.9999
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
OURS, BARE, AGAIN = "rsbench", "bare loop", "bare loop again"

PLAN = TrainingPlan(
    epochs=1,
    optimizer="sgd",
    learning_rate=RATE,
    momentum=MOMENTUM,
    weight_decay=DECAY,
    decay_norm_and_bias=True,
    warmup_share=0.0,
    warmup_factor=1.0,
    label_smoothing=SMOOTHING,
    largest_gradient=0.0,
    ema_decay=AVERAGE,
)


class Work(NamedTuple):
    """What all contenders are given."""

    network: nn.Module
    """(B, C, ...) -> (B, K), on the device, never trained itself."""
    batches: Sequence[tuple[Tensor, Tensor]]
    """Normalised float32 inputs and int64 labels, on the device, one a step."""
    precision: str
    device: str

    def autocast(self) -> AbstractContextManager[Any]:
        """Compute in the precision asked for."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, DTYPES[self.precision])

    def copied(self) -> nn.Module:
        """Give a copy to train."""
        return copy.deepcopy(self.network).train()


class Clock:
    """Notes the time after each step, once all work of it is done."""

    def __init__(self, device: str) -> None:
        """Begin with nothing noted."""
        self._is_cuda = torch.device(device).type == "cuda"
        self.times: list[float] = []

    def note(self) -> None:
        """A step has ended."""
        if self._is_cuda:
            torch.cuda.synchronize()
        self.times.append(time.perf_counter() if self._is_cuda else time.process_time())

    def seconds_per_step(self) -> float:
        """Give the mean over all steps but the first, which sets things up."""
        return (self.times[-1] - self.times[0]) / (len(self.times) - 1)


class Lap(NamedTuple):
    """What a contender did in its turn."""

    seconds_per_step: float
    first_loss: float


Contender = Callable[[Work], Lap]

# ------------------------------------------------------------------------------- the contenders


def by_rsbench(work: Work) -> Lap:
    """Train through the loop of this project."""
    clock = Clock(work.device)
    losses: list[float] = []

    def read(epoch: int, first: int, failures: dict[str, str]) -> Iterator[TrainingBatch]:
        for inputs, labels in work.batches[first:]:
            yield TrainingBatch(inputs, labels, tuple(map(str, range(len(labels)))))

    with tempfile.TemporaryDirectory() as folder:
        train(
            work.copied(),
            read,
            PLAN,
            steps_per_epoch=len(work.batches),
            seed=0,
            machine=Machine(device=work.device, precision=work.precision),  # type: ignore[arg-type]
            checkpoint=Checkpoint(
                path=Path(folder) / "unused.pt", key="", write=lambda path, content: None
            ),
            progress=lambda done, total: clock.note(),
            measured=lambda values: losses.append(values["loss"]),
            rehearse=False,
        )
    return Lap(clock.seconds_per_step(), losses[0] if losses else math.nan)


def by_bare_loop(work: Work) -> Lap:
    """Do what no loop can leave out."""
    network, clock = work.copied(), Clock(work.device)
    optimizer = torch.optim.SGD(
        network.parameters(), RATE, MOMENTUM, weight_decay=DECAY, nesterov=True
    )
    first: Tensor | None = None
    for inputs, labels in work.batches:
        optimizer.zero_grad(set_to_none=True)
        with work.autocast():
            logits = network(inputs)
        loss = functional.cross_entropy(logits.float(), labels, label_smoothing=SMOOTHING)
        loss.backward()
        optimizer.step()
        first = loss.detach() if first is None else first
        clock.note()
    assert first is not None, "there are batches"
    return Lap(clock.seconds_per_step(), float(first))


def by_torchvision(work: Work) -> Lap:
    """Step as the reference scripts of torchvision do."""
    network, clock = work.copied(), Clock(work.device)
    optimizer = torch.optim.SGD(
        network.parameters(), RATE, MOMENTUM, weight_decay=DECAY, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=len(work.batches))
    criterion = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    average = torch.optim.swa_utils.AveragedModel(
        network,
        avg_fn=torch.optim.swa_utils.get_ema_avg_fn(AVERAGE),
        use_buffers=True,
    )
    losses: list[float] = []
    accuracies: list[tuple[float, ...]] = []
    for inputs, labels in work.batches:
        with work.autocast():
            logits = network(inputs)
            loss = criterion(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update_parameters(network)
        with torch.inference_mode():
            right = logits.topk(5, 1).indices.eq(labels[:, None])
            accuracies.append(tuple(right[:, :k].sum().item() / len(labels) for k in (1, 5)))
        losses.append(loss.item())
        schedule.step()
        clock.note()
    return Lap(clock.seconds_per_step(), losses[0])


def by_timm(work: Work) -> Lap:
    """Step as timm's training script does."""
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler
    from timm.utils import AverageMeter, ModelEmaV3

    network, clock = work.copied(), Clock(work.device)
    optimizer = create_optimizer_v2(
        network, opt="sgd", lr=RATE, momentum=MOMENTUM, weight_decay=DECAY
    )
    schedule = CosineLRScheduler(optimizer, t_initial=len(work.batches), t_in_epochs=False)
    average = ModelEmaV3(network, decay=AVERAGE)
    criterion = LabelSmoothingCrossEntropy(SMOOTHING)
    meter = AverageMeter()
    first = math.nan
    for step, (inputs, labels) in enumerate(work.batches):
        optimizer.zero_grad()
        with work.autocast():
            loss = criterion(network(inputs), labels)
        loss.backward()
        optimizer.step()
        average.update(network, step=step)
        schedule.step_update(num_updates=step + 1)
        meter.update(loss.item(), len(labels))
        first = meter.val if step == 0 else first
        clock.note()
    return Lap(clock.seconds_per_step(), float(first))


def by_mmengine(work: Work) -> Lap:
    """Train through mmengine's runner."""
    from mmengine.hooks import EMAHook, Hook
    from mmengine.model import BaseModel
    from mmengine.runner import Runner

    clock = Clock(work.device)
    losses: list[float] = []

    class Classifier(BaseModel):  # type: ignore[misc]  # mmengine is not typed
        """The network with the loss that mmaction2's heads compute."""

        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, inputs: Tensor, labels: Tensor, mode: str = "loss") -> dict[str, Tensor]:
            logits = self.network(inputs)
            loss = functional.cross_entropy(logits.float(), labels, label_smoothing=SMOOTHING)
            with torch.no_grad():
                right = logits.topk(5, 1).indices.eq(labels[:, None])
            return {
                "loss_cls": loss,
                "top1_acc": right[:, :1].float().sum() / len(labels),
                "top5_acc": right.float().sum() / len(labels),
            }

    class Noting(Hook):  # type: ignore[misc]  # as above
        """Notes each step's end."""

        priority = "VERY_LOW"

        def after_train_iter(self, runner: Any, *where: Any, outputs: Any, **more: Any) -> None:  # noqa: ANN401
            clock.note()
            losses.append(float(outputs["loss"]))

    wrapper: dict[str, Any] = {
        "type": "OptimWrapper" if work.precision == "float32" else "AmpOptimWrapper",
        "optimizer": {
            "type": "SGD",
            "lr": RATE,
            "momentum": MOMENTUM,
            "weight_decay": DECAY,
            "nesterov": True,
        },
    }
    if work.precision != "float32":
        wrapper["dtype"] = {"bf16": "bfloat16", "fp16": "float16"}[work.precision]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runner = Runner(
            model=Classifier(work.copied()),
            work_dir=folder,
            train_dataloader=torch.utils.data.DataLoader(
                list(work.batches),  # type: ignore[arg-type]  # a list serves as a data set
                batch_size=None,
            ),
            train_cfg={"type": "IterBasedTrainLoop", "max_iters": len(work.batches)},
            optim_wrapper=wrapper,
            param_scheduler={"type": "CosineAnnealingLR", "by_epoch": False, "T_max": 1000},
            default_hooks={"checkpoint": None, "sampler_seed": None},
            custom_hooks=[EMAHook(momentum=1 - AVERAGE, update_buffers=True), Noting()],
            log_level="ERROR",
            experiment_name=f"benchmark_{time.time_ns()}",
        )
        runner.train()
    return Lap(clock.seconds_per_step(), losses[0])


def contenders() -> dict[str, Contender]:
    """Name them; timm where it is installed."""
    named: dict[str, Contender] = {OURS: by_rsbench, BARE: by_bare_loop, AGAIN: by_bare_loop}
    named["torchvision"] = by_torchvision
    try:
        import timm  # noqa: F401
    except ImportError:
        print("timm is not installed: left out")
    else:
        named["timm"] = by_timm
    named["mmengine"] = by_mmengine
    return named


# ------------------------------------------------------------------------------------ measuring


def measure(work: Work, named: Mapping[str, Contender], *, repeats: int) -> dict[str, list[Lap]]:
    """Let contenders take turns, each round beginning with another one."""
    names = [*named]
    laps: dict[str, list[Lap]] = {name: [] for name in names}
    for repeat in range(repeats):
        start = repeat % len(names)
        for name in names[start:] + names[:start]:
            torch.manual_seed(0)
            laps[name].append(named[name](work))
    return laps


def ratios(laps: Mapping[str, Sequence[Lap]]) -> dict[str, float]:
    """Give the median over rounds of each one's time over that of rsbench."""
    return {
        name: statistics.median(
            their.seconds_per_step / our.seconds_per_step
            for their, our in zip(each, laps[OURS], strict=True)
        )
        for name, each in laps.items()
    }


def overhead_seconds(work: Work, *, steps: int = 400) -> float:
    """Give what a step of rsbench's loop costs beyond the bare loop's, on one small layer."""
    network = nn.Linear(8, NUM_CLASSES).to(work.device)
    labels = torch.zeros(2, dtype=torch.int64, device=work.device)
    batches = [(torch.ones(2, 8, device=work.device), labels)] * steps
    small = work._replace(network=network, batches=batches)
    differences = [
        by_rsbench(small).seconds_per_step - by_bare_loop(small).seconds_per_step for _ in range(3)
    ]
    return statistics.median(differences)


def peak_flops(device: str, precision: str) -> float:
    """Give the operations a second of the fastest of some square matrix products."""
    dtype = DTYPES.get(precision, torch.float32)
    best = 0.0
    for size in (1024, 2048, 4096) if device == "cpu" else (4096, 8192, 16384):
        left = torch.randn(size, size, device=device, dtype=dtype)
        for _ in range(4):
            clock = Clock(device)
            clock.note()
            left @ left
            clock.note()
            best = max(best, 2 * size**3 / (clock.times[1] - clock.times[0]))
    return best


class Asked(NamedTuple):
    """A network as the command line names it."""

    name: str
    pixels: int
    batch_size: int
    frames: int

    @classmethod
    def of(cls, text: str) -> Asked:
        """Read NAME@PIXELSxBATCH or NAME@PIXELSxBATCHxFRAMES."""
        name, _, sizes = text.partition("@")
        pixels, batch_size, *frames = (int(word) for word in sizes.split("x"))
        return cls(name, pixels, batch_size, frames[0] if frames else 1)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one view."""
        clip = (self.frames,) if self.frames > 1 else ()
        return (3, *clip, self.pixels, self.pixels)


def work_of(asked: Asked, *, steps: int, precision: str, device: str) -> Work:
    """Build a network and draw its batches."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    backbone = find_backbone(asked.name).spec
    module = backbone.build(None)
    network = nn.Sequential(module, nn.Linear(backbone.feature_width, NUM_CLASSES)).to(device)
    batches = [
        (
            torch.randn(asked.batch_size, *asked.shape, generator=generator).to(device),
            torch.randint(NUM_CLASSES, (asked.batch_size,), generator=generator).to(device),
        )
        for _ in range(steps + 1)
    ]
    return Work(network, batches, precision, device)


def write_pictures(folder: Path, number: int) -> list[Item]:
    """Cut JPEGs of 500 x 375, quality 92, out of scikit-learn's two photographs."""
    generator = np.random.default_rng(0)
    photographs = [np.asarray(each) for each in load_sample_images().images]
    items = []
    for index in range(number):
        source = photographs[index % len(photographs)]
        top = generator.integers(0, source.shape[0] - 375 + 1)
        left = generator.integers(0, source.shape[1] - 500 + 1)
        path = folder / f"{index:05d}.jpg"
        Image.fromarray(source[top : top + 375, left : left + 500]).save(path, quality=92)
        items.append(Item(id=path.name, source=path))
    return items


def share_waiting(
    work: Work, asked: Asked, items: Sequence[Item], folder: Path, *, num_workers: int
) -> tuple[float, float]:
    """Train an epoch on files; give pictures a second, and the share of time spent waiting."""
    from rsbench.data.loaders import training_batches
    from rsbench.media.transforms import normalise

    backbone = find_backbone(asked.name).spec
    reading = Reading(
        modality="image",
        input=backbone.input.at(asked.pixels),
        clip=ClipSpec(frames=1, stride=1),
        sampler="mmaction2@1",
        views=Views(),
    )
    settings = Settings(
        device=work.device,
        num_workers=num_workers,
        cache_root=folder / "cache",
        work_root=folder / "work",
    )
    starts = range(0, len(items), asked.batch_size)
    waited = 0.0

    def read(epoch: int, first: int, failures: dict[str, str]) -> Iterator[TrainingBatch]:
        nonlocal waited
        plan = [list(range(start, min(start + asked.batch_size, len(items)))) for start in starts]
        reader = training_batches(
            items,
            reading,
            settings,
            plan=plan[first:],
            augmentation=Augmentation(smallest_crop=0.08),
            seed=0,
            epoch=epoch,
        )
        while True:
            started = time.perf_counter()
            batch = next(reader, None)
            waited += time.perf_counter() - started
            if batch is None:
                return
            assert isinstance(batch.views, Tensor), "pictures of one size"
            labels = torch.tensor([row % NUM_CLASSES for row in batch.rows], device=work.device)
            inputs = normalise(batch.views.to(work.device, non_blocking=True), reading.input)
            yield TrainingBatch(inputs, labels, tuple(items[row].id for row in batch.rows))

    started = time.perf_counter()
    train(
        work.copied(),
        read,
        PLAN,
        steps_per_epoch=len(starts),
        seed=0,
        machine=Machine(device=work.device, precision=work.precision),  # type: ignore[arg-type]
        checkpoint=Checkpoint(path=folder / "unused.pt", key="", write=lambda path, content: None),
        rehearse=False,
    )
    seconds = time.perf_counter() - started
    return len(items) / seconds, waited / seconds


def report(asked: Asked, work: Work, laps: Mapping[str, Sequence[Lap]], *, peak: float) -> None:
    """Print what one network came to."""
    found = ratios(laps)
    views = asked.batch_size
    own = statistics.median(each.seconds_per_step for each in laps[OURS])
    macs = count_macs(find_backbone(asked.name).spec.build, (1, *asked.shape))
    print(f"\n{asked.name}, {'x'.join(map(str, asked.shape))}, batch {views}:")
    print("| loop | s a step | x | views/s | loss of the first step |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, each in laps.items():
        seconds = statistics.median(lap.seconds_per_step for lap in each)
        print(
            f"| {name} | {seconds:.3f} | {found[name]:.3f} | {views / seconds:.1f} |"
            f" {each[0].first_loss:.5f} |"
        )
    spread = ", ".join(
        f"{name} {min(each):.3f} to {max(each):.3f}"
        for name in laps
        if name != OURS
        for each in [
            [
                their.seconds_per_step / our.seconds_per_step
                for their, our in zip(laps[name], laps[OURS], strict=True)
            ]
        ]
    )
    print(f"ratios of single rounds: {spread}")
    if macs is not None:
        print(f"of peak ({peak / 1e9:.1f} GFLOP/s): {6 * macs * views / own / peak:.0%}")
    extra = overhead_seconds(work)
    print(f"the loop's own time: {extra * 1e6:.0f} us a step, {extra / own:.3%} of this step")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", default="resnet_rs_50@128x4,resnet_rs_3d_50@64x2x16")
    parser.add_argument("--steps", type=int, default=4, help="timed steps a turn")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", choices=("float32", *DTYPES), default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--files", type=int, default=0, help="JPEGs to train on, image networks")
    parser.add_argument("--workers", type=int, default=0, help="that read them")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    card = torch.cuda.get_device_name() if given.device.startswith("cuda") else platform.machine()
    print(
        f"{card}, {given.threads} threads, {given.precision}, Python {platform.python_version()},"
        f" torch {torch.__version__}; {given.steps} steps a turn, {given.repeats} rounds"
    )
    peak = peak_flops(given.device, given.precision)
    named = contenders()
    for text in given.networks.split(","):
        asked = Asked.of(text.strip())
        work = work_of(asked, steps=given.steps, precision=given.precision, device=given.device)
        report(asked, work, measure(work, named, repeats=given.repeats), peak=peak)
        if given.files and asked.frames == 1:
            with tempfile.TemporaryDirectory() as folder:
                items = write_pictures(Path(folder), given.files)
                rate, waiting = share_waiting(
                    work, asked, items, Path(folder), num_workers=given.workers
                )
            print(f"from files: {rate:.1f} pictures/s, waiting {waiting:.1%}")


if __name__ == "__main__":
    main()
