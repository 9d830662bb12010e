"""Weights from files into networks, without running code from a file, and digests of what came out.

Read are safetensors and torch files (`.pt`, `.pth`, `.bin`) of plain tensors; the content decides,
not the name. A torch file is a pickle, which can run any code when it is opened: only the kinds of
object that can't (`weights_only`) are let through.
"""

from __future__ import annotations

import copy
import errno
import hashlib
import math
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rsbench.errors import WeightsError
from rsbench.weights.shelf import in_words

# Where training programs put a moving average of the parameters, best first.
AVERAGES = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema_model",
    "params_ema",
    "ema",
)

# Where training programs put the parameters in a checkpoint, best first: where there is a moving
# average of the weights it is what gets evaluated.
WRAPPERS = (
    *AVERAGES,
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
)

# What DistributedDataParallel and torch.compile put before every name.
PREFIXES = ("module.", "_orig_mod.")

# What torch's AveragedModel counts beside the averages, which it calls "module.NAME".
AVERAGE_COUNTER = "n_averaged"

# A counter of BatchNorm that no evaluation reads; older files lack it.
COUNTER = "num_batches_tracked"

NAMES_SHOWN = 3

_FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
_WHOLE = frozenset({torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool})

# Of a checkpoint in a checkpoint; one that holds itself would never end.
_MOST_WRAPPERS = 4
# "ema_net", "netEMA", and no "schema".
_AVERAGE = re.compile(r"(?<![A-Za-z])ema|Ema|EMA")

_ZIP = b"PK\x03\x04"
_HDF5 = b"\x89HDF"
_GZIP = b"\x1f\x8b"
_TAR = b"ustar"
_TAR_PLACE = 257
_CHECKPOINT_PART = re.compile(r"\.index|\.data-\d{5}-of-\d{5}")


class MisfitError(WeightsError):
    """A file's names or shapes are not the network's; which ones, and what to do, apart."""

    def __init__(self, found: str, advice: str) -> None:
        super().__init__(f"{found}: {advice}")
        self.found = found


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """The tensors of a file, by the names that it has for them."""

    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()
    """What a reader of the numbers should know: that averages were taken, or left."""


def is_there(path: Path) -> bool:
    """Say whether a path names a file, a folder, or the prefix of a checkpoint's files.

    Raises:
        WeightsError: Its folder can't be looked into.
    """
    try:
        return path.exists() or bool(foreign_kind(path))
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise WeightsError(
            f"{path} must be a file that can be read and can't be looked at ({error.strerror}):"
            " change its permissions, or name another"
        ) from error


def foreign_kind(path: Path) -> str:
    """Say what a file or folder is that has to be converted before it can be loaded.

    Returns:
        "Keras HDF5 file", "TensorFlow checkpoint", or nothing for what `load_state` is to look at.
    """
    if path.is_dir():
        inside = (path.glob(pattern) for pattern in ("*.index", "*/*.index"))
        return "TensorFlow checkpoint" if any(map(any, inside)) else ""
    if path.name and path.with_name(f"{path.name}.index").is_file():
        return "TensorFlow checkpoint"
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        start = stream.read(_TAR_PLACE + len(_TAR))
    if start.startswith(_HDF5):
        return "Keras HDF5 file"
    # Published checkpoints come as archives, and name.pth.tar is no archive but a torch file.
    is_archive = start.startswith(_GZIP) or start.endswith(_TAR)
    is_part = any(map(_CHECKPOINT_PART.fullmatch, path.suffixes[-1:]))
    return "TensorFlow checkpoint" if is_archive or is_part else ""


def load_state(path: Path) -> dict[str, Tensor]:
    """Read the named tensors of a safetensors or torch file, on the CPU.

    Checkpoints are unwrapped as by `read_state`, and prefixes that training adds to every name
    ("module.") are taken off.

    Raises:
        WeightsError: As `read_state`.
    """
    return without_prefixes(read_state(path).tensors)


