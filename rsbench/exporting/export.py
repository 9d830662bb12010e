"""A record made into a file: drawn, held to the network and to the record, and only then written.

Shape letters: N views, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rsbench.atomic import write_atomically
from rsbench.data.outputs import lay_out
from rsbench.errors import RsbenchError, RunError
from rsbench.exporting.graph import to_onnx, with_metadata
from rsbench.exporting.network import exported_network, random_views
from rsbench.exporting.recorded import Compared, compare_with_record, recorded_items
from rsbench.predicting import rebuild
from rsbench.specs import Reading

TOLERANCE = 1e-5
"""How far a probability may be from the one it is held to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What was written."""

    path: Path
    num_bytes: int
    input: Mapping[str, Any]
    """What the metadata say of it as ``rsbench.input``."""
    classes: tuple[str, ...]
    difference: float
    """Largest one between a probability of the network and of the exported one, on random views."""
    compared: Compared | None
    """None where no item of the record was at hand."""
    why_not: str
    """Why there was none; empty where there was."""


def export_onnx(
    record_path: Path,
    target: Path,
    *,
    cache_root: Path,
    data: Path | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    fold: str | None = None,
    num_items: int = 16,
    tolerance: float = TOLERANCE,
) -> Exported:
    """Write a finished run as an ONNX file, held to the network and to the record.

    Args:
        record_path: A record with its head beside it.
        target: The file to write, a new one.
        cache_root: As in `RunRequest`.
        data: Where the data of the run lies; None looks where a run would.
        backbone: Needed where the record's backbone came from a file: ``./net.py:build``.
        weights: Needed where the record's weights came from a file.
        fold: Whose head, where the run fitted one a fold.
        num_items: Items of the record that are read again and compared; 0 for none.
        tolerance: How far a probability may be off.

    Raises:
        RecordError: The record is not of a protocol that can be exported, or not as it was written.
        RsbenchError: The file exists, a name can't be resolved, or the extra is not installed.
        RunError: The network can't be written as ONNX, or what was written gives other numbers.
    """
    _require_extra()
    if target.suffix != ".onnx" or target.exists():
        raise RsbenchError(
            f"--onnx must name a new file that ends in .onnx; it was {target}"
            f"{', which exists' if target.exists() else ''}: name another."
        )
    rebuilt = rebuild(
        record_path, cache_root=cache_root, backbone=backbone, weights=weights, fold=fold
    )
    network = exported_network(rebuilt)
    example = random_views(rebuilt.reading, num_views=2)
    model = to_onnx(network, example, name=rebuilt.stored.record.backbone.name)
    described = input_in_metadata(rebuilt.reading)
    # The run's own layout of memory, hence its order of sums; what was drawn does not have one.
    lay_out(network.module)
    content = with_metadata(model, rebuilt, described, fold=fold)
    session = _Session(content)
    difference = _difference(network, session, rebuilt.reading, tolerance=tolerance)
    compared, why_not = None, "none was asked for"
    if num_items:
        found = recorded_items(rebuilt, data, cache_root=cache_root, fold=fold, num_items=num_items)
        why_not = found.why_not
        if found.items:
            compared = compare_with_record(
                session, network, rebuilt, found.items, tolerance=tolerance
            )
    write_atomically(target, content)
    return Exported(
        path=target,
        num_bytes=len(content),
        input=described,
        classes=rebuilt.head.classes,
        difference=difference,
        compared=compared,
        why_not=why_not,
    )


def input_in_metadata(reading: Reading) -> dict[str, Any]:
    """Say what the input ``views`` must hold, as the metadata do."""
    example = random_views(reading, num_views=1)
    seen = asdict(reading.input)
    # They are inside the graph: whoever applies them again gets other numbers.
    inside = {name: list(seen.pop(name)) for name in ("mean", "std")}
    return {
        "name": "views",
        "layout": "NCHW" if reading.modality == "image" else "NCTHW",
        "shape": [None, *example.shape[1:]],
        "dtype": str(example.dtype).removeprefix("torch."),
        "channels": "RGB",
        "range": [0, 255],
        **seen,
        "frames": reading.clip.frames,
        "stride": reading.clip.stride,
        "sampler": reading.sampler if reading.modality == "video" else None,
        "clips": reading.views.clips,
        "crops": reading.views.crops,
        "cropper": reading.cropper,
        "inside_the_graph": {"scale": 1 / 255, **inside},
    }


class _Session:
    """An exported file at work in onnxruntime, on the CPU."""

    def __init__(self, content: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, views: Tensor) -> np.ndarray:
        """Give the probabilities of views: float32 (N, K)."""
        (probabilities_NK,) = self._session.run(["probabilities"], {"views": views.numpy()})
        found: np.ndarray = probabilities_NK
        return found


def _difference(
    network: nn.Module, session: _Session, reading: Reading, *, tolerance: float
) -> float:
    """Compare the exported network with the one it was made of, on another number of views.

    Raises:
        RunError: They differ.
    """
    # Neither the number that the graph was traced with, nor one that may stand for any other.
    views = random_views(reading, num_views=3)
    with torch.inference_mode():
        wanted_NK = network(views)[0].numpy()
    difference = float(np.abs(session(views) - wanted_NK).max())
    # Not `difference > tolerance`, which NaN never is.
    if not difference <= tolerance:
        raise RunError(
            f"The exported network must give the probabilities of the one it was made of to"
            f" {tolerance:g}, and on random views it is off by {difference:.1e}; nothing was"
            " written. --tolerance allows more."
        )
    return difference


def _require_extra() -> None:
    """Refuse before anything is built where what writes and runs ONNX is not installed.

    Raises:
        RsbenchError: It is not.
    """
    from importlib.util import find_spec

    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise RsbenchError(
            f"export needs {', '.join(missing)}, which the extra brings: run"
            ' `pip install "rsbench[onnx]"`.'
        )
