"""One network trained by several processes: the step is that of one process with the whole batch.

Every process has its own copy of the network, reads its own share of each planned batch, and adds
its gradient to those of the others, by PyTorch's `DistributedDataParallel`. The sum is weighted by
examples, so it is the gradient of the mean over all that could be read of the batch, however
unevenly they are dealt: nothing is padded, and nothing counts twice. A process that has no example
in a step takes part with a gradient of nought.

Batch normalisation is what remains of the difference: each process normalises by its own share. The
running statistics become the mean of those of all processes after each step, weighted by examples;
the variance is then that within the shares. With `sync_norm` the shares are normalised together, as
one batch (`torch.nn.SyncBatchNorm`, which only GPUs have); with a frozen norm there is no
difference at all, but for rounding.

All processes call the same functions in the same order. With `ranks` None there is one process, and
each function gives back what it was given, so that a loop need not ask.

What is exchanged in words crosses on the CPU by gloo, over the group of `ranks`; gradients cross by
NCCL between GPUs. A process that fails leaves that group (`rsbench.data.team`), and the next
exchange of every other one raises.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as distributed
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from rsbench.errors import RsbenchError
from rsbench.specs import Ranks
from rsbench.training.machine import Machine
from rsbench.training.tensors import named_tensors

Value = TypeVar("Value")

_PLAIN_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
"""What `SyncBatchNorm` can stand in for; of a subclass it would lose what that adds."""

_MOST_AXES = 5
"""Of one example, (C, T, H, W) at most; for `Word.shape`."""

_LONGEST_GPU_WAIT = timedelta(minutes=3)
"""How long a GPU waits for the others in the middle of a step, before NCCL ends its process: of
another that failed there it hears in no other way. Shares are of a size, so that this is for a
process without examples: it waits for a whole step of the others.

Reading, testing and writing are waited for on the CPU, without end."""

_LONGEST_COMPILING = timedelta(minutes=15)
"""The same where the first steps compile the network, which one without examples does not."""


class Word(NamedTuple):
    """What each process says to the others before a step."""

    num_examples: int
    """That it could read of its share."""
    stops: bool = False
    """Whether it was asked to stop."""
    saves: bool = False
    """Whether by its clock a checkpoint is due."""
    shape: tuple[int, ...] = ()
    """Of one example as the network takes it, (C, H, W) or (C, T, H, W); () without examples."""


def share_of(rows: Sequence[Value], ranks: Ranks | None) -> list[Value]:
    """Give this process's share of a planned batch: shares differ by one at most.

    Where there are fewer than two a process, some get none, so that none gets a lone one, by which
    batch normalisation can't train: five over three processes are dealt 3, 2 and 0.
    """
    if ranks is None:
        return list(rows)
    num_dealt_to = min(ranks.size, max(1, len(rows) // 2))
    return list(rows[ranks.rank :: num_dealt_to]) if ranks.rank < num_dealt_to else []


def gradient_weight(num_local: int, num_global: int, ranks: Ranks | None) -> float:
    """Give what the mean loss of this process's examples is multiplied by before its gradient.

    The mean of the processes' gradients is then that of the mean loss over all examples.

    Args:
        num_local: Examples of this process in the step.
        num_global: Examples of all processes in it, at least 1.
        ranks: Of the processes.
    """
    return 1.0 if ranks is None else num_local * ranks.size / num_global


class Together:
    """A network on its way through a training: forward passes go through this one."""

    def __init__(self, network: nn.Module, machine: Machine) -> None:
        """Take a network, which is alone; see `wrapped`."""
        self._network = network
        self._machine = machine
        self._norms = [each for each in network.modules() if isinstance(each, _BatchNorm)]
        self._normalises_together = False
        self._parallel: nn.Module | None = None
        self._group: Any = None  # torch's groups of processes have no public type

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Give the network's outputs for this process's examples; backward adds all gradients."""
        network = self._network if self._parallel is None else self._parallel
        outputs: torch.Tensor = network(inputs)
        return outputs

    def no_sync(self) -> AbstractContextManager[None]:
        """Keep gradients here within: of all parts of a batch but the last."""
        if self._parallel is None:
            return nullcontext()
        found: AbstractContextManager[None] = self._parallel.no_sync()  # type: ignore[operator]
        return found

    def absent(self, shape: Sequence[int]) -> torch.Tensor:
        """Give a nought whose backward is this process's part of a step without examples.

        Nothing of it reaches the gradient or a running statistic.

        Args:
            shape: Of one example as the others have it, without the batch; see `Word.shape`.
        """
        assert self._parallel is not None, "a process that is alone has an example in each step"
        if not self._normalises_together:
            nought: torch.Tensor = self._parallel(None)
            return nought
        # The others count this process's examples in every norm, and wait for it there.
        return self(torch.zeros((0, *shape), device=self._machine.device)).sum()

    def settle(self, num_local: int, num_global: int) -> None:
        """Make running statistics of norms the mean over all processes, weighted by examples.

        Once a step, after its last forward pass; with this, all processes have the same network
        after each step.

        Args:
            num_local: Examples of this process in the step.
            num_global: Examples of all processes in it, at least 1.
        """
        learning = [each for each in self._norms if each.training and each.track_running_stats]
        if self._parallel is None or self._normalises_together or not learning:
            return
        buffers = [dict(each.named_buffers(recurse=False)) for each in learning]
        means = [each[name] for each in buffers for name in ("running_mean", "running_var")]
        flat = torch.cat([each.float() for each in means]) * (num_local / num_global)
        distributed.all_reduce(flat, group=self._group)
        ends = torch.tensor([len(each) for each in means]).cumsum(0)[:-1]
        for mean, summed in zip(means, flat.tensor_split(ends), strict=True):
            mean.copy_(summed)
        counts = [each["num_batches_tracked"] for each in buffers]
        steps = torch.stack(counts)
        distributed.all_reduce(steps, op=distributed.ReduceOp.MAX, group=self._group)
        for count, most in zip(counts, steps, strict=True):
            count.copy_(most)

    @contextmanager
    def connected(self, group: Any, *, sync_norm: bool) -> Iterator[Together]:  # noqa: ANN401
        """Add the gradients of a group's processes, as long as this lasts."""
        on_gpu = self._machine.device_type == "cuda"
        self._group, self._normalises_together = group, sync_norm
        self._parallel = nn.parallel.DistributedDataParallel(
            _OrNothing(self._network),
            device_ids=[torch.device(self._machine.device)] if on_gpu else None,
            process_group=group,
            # `settle` does better than to take those of the first process.
            broadcast_buffers=False,
            # A network may leave a block out of a step, or never use a parameter.
            find_unused_parameters=True,
            gradient_as_bucket_view=True,
        )
        try:
            yield self
        finally:
            # A link is cut when nothing refers to it any more, and only then do the others hear
            # that this process has failed; the traceback refers to this object.
            self._group = self._parallel = None