def read_state(path: Path) -> State:
    """Read the tensors of a safetensors or torch file, on the CPU, by the file's own names.

    Checkpoints that wrap them ("state_dict", "model", ...; a moving average is preferred) are
    unwrapped.

    Raises:
        WeightsError: The file is missing, damaged, of another format, holds something other than
            plain tensors, or would run code on loading (which it then has not done).
    """
    if not path.is_file():
        raise WeightsError(
            f"weights file {path} must be a safetensors or torch file and does not exist: check "
            "the path, or download the file first"
        )
    if kind := foreign_kind(path):
        raise WeightsError(
            f"weights file {path} must be a safetensors or torch file and is a {kind}: convert it "
            f"first, with `rsbench weights convert {path} --backbone NAME`"
        )
    with path.open("rb") as stream:
        start = stream.read(9)
    # Eight bytes of header length, then JSON.
    is_safetensors = path.suffix == ".safetensors" or start[8:9] == b"{"
    content = _read_safetensors(path) if is_safetensors else _read_torch(path)
    found = _unwrap(content, path)
    for key, tensor in found.tensors.items():
        if unlike := _unlike_plain(tensor):
            raise WeightsError(
                f"weights file {path} must hold dense tensors of float16, bfloat16, float32 or "
                f"float64 (and of whole numbers where a network counts), and {in_words(key)} is "
                f"{unlike}: save the network's own state_dict()"
            )
    return found


def without_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take off what training puts before every name, and AveragedModel's counter."""
    bare = dict(state)
    names = bare.keys() - {AVERAGE_COUNTER}
    if len(names) < len(bare) and names and all(key.startswith(PREFIXES[0]) for key in names):
        del bare[AVERAGE_COUNTER]
    for prefix in PREFIXES * 2:
        if all(key.startswith(prefix) for key in bare):
            bare = {key.removeprefix(prefix): value for key, value in bare.items()}
    return bare


def load_into(module: nn.Module, state: Mapping[str, Tensor], *, name: str) -> list[str]:
    """Copy named tensors into a network whose names and shapes must be exactly these.

    Args:
        module: The network; it is unchanged if anything does not fit.
        state: As `load_state` gives it.
        name: Completes "can't load ..." in messages: the file, the network, or "FILE into NETWORK".

    Returns:
        Notes for whoever reads the number, empty if there is nothing to say.

    Raises:
        MisfitError: Names are missing or unexpected, or shapes differ.
        WeightsError: Values are not finite, or of a kind that can't stand for the network's.
    """
    expected = module.state_dict()
    notes = check_fit(expected, state, head_names=_head_names(module), name=name)
    module.load_state_dict({key: state[key] for key in expected if key in state}, strict=False)
    return notes


def check_fit(
    expected: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    *,
    head_names: Sequence[str] = (),
    name: str,
) -> list[str]:
    """Hold named tensors to those of a network, as `load_into` does; nothing is copied.

    Args:
        expected: The network's own, on any device (meta too): names, shapes and types count.
        state: As `load_state` gives it.
        head_names: Which of the network's names are its classifier's.
        name: As in `load_into`.

    Returns:
        Notes for whoever reads the number, empty if there is nothing to say.

    Raises:
        MisfitError: Names are missing or unexpected, or shapes differ.
        WeightsError: Values are not finite, or of a kind that can't stand for the network's.
    """
    missing = [key for key in expected if key not in state and not key.endswith(COUNTER)]
    unexpected = [key for key in state if key not in expected and not key.endswith(COUNTER)]
    shared = [key for key in expected if key in state]
    reshaped = [key for key in shared if expected[key].shape != state[key].shape]
    if missing or unexpected or reshaped:
        if not missing and not unexpected and set(head_names).issuperset(reshaped):
            raise WeightsError(_explain_head(reshaped[-1], expected, state, name))
        found = _explain(missing, unexpected, reshaped, expected, state, name)
        raise MisfitError(found, _advice(missing, unexpected, reshaped))
    for key in shared:
        is_float = expected[key].is_floating_point()
        unlike = _unlike_plain(state[key])
        if unlike or (is_float and state[key].dtype not in _FLOATS):
            unlike = unlike or _type_name(state[key].dtype)
            wanted = "float16, bfloat16, float32 or float64" if is_float else "plain numbers"
            raise WeightsError(
                f"can't load {name}: {in_words(key)} must be a dense tensor of {wanted}, and is "
                f"{unlike}: get a file of the weights as they were trained"
            )
        # As the network will have it: what float64 can hold may be infinity in float32.
        value = state[key].to(expected[key].dtype) if is_float else state[key]
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise WeightsError(
                f"can't load {name}: weights must be finite numbers, and {in_words(key)} holds "
                "NaN or infinity: the file is damaged or its training diverged; get another"
            )
    return _precision_notes(expected, state, shared)


