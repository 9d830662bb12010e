"""Weights from files into networks, without running code from a file, and digests of what came out.

Read are safetensors and torch files (`.pt`, `.pth`, `.bin`) of plain tensors; the content decides,
not the name. A torch file is a pickle, which can run any code when it is opened: only the kinds of
object that can't (`weights_only`) are let through.
"""

from __future__ import annotations

import copy
import hashlib
import math
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rsbench.errors import WeightsError

# Where training programs put the parameters in a checkpoint, best first: where there is a moving
# average of the weights it is what gets evaluated.
WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
)

# What DistributedDataParallel and torch.compile put before every name.
PREFIXES = ("module.", "_orig_mod.")

# A counter of BatchNorm that no evaluation reads; older files lack it.
COUNTER = "num_batches_tracked"

NAMES_SHOWN = 3

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

    Checkpoints that wrap them ("state_dict", "model", ...; a moving average is preferred) are
    unwrapped, and prefixes that training adds to every name ("module.") are taken off.

    Raises:
        WeightsError: The file is missing, damaged, of another format, holds something other than
            tensors, or would run code on loading (which it then has not done).
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
    return _without_prefixes(_unwrap(content, path))


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
        WeightsError: Values are not finite.
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
        WeightsError: Values are not finite.
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
        if state[key].is_floating_point() and not bool(torch.isfinite(state[key]).all()):
            raise WeightsError(
                f"can't load {name}: weights must be finite numbers, and {key} holds NaN or "
                "infinity: the file is damaged or its training diverged; get another"
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
    largest = outputs.abs().max().item()
    if not math.isfinite(largest):
        raise WeightsError(
            "the outputs of a network must be finite numbers, and this one gives NaN or infinity "
            "for an ordinary input: check its weights"
        )
    steps = (outputs / (largest or 1.0) * 10**decimals).round().to(torch.int64)
    text = f"{tuple(outputs.shape)} {largest:.{decimals}e} {steps.flatten().tolist()}"
    return hashlib.sha256(text.encode()).hexdigest()


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(_damaged(path, "safetensors", error)) from error


def _read_torch(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # The words of torch 2.x; without them the file is a damaged one.
        found = re.search(r"(?:GLOBAL|type|class) ([\w.]+\.\w+)", str(error))
        if found is None and "nsupported" not in str(error):
            raise WeightsError(_damaged(path, "torch", error)) from error
        what = found[1] if found else "an object"
        raise WeightsError(
            f"weights file {path} must hold tensors only and holds {what}, which could run code on "
            "loading, so it was not loaded: save the parameters alone with "
            "torch.save(model.state_dict(), FILE) or as safetensors"
        ) from error
    except Exception as error:
        # A pickle cut short raises whatever its last bytes happen to mean, struct.error included.
        raise WeightsError(_damaged(path, "torch", error)) from error


def _damaged(path: Path, kind: str, error: BaseException) -> str:
    reason = str(error).strip().split("\n")[0].split(". ")[0][:120] or type(error).__name__
    return (
        f"weights file {path} ({path.stat().st_size} bytes) must be a whole {kind} file and can't "
        f"be read ({reason}): it is cut short or damaged; get it again"
    )


def _unwrap(content: object, path: Path) -> dict[str, Tensor]:
    while isinstance(content, Mapping):
        values = content.values()
        if values and all(isinstance(value, Tensor) for value in values):
            return {str(key): value for key, value in content.items()}
        wrapper = next(
            (key for key in WRAPPERS if isinstance(content.get(key), Mapping) and content[key]),
            None,
        )
        if wrapper is None:
            keys = ", ".join(str(key) for key in list(content)[:8]) or "nothing"
            raise WeightsError(
                f"weights file {path} must map names to tensors, at the top or under one of "
                f"{', '.join(WRAPPERS)}, and holds {keys}: save model.state_dict()"
            )
        content = content[wrapper]
    raise WeightsError(
        f"weights file {path} must map names to tensors and holds a {type(content).__name__}: save "
        "model.state_dict()"
    )


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES * 2:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


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
    if len(parents) == 1 and not reshaped and not (missing and unexpected):
        layer = parents.pop()
        if unexpected:
            return f"if {layer} is the classifier, build the network with that many classes"
        return f"if {layer} is the classifier, build the network without one"
    return "name the backbone that the file was saved from, or a file for this one"


def _some(keys: Sequence[str]) -> str:
    shown = ", ".join(keys[:NAMES_SHOWN])
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


def _fixed_outputs(module: nn.Module, shape: Sequence[int], precision: torch.dtype) -> Tensor:
    """Run a copy of a network in eval mode; outputs as float64 on the CPU."""
    parameter = next(module.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    # Multiplicative hashing: looks like noise, is exact in any precision, needs no generator.
    numbers = torch.arange(math.prod(shape), dtype=torch.int64) * 40_503 % 65_536
    batch = (numbers.to(torch.float64) / 32_768 - 1).reshape(tuple(shape))
    twin = copy.deepcopy(module).to(precision).eval()
    with torch.inference_mode():
        outputs: Tensor = twin(batch.to(device=device, dtype=precision))
    return outputs.to(device="cpu", dtype=torch.float64)


def _float32_outputs(module: nn.Module, shape: Sequence[int]) -> Tensor:
    try:
        return _fixed_outputs(module, shape, torch.float32)
    except Exception as error:
        reason = str(error).strip().split("\n")[0][:160]
        raise WeightsError(
            f"a network must map a batch of shape {tuple(shape)} to features and this one failed "
            f"({reason}): check its modality and input size"
        ) from error


def _eight_sums(outputs: Tensor) -> Tensor:
    """Sum all outputs with eight sets of fixed weights, (8,)."""
    flat = outputs.flatten()
    numbers = torch.arange(8 * len(flat), dtype=torch.int64) * 40_503 % 65_536
    return (numbers.to(torch.float64) / 32_768 - 1).reshape(8, -1) @ flat