@contextmanager
def wrapped(
    network: nn.Module, ranks: Ranks | None, machine: Machine, *, sync_norm: bool
) -> Iterator[Together]:
    """Give a network the gradients of all processes, for the time of a training.

    Parameters and buffers become those of the first process. They stay the network's own, by their
    names: only forward passes go through what this gives.

    Args:
        network: On the device, in the layout in which it trains.
        ranks: None: it is alone, and this changes nothing.
        machine: Its device.
        sync_norm: Whether batches are normalised as one over all processes; of no account to one.

    Raises:
        RsbenchError: `sync_norm` is asked for on a CPU, or of a norm that can't do it.
    """
    if ranks is None:
        yield Together(network, machine)
        return
    norms = _plain_norms(network, machine) if sync_norm else []
    with _gradient_group(ranks, machine) as group, _in_sync(norms, group):
        together = Together(network, machine)
        with together.connected(group, sync_norm=sync_norm):
            yield together


class _OrNothing(nn.Module):
    """A network, and in place of its outputs a nought of all its parameters where asked for."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        device = next(network.parameters()).device
        # Where every parameter is used in the first step, PyTorch prints a warning of its own that
        # looking for unused ones is slow (0.1 ms a step of a ResNet-50), which no filter reaches.
        self.unused = nn.Parameter(torch.zeros(1, device=device))

    def forward(self, inputs: torch.Tensor | None) -> torch.Tensor:
        if inputs is not None:
            outputs: torch.Tensor = self.network(inputs)
            return outputs
        learning = [each for each in self.network.parameters() if each.requires_grad]
        # The gradient is 0 x 1, whatever the values are.
        return torch.stack([each.sum() * 0.0 for each in learning]).sum()


@contextmanager
def _gradient_group(ranks: Ranks, machine: Machine) -> Iterator[Any]:
    """Give the group over which gradients cross: NCCL's, where each process has its own GPU."""
    words = distributed.group.WORLD if ranks.group is None else ranks.group
    if machine.device_type != "cuda" or _some_share_a_gpu(ranks, machine):
        yield words
        return
    longest = _LONGEST_COMPILING if machine.compile else _LONGEST_GPU_WAIT
    group = distributed.new_group(
        distributed.get_process_group_ranks(words), backend="nccl", timeout=longest
    )
    try:
        yield group
    finally:
        distributed.destroy_process_group(group)


def _some_share_a_gpu(ranks: Ranks, machine: Machine) -> bool:
    """Say whether two processes have one GPU, which NCCL refuses; gloo goes through the CPU."""
    own = str(torch.cuda.get_device_properties(torch.device(machine.device)).uuid)
    return len(set(gathered(own, ranks))) < ranks.size


class _Norm(NamedTuple):
    """A batch norm, and where in a network it is."""

    owner: nn.Module
    name: str
    norm: _BatchNorm