def state_digest(module: nn.Module) -> str:
    """Give the sha256 over names, types, shapes and bytes of all parameters and saved buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        # As bytes, because numpy knows no bfloat16.
        content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        digest.update(memoryview(content))
    return digest.hexdigest()


def numeric_digest(module: nn.Module, input_shape: Sequence[int], *, decimals: int = 3) -> str:
    """Give the sha256 of what a network computes, rounded, from a fixed input in eval mode.

    It changes when the weights or the network's code change the numbers, and stays when threads,
    layouts, devices or libraries only add up in another order. Rounding float32 can't do both:
    that noise was measured on ResNet-RS-50 at 4e-7 of the largest output, so that rounded to
    3 decimals one of 2,048 values crosses a boundary every few comparisons. So a copy of the
    network runs in float64, measured noise 5e-16: divided by the largest and rounded to 3 decimals,
    a crossing is a matter of one in a million, while a true change of 1e-5 of the largest shows.

    A network that refuses float64 (it has float32 written into it) runs in float32; there eight
    sums over all outputs are rounded to 2 decimals, which is coarser.

    Args:
        module: The network; it is left as it is, whatever its mode and device.
        input_shape: Of the input with its batch axis; the smallest the network takes is enough.
        decimals: Digits kept after the point, of outputs divided by the largest.

    Raises:
        WeightsError: The network can't take such an input, or gives values that are not finite.
    """
    try:
        outputs = _fixed_outputs(module, input_shape, torch.float64)
    except Exception:  # What a network makes of numbers it was not written for is its own affair.
        outputs, decimals = _eight_sums(_float32_outputs(module, input_shape)), 2
    return _rounded_digest(outputs, decimals)


def maps_digest(module: nn.Module, input_shape: Sequence[int]) -> str:
    """Give the sha256 of a network's stage maps, each rounded as `numeric_digest` rounds outputs.

    Args:
        module: The network, with `stage_maps`; it is left as it is, whatever its mode and device.
        input_shape: Of the input with its batch axis; the smallest the network takes is enough.

    Raises:
        WeightsError: The network gives no maps of such an input, or values that are not finite.
    """
    try:
        maps, decimals = _fixed_run(module, input_shape, torch.float64, _stage_maps), 3
    except Exception:  # As above.
        found, decimals = _float32_maps(module, input_shape), 2
        maps = {f"{name} {tuple(each.shape)}": _eight_sums(each) for name, each in found.items()}
    digests = [
        f"{name} {_rounded_digest(each, decimals)}\n" for name, each in maps.items() if each.numel()
    ]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    # Besides SafetensorError whatever torch makes of types and sizes that it does not know.
    except Exception as error:
        raise WeightsError(_damaged(path, "safetensors", error)) from error


def _read_torch(path: Path) -> object:
    _refuse_unlike_saved(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # The words of torch 2.x; without them the file is a damaged one.
        found = re.search(r"(?:GLOBAL|type|class) ([\w.]+\.\w+)", str(error))
        if found is None and "nsupported" not in str(error):
            raise WeightsError(_damaged(path, "torch", error)) from error
        what = in_words(found[1]) if found else "an object"
        raise WeightsError(
            f"weights file {path} must hold tensors only and holds {what}, which could run code on "
            "loading, so it was not loaded: save the parameters alone with "
            "torch.save(model.state_dict(), FILE) or as safetensors"
        ) from error
    except Exception as error:
        # A pickle cut short raises whatever its last bytes happen to mean, struct.error included.
        raise WeightsError(_damaged(path, "torch", error)) from error


def _refuse_unlike_saved(path: Path) -> None:
    """Refuse a zip file that torch.save did not write: one with code, or one that swells."""
    with path.open("rb") as stream:
        if stream.read(len(_ZIP)) != _ZIP:
            return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    # What zipfile makes of damaged bytes depends on where they lie.
    except Exception as error:
        raise WeightsError(_damaged(path, "torch", error)) from error
    # ARCHIVE/constants.pkl and ARCHIVE/code/..., as torch.jit.save writes them.
    parts = [entry.filename.split("/")[1:] for entry in entries]
    if any(part == ["constants.pkl"] or part[:1] == ["code"] for part in parts):
        raise WeightsError(
            f"weights file {path} must hold tensors only and holds code (TorchScript), so it was "
            "not loaded: save state_dict() of the network with torch.save or as safetensors"
        )
    unpacked, stored = sum(entry.file_size for entry in entries), path.stat().st_size
    if unpacked > stored or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise WeightsError(
            f"weights file {path} must hold its tensors uncompressed, as torch.save writes them, "
            f"and is {stored:,} bytes that unpack to {unpacked:,}, so it was not loaded: save it "
            "again with torch.save or as safetensors"
        )


def _damaged(path: Path, kind: str, error: BaseException) -> str:
    reason = str(error).strip().split("\n")[0].split(". ")[0] or type(error).__name__
    return (
        f"weights file {path} ({path.stat().st_size} bytes) must be a whole {kind} file and can't "
        f"be read ({in_words(reason)}): it is cut short or damaged; get it again"
    )


def _unwrap(content: object, path: Path) -> State:
    if not isinstance(content, Mapping):
        raise WeightsError(
            f"weights file {path} must map names to tensors and holds a {type(content).__name__}: "
            "save model.state_dict()"
        )
    taken = _path_to_tensors(content, _MOST_WRAPPERS)
    if taken is None:
        keys = ", ".join(map(_key_in_words, list(content)[:8])) or "nothing"
        raise WeightsError(
            f"weights file {path} must map names to tensors, at the top or under one of "
            f"{', '.join(WRAPPERS)}, and holds {keys}: save model.state_dict()"
        )
    notes = []
    inner: Mapping[Any, Any] = content
    for key in taken:
        if key in AVERAGES:
            notes.append(f"moving average taken ({key})")
        elif not notes and (left := _averages_left(inner)):
            notes.append(f"plain weights taken; {_some(left)} left")
        inner = inner[key]
    return State(tensors=dict(inner), notes=tuple(notes))


def _path_to_tensors(content: Mapping[Any, Any], depth: int) -> tuple[str, ...] | None:
    """Find the wrappers to go through to the best tensors by name; None where there are none."""
    if content and all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        return ()
    for key in WRAPPERS if depth else ():
        inner = content.get(key)
        below = _path_to_tensors(inner, depth - 1) if isinstance(inner, Mapping) else None
        if below is not None:
            return (key, *below)
    return None


def _averages_left(content: Mapping[Any, Any]) -> list[str]:
    """Name what may hold averages beside the plain weights; a decay rate does not."""
    return [
        key
        for key, value in content.items()
        if isinstance(key, str)
        and _AVERAGE.search(key)
        and isinstance(value, Mapping | list | tuple)
        and value
    ]


def _unlike_plain(tensor: Tensor) -> str:
    """Say what keeps a tensor from being dense numbers on the CPU; nothing if it is plain."""
    if tensor.is_meta:
        return "a meta tensor without values"
    if tensor.layout != torch.strided or tensor.is_nested:
        return "sparse" if tensor.is_sparse else "not dense"
    if tensor.dtype not in _FLOATS | _WHOLE:
        return _type_name(tensor.dtype)
    return "" if tensor.device.type == "cpu" else f"on {tensor.device.type}"


def _type_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _key_in_words(key: object) -> str:
    return in_words(key) if isinstance(key, str) else f"a key of type {type(key).__name__}"


def _head_names(module: nn.Module) -> tuple[str, ...]:
    """Give the names that the parameters of `module.head` have in the network's state."""
    head = getattr(module, "head", None)
    if not isinstance(head, nn.Module):
        return ()
    parameters = {id(parameter) for parameter in head.parameters()}
    return tuple(name for name, value in module.named_parameters() if id(value) in parameters)