def _plain_norms(network: nn.Module, machine: Machine) -> list[_Norm]:
    """Give a network's batch norms, all of a kind that can see several processes' batches as one.

    Raises:
        RsbenchError: One is of another kind, or the device is none that can do it.
    """
    if machine.device_type != "cuda":
        raise RsbenchError(
            "sync_norm by several processes must run on GPUs, for PyTorch has no SyncBatchNorm of"
            f" the CPU; the device was {machine.device}: run one process, or give --set"
            " sync_norm=false or freeze_norm=true."
        )
    norms = [
        _Norm(owner, name, norm)
        for owner in network.modules()
        for name, norm in owner.named_children()
        if isinstance(norm, _BatchNorm)
    ]
    for each in norms:
        if type(each.norm) not in _PLAIN_NORMS:
            raise RsbenchError(
                "sync_norm must have batch norms of PyTorch's own, and this network has a"
                f" {type(each.norm).__name__}: give --set sync_norm=false, or one GPU."
            )
    return norms


@contextmanager
def _in_sync(norms: Sequence[_Norm], group: Any) -> Iterator[None]:  # noqa: ANN401 - as torch's
    """Put norms that see the batches of all processes as one in the place of these, for a time."""
    for owner, name, norm in norms:
        # Statistics and parameters stay the same tensors.
        synced = nn.SyncBatchNorm.convert_sync_batchnorm(norm, group)  # type: ignore[no-untyped-call]
        setattr(owner, name, synced)
    try:
        yield
    finally:
        for owner, name, norm in norms:
            norm.train(getattr(owner, name).training)
            setattr(owner, name, norm)


def spoken(word: Word, ranks: Ranks | None) -> list[Word]:
    """Exchange a word with the other processes before a step; give that of each, by rank."""
    if ranks is None:
        return [word]
    assert len(word.shape) <= _MOST_AXES
    padded = [*word.shape, *[0] * (_MOST_AXES - len(word.shape))]
    flags = [word.num_examples, int(word.stops), int(word.saves), len(word.shape)]
    own = torch.tensor([*flags, *padded], dtype=torch.int64)
    rows = [torch.empty_like(own) for _ in range(ranks.size)]
    distributed.all_gather(rows, own, group=ranks.group)
    return [_word_of(row.tolist()) for row in rows]


def _word_of(row: list[int]) -> Word:
    num_examples, stops, saves, num_axes, *shape = row
    return Word(num_examples, bool(stops), bool(saves), tuple(shape[:num_axes]))


def gathered_sum(values: Sequence[float], ranks: Ranks | None) -> list[float]:
    """Give the sums of some numbers over all processes, the same in each."""
    if ranks is None:
        return list(values)
    sums = torch.tensor(values, dtype=torch.float64)
    distributed.all_reduce(sums, group=ranks.group)
    summed: list[float] = sums.tolist()
    return summed


def merged(entries: Mapping[str, Value], ranks: Ranks | None) -> dict[str, Value]:
    """Give the entries of all processes; of a name that several have, that of the first one."""
    if ranks is None:
        return dict(entries)
    found: dict[str, Value] = {}
    for each in gathered(dict(entries), ranks):
        found = {**each, **found}
    return found


def from_lead(make: Callable[[], Any], ranks: Ranks | None) -> Any:  # noqa: ANN401 - what is made
    """Give all processes what the first one makes, be it of a disk that the others don't have.

    Args:
        make: Called in the first process alone; gives what `torch.load` may read without running
            code: numbers, words, lists, dictionaries, tensors, None.
        ranks: None: `make` is called.

    Returns:
        What was made; in the other processes its tensors lie on the CPU.
    """
    if ranks is None:
        return make()
    box: list[Any] = [None]
    made = None
    if ranks.rank == 0:
        made = make()
        content = io.BytesIO()
        torch.save(made, content)
        box = [content.getvalue()]
    first = 0 if ranks.group is None else distributed.get_global_rank(ranks.group, 0)
    distributed.broadcast_object_list(box, src=first, group=ranks.group)
    if ranks.rank == 0:
        return made
    return torch.load(io.BytesIO(box[0]), map_location="cpu", weights_only=True)


def same_everywhere(network: nn.Module, ranks: Ranks | None) -> None:
    """Give all processes the first one's parameters and buffers, to the bit."""
    if ranks is None:
        return
    first = 0 if ranks.group is None else distributed.get_global_rank(ranks.group, 0)
    for tensor in named_tensors(network).values():
        # Over the CPU: the words' group has nothing to do with devices, and this comes once.
        own = tensor.cpu().contiguous()
        distributed.broadcast(own, src=first, group=ranks.group)
        tensor.copy_(own)


def gathered(value: Value, ranks: Ranks) -> list[Value]:
    """Give what each process has in this place, by rank.

    Args:
        value: Of this process; picklable.
        ranks: Of the processes.
    """
    values: list[Any] = [None] * ranks.size
    distributed.all_gather_object(values, value, group=ranks.group)
    return values