def _explain_head(
    key: str, expected: Mapping[str, Tensor], state: Mapping[str, Tensor], name: str
) -> str:
    there, wanted = len(state[key]), len(expected[key])
    return (
        f"can't load {name}: all fits but the head, whose {key} in the file is for {there} classes "
        f"and in the network for {wanted}: build the network with {there} classes"
    )


def _explain(
    missing: Sequence[str],
    unexpected: Sequence[str],
    reshaped: Sequence[str],
    expected: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    name: str,
) -> str:
    parts = [
        f"{len(keys)} of the network's {len(total)} names are {what} ({_some(keys)})"
        for keys, total, what in (
            (missing, expected, "missing from the file"),
            (reshaped, expected, "of another shape in the file"),
        )
        if keys
    ]
    if unexpected:
        parts.append(
            f"{len(unexpected)} of the file's {len(state)} names are not in the network "
            f"({_some(unexpected)})"
        )
    if reshaped:
        key = reshaped[0]
        parts.append(
            f"{key} is {tuple(expected[key].shape)}, in the file {tuple(state[key].shape)}"
        )
    return f"can't load {name}: {'; '.join(parts)}"


def _advice(missing: Sequence[str], unexpected: Sequence[str], reshaped: Sequence[str]) -> str:
    # "fc.weight" and "fc.bias" of a file with a classifier, or of a network that wants one.
    parents = {key.rpartition(".")[0] for key in (*missing, *unexpected)}
    # A name without a parent is a network's own number, and no layer's.
    if len(parents) == 1 and "" not in parents and not reshaped and not (missing and unexpected):
        layer = in_words(parents.pop())
        if unexpected:
            return f"if {layer} is the classifier, build the network with that many classes"
        return f"if {layer} is the classifier, build the network without one"
    return "name the backbone that the file was saved from, or a file for this one"


def _some(keys: Sequence[str]) -> str:
    shown = ", ".join(map(in_words, keys[:NAMES_SHOWN]))
    return f"{shown}, ..." if len(keys) > NAMES_SHOWN else shown


def _precision_notes(
    expected: Mapping[str, Tensor], state: Mapping[str, Tensor], shared: Sequence[str]
) -> list[str]:
    changed = sorted(
        {
            (str(state[key].dtype), str(expected[key].dtype))
            for key in shared
            if expected[key].is_floating_point() and state[key].dtype != expected[key].dtype
        }
    )
    return [
        f"weights stored as {stored.removeprefix('torch.')}, "
        f"loaded as {loaded.removeprefix('torch.')}"
        for stored, loaded in changed
    ]


def _rounded_digest(values: Tensor, decimals: int) -> str:
    largest = values.abs().max().item()
    if not math.isfinite(largest):
        raise WeightsError(
            "the outputs of a network must be finite numbers, and this one gives NaN or infinity "
            "for an ordinary input: check its weights"
        )
    steps = (values / (largest or 1.0) * 10**decimals).round().to(torch.int64)
    text = f"{tuple(values.shape)} {largest:.{decimals}e} {steps.flatten().tolist()}"
    return hashlib.sha256(text.encode()).hexdigest()


def _stage_maps(network: Any, batch: Tensor) -> Mapping[str, Tensor]:  # noqa: ANN401
    # Any: `stage_maps` is of the backbone contract, which nn.Module's attributes do not show.
    maps: Mapping[str, Tensor] = network.stage_maps(batch)
    return maps


def _fixed_outputs(module: nn.Module, shape: Sequence[int], precision: torch.dtype) -> Tensor:
    return _fixed_run(module, shape, precision, lambda twin, batch: {"": twin(batch)})[""]


def _fixed_run(
    module: nn.Module,
    shape: Sequence[int],
    precision: torch.dtype,
    run: Callable[[nn.Module, Tensor], Mapping[str, Tensor]],
) -> dict[str, Tensor]:
    """Run a copy of a network in eval mode; outputs as float64 on the CPU."""
    parameter = next(module.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    # Multiplicative hashing: looks like noise, is exact in any precision, needs no generator.
    numbers = torch.arange(math.prod(shape), dtype=torch.int64) * 40_503 % 65_536
    batch = (numbers.to(torch.float64) / 32_768 - 1).reshape(tuple(shape))
    twin = copy.deepcopy(module).to(precision).eval()
    with torch.inference_mode():
        outputs = run(twin, batch.to(device=device, dtype=precision))
    return {name: each.to(device="cpu", dtype=torch.float64) for name, each in outputs.items()}


def _float32_outputs(module: nn.Module, shape: Sequence[int]) -> Tensor:
    try:
        return _fixed_outputs(module, shape, torch.float32)
    except Exception as error:
        reason = str(error).strip().split("\n")[0][:160]
        raise WeightsError(
            f"a network must map a batch of shape {tuple(shape)} to features and this one failed "
            f"({reason}): check its modality and input size"
        ) from error


def _float32_maps(module: nn.Module, shape: Sequence[int]) -> dict[str, Tensor]:
    try:
        return _fixed_run(module, shape, torch.float32, _stage_maps)
    except Exception as error:
        reason = str(error).strip().split("\n")[0][:160]
        raise WeightsError(
            f"a network must give stage maps of a batch of shape {tuple(shape)} and this one "
            f"failed ({reason}): check its stage_maps, or use a protocol that reads features alone"
        ) from error


def _eight_sums(outputs: Tensor) -> Tensor:
    """Sum all outputs with eight sets of fixed weights, (8,)."""
    flat = outputs.flatten()
    numbers = torch.arange(8 * len(flat), dtype=torch.int64) * 40_503 % 65_536
    return (numbers.to(torch.float64) / 32_768 - 1).reshape(8, -1) @ flat
