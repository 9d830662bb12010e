"""Weights of TensorFlow and Keras as named numpy arrays: the only place that opens such files.

Read are

- Keras ``.h5`` files of weights (or of a whole model, of which the weights alone are read), with
  h5py;
- checkpoints of TensorFlow 1 (variables by name) and 2 (variables by their place in a graph of
  objects), with tensorflow's reader: ``PREFIX.index`` beside ``PREFIX.data-00000-of-00001``. The
  text file ``checkpoint`` that should lie with them is missing from most of Google's archives and
  is only looked at where a folder holds more than one;
- either of them in a folder, or in a tar archive, which is unpacked into a temporary folder.

Names are those in the file without their decoration (``:0``, ``/.ATTRIBUTES/VARIABLE_VALUE``), and
layouts are TensorFlow's; renaming and transposing is a backbone's business. What belongs to a
training only (momenta, counters) is left out. Where a checkpoint has moving averages beside the
values of the last step, the averages are given, because those are what the published scores
belong to: of weights *and* of BatchNorm statistics, since the official recipes train with momentum
0, that is with the statistics of the last batch alone.

No code from a file runs: a whole Keras model may hold Python code, and is never built here.
"""

from __future__ import annotations

import errno
import os
import re
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import count, takewhile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from rsbench.errors import DiskError, WeightsError
from rsbench.specs import WeightsFormat
from rsbench.weights.shelf import in_words

MAX_BYTES = 8 * 2**30
"""What an archive may unpack to, and a file of weights may hold. The largest known checkpoint,
ResNet-RS-420 with averages and momenta, is 2.3 GB."""

MAX_ENTRIES = 10_000
"""Of an archive; published ones have a handful."""

MAX_HEADER_BYTES = 2**20
"""What an archive may spend on long names and the like, in all. They are read into memory whole,
and a gigabyte of them packs into a few megabytes."""

Note = Callable[[str], None]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_SHARD = re.compile(r"(?P<prefix>.+)\.data-\d{5}-of-(?P<total>\d{5})")

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_SLOT = "/.OPTIMIZER_SLOT/"
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_NAMED_AVERAGE = "/ExponentialMovingAverage"
# What optimizers of TensorFlow 1 append to the name of a variable.
_NAMED_SLOTS = ("/Momentum", "/RMSProp", "/RMSProp_1", "/Adam", "/Adam_1")
_COUNTERS = ("global_step", "save_counter")
_TRAINING_ROOTS = ("optimizer/", "keras_api/")
_STATISTICS = ("moving_mean", "moving_variance")
# The Model Garden writes its best checkpoint while the averages are swapped in for evaluation
# (official/core/base_trainer.py, eval_end): there the slots hold the training weights.
_SWAPPED = "best_ckpt"

# Entries of a tar archive that say something of the entry behind them.
_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)

_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_FLOATS = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64))

_NAMES_SHOWN = 3


def read_foreign(
    path: Path, *, note: Note = lambda line: None
) -> tuple[WeightsFormat, dict[str, np.ndarray]]:
    """Read the weights of a Keras file or a TensorFlow checkpoint.

    Args:
        path: An ``.h5`` file; a checkpoint's prefix or one of its files; a folder or a tar archive
            that holds one of these.
        note: Called with what a reader of the numbers should know, a line each: whether moving
            averages were taken.

    Returns:
        The format found, and the tensors by their names in the file, in TensorFlow's layout.

    Raises:
        WeightsError: Nothing readable is there, it is damaged or cut short, an archive reaches out
            of its folder, averages and values of the last step would be mixed, or the library that
            reads it is not installed (the message names the extra).
        DiskError: There is no room to unpack an archive; names the folder.
    """
    with _unpacked(path) as place:
        try:
            return _read(place, path, note)
        except WeightsError as error:
            # What an archive was unpacked to is gone when the message is read.
            raise WeightsError(str(error).replace(str(place), str(path))) from error


def _read(place: Path, path: Path, note: Note) -> tuple[WeightsFormat, dict[str, np.ndarray]]:
    """Read what lies at a place, which the user calls `path`."""
    found = _find_in(place, path) if place.is_dir() else place
    if found.is_file() and _starts_with(found, _HDF5):
        return "keras-h5", _read_keras(found)
    prefix = _prefix(found)
    if prefix is None:
        raise WeightsError(
            f"weights file {path} must be a Keras .h5 file or a TensorFlow checkpoint (X.index "
            "with X.data-00000-of-00001, or a folder or .tar.gz with them) and "
            f"{'is neither' if path.exists() else 'does not exist'}: check the path, or get "
            "the file again"
        )
    return _read_checkpoint(prefix, note)


# ------------------------------------------------------------------------------- finding the file


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """Give a folder with an archive's content for as long as it is needed, or the path itself."""
    if not path.is_file() or not (_starts_with(path, b"\x1f\x8b") or path.suffix == ".tar"):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="rsbench-weights-") as folder:
        _unpack(path, Path(folder))
        yield Path(folder)


class _Entry(tarfile.TarInfo):
    """An entry whose headers are measured before they are read."""

    def _proc_member(self, archive: _Archive) -> tarfile.TarInfo:
        # Of which tarfile would read all that follows.
        if self.size < 0:
            raise tarfile.ReadError("an entry of negative size")
        if self.type == tarfile.GNUTYPE_SPARSE:
            self._refuse_sparse()
        if self.type in _EXTENDED:
            archive.num_header_bytes += self.size
            if archive.num_header_bytes > MAX_HEADER_BYTES:
                raise WeightsError(
                    f"a weights archive must spend at most {MAX_HEADER_BYTES:,} bytes on names, "
                    f"and {archive.name!s} spends more, so it was left alone: get weights from "
                    "their publisher"
                )
        return super()._proc_member(archive)  # type: ignore[misc, no-any-return]

    def _refuse_sparse(self, *ignored: object) -> None:
        raise WeightsError(
            "a weights archive must hold plain files, and this one holds a sparse file, so it was "
            "left alone: get weights from their publisher"
        )

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


class _Archive(tarfile.TarFile):
    tarinfo = _Entry
    num_header_bytes = 0


def _unpack(archive: Path, folder: Path) -> None:
    num_bytes = 0
    try:
        with _Archive.open(archive) as tar:
            for number, member in enumerate(tar, 1):
                if number > MAX_ENTRIES:
                    raise WeightsError(
                        f"weights archive {archive} must have at most {MAX_ENTRIES:,} entries and "
                        "has more, so it was left alone: get weights from their publisher"
                    )
                if member.isdir():
                    continue
                _refuse_unsafe(member, archive)
                num_bytes += member.size
                if num_bytes > MAX_BYTES:
                    raise WeightsError(
                        f"weights archive {archive} must unpack to at most {MAX_BYTES:,} bytes and "
                        "holds more, so it was left alone: get weights from their publisher"
                    )
                tar.extract(member, folder, filter="data")
    # A compressed stream cut short raises whichever layer notices first.
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, RecursionError) as error:
        if isinstance(error, OSError) and error.errno in _DISK_IS_FULL:
            raise DiskError(
                f"{folder.parent} must have room to unpack {archive}, and has none ({error}): free "
                "some, or set TMPDIR to a folder on a larger disk"
            ) from error
        raise WeightsError(_damaged(archive, "tar archive", error)) from error


def _refuse_unsafe(member: tarfile.TarInfo, archive: Path) -> None:
    name = PurePosixPath(member.name)
    reason = (
        "is not a plain file"
        if not member.isreg() or member.size < 0
        else "would be written outside the folder"
        if name.is_absolute() or ".." in name.parts
        else "has unprintable characters in its name"
        if not member.name.isprintable()
        else ""
    )
    if reason:
        raise WeightsError(
            f"weights archive {archive} must hold plain files below one folder, and its entry "
            f"{in_words(member.name)} {reason}, so nothing of it was read: get weights from their "
            "publisher"
        )


def _find_in(folder: Path, path: Path) -> Path:
    """Find the one checkpoint or .h5 file in a folder; `path` is what the user calls it."""
    # Archives made on a Mac have a "._NAME" beside each file.
    files = [each for each in sorted(folder.rglob("*")) if not each.name.startswith("._")]
    prefixes = [each.with_suffix("") for each in files if each.suffix == ".index"]
    if len(prefixes) > 1:
        latest = {_latest(each) for each in files if each.name == "checkpoint"}
        prefixes = [each for each in prefixes if each in latest] or prefixes
    found = prefixes or [each for each in files if each.suffix in (".h5", ".hdf5")]
    if len(found) == 1:
        return found[0]
    shown = _some([str(each.relative_to(folder)) for each in found or files]) or "nothing"
    raise WeightsError(
        f"{path} must hold one TensorFlow checkpoint (X.index with X.data-00000-of-00001) or one "
        f"Keras .h5 file, and holds {shown}: "
        + ("name one of them" if found else "check the path, or get the file again")
    )


def _latest(state: Path) -> Path | None:
    """Read off the text file `checkpoint` which prefix beside it is the latest."""
    text = state.read_text(encoding="utf-8", errors="replace")
    match = re.search(r'^model_checkpoint_path: "(?:.*/)?([^"/]+)"', text, re.MULTILINE)
    return state.parent / match[1] if match else None


def _prefix(path: Path) -> Path | None:
    """Give the prefix of the checkpoint that a path means, None if it means none."""
    shard = _SHARD.fullmatch(path.name)
    if shard:
        return path.with_name(shard["prefix"])
    if path.name.endswith(".index"):
        return path.with_suffix("")
    return path if path.with_name(f"{path.name}.index").is_file() else None


# ------------------------------------------------------------------------------------------ Keras


def _read_keras(path: Path) -> dict[str, np.ndarray]:
    try:
        import h5py
    except ImportError as error:
        raise WeightsError(
            f"weights file {path} is HDF5 (Keras), which must be read with h5py, and that is not "
            'installed: pip install "rsbench[keras]"'
        ) from error
    try:
        with h5py.File(path, "r") as file:
            return _keras_tensors(file, path)
    # What h5py makes of damaged bytes depends on where they lie.
    except (OSError, LookupError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(_damaged(path, "HDF5 file", error)) from error


def _keras_tensors(file: Any, path: Path) -> dict[str, np.ndarray]:  # noqa: ANN401 - h5py is untyped
    # A whole model has its weights in a group of their own, beside its code.
    # `in file` would follow a link, and say of a broken one that there is none.
    root = _inside(file, "model_weights", path) if "model_weights" in list(file) else file
    layers = _keras_names(root, "layer_names")
    if not layers:
        raise WeightsError(
            f"weights file {path} must be written by Keras's save_weights (HDF5 with layer_names) "
            f"and holds {_some(list(file)) or 'nothing'}: save it as .h5 with tf_keras or Keras 2"
        )
    tensors: dict[str, np.ndarray] = {}
    num_bytes = 0
    for layer in layers:
        group = _inside(root, layer, path)
        for name in _keras_names(group, "weight_names"):
            dataset = _inside(group, name, path)
            num_bytes += dataset.nbytes
            if dataset.dtype.newbyteorder("=") not in _FLOATS or num_bytes > MAX_BYTES:
                raise WeightsError(
                    f"weights file {path} must hold floating-point tensors of at most "
                    f"{MAX_BYTES:,} bytes in all, and {in_words(name)} is "
                    f"{in_words(str(dataset.dtype))} {tuple(dataset.shape)}: get weights from "
                    "their publisher"
                )
            native = dataset.dtype.newbyteorder("=")
            tensors[name.removesuffix(":0")] = np.asarray(dataset, native)
    return tensors


def _keras_names(group: Any, attribute: str) -> list[str]:  # noqa: ANN401 - h5py is untyped
    """Read a list of names, which Keras cuts in pieces (NAME0, NAME1) where HDF5 allows no more."""
    attributes = group.attrs
    cut = takewhile(lambda piece: piece in attributes, (f"{attribute}{n}" for n in count()))
    pieces = [attribute] if attribute in attributes else list(cut)
    names = [name for piece in pieces for name in attributes[piece]]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _inside(group: Any, name: str, path: Path) -> Any:  # noqa: ANN401 - h5py is untyped
    """Go down to an object whose data lies in this very file: HDF5 can point to any other."""
    import h5py

    for part in name.split("/"):
        link = group.get(part, getlink=True)
        found = group[part] if isinstance(link, h5py.HardLink) else None
        elsewhere = isinstance(found, h5py.Dataset) and (found.external or found.is_virtual)
        if found is None or elsewhere:
            raise WeightsError(
                f"weights file {path} must hold all it names, and {in_words(name)} is "
                f"{'missing' if link is None else 'a link to elsewhere'}, so it was not read: "
                "get weights from their publisher"
            )
        group = found
    return group


# ------------------------------------------------------------------------------------- TensorFlow


def _read_checkpoint(prefix: Path, note: Note) -> tuple[WeightsFormat, dict[str, np.ndarray]]:
    _check_shards(prefix)
    # Read when tensorflow is imported; else it starts by printing what it found of the machine.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import tensorflow
    except ImportError as error:
        raise WeightsError(
            f"weights {prefix} are a TensorFlow checkpoint, which must be read with tensorflow, "
            'and that is not installed: pip install "rsbench[tensorflow]"'
        ) from error
    try:
        reader = tensorflow.train.load_checkpoint(str(prefix))
        dtypes = reader.get_variable_to_dtype_map()
        floats = [key for key, dtype in dtypes.items() if dtype.is_floating]
        kind: WeightsFormat = "tf2" if _OBJECT_GRAPH in dtypes else "tf1"
        chosen = choose_published(kind, floats, prefix, note)
        return kind, {name: _array(reader.get_tensor(key)) for name, key in chosen.items()}
    except (tensorflow.errors.OpError, LookupError, RuntimeError, ValueError, OSError) as error:
        raise WeightsError(_damaged(prefix, "TensorFlow checkpoint", error)) from error


def choose_published(
    kind: WeightsFormat, keys: Collection[str], prefix: Path, note: Note
) -> dict[str, str]:
    """Choose which of a checkpoint's tensors are the network as it was evaluated.

    Args:
        kind: "tf1" or "tf2": how the keys are built.
        keys: Of all floating-point tensors in the checkpoint.
        prefix: Of the checkpoint; its name tells whether averages were swapped in when it was
            written.
        note: Called with what was chosen, where there was a choice.

    Returns:
        Name of each tensor, sorted, to the key under which its value lies.

    Raises:
        WeightsError: Some tensors have an average and others have none.
    """
    plain, averages = (_sort_named if kind == "tf1" else _sort_tracked)(keys)
    if not averages:
        return dict(sorted(plain.items()))
    if prefix.name.startswith(_SWAPPED):
        note(
            f"{prefix.name}: written with the moving averages swapped in, so the plain values were "
            "taken"
        )
        return dict(sorted(plain.items()))
    lone = sorted(name for name in plain if name not in averages)
    lone_statistics = [name for name in lone if name.endswith(_STATISTICS)]
    if lone and (lone != lone_statistics or any(name.endswith(_STATISTICS) for name in averages)):
        raise WeightsError(
            f"checkpoint {prefix} must have a moving average for every tensor or for none, and "
            f"{len(lone)} of {len(plain)} have none ({_some(lone)}): averaged and plain values "
            "can't be mixed; get another checkpoint of this training"
        )
    if lone:
        note(
            f"{prefix.name}: moving averages of the weights were taken, and the BatchNorm "
            "statistics of the last step, because the checkpoint has no averages of those"
        )
    else:
        note(f"{prefix.name}: moving averages were taken, of weights and BatchNorm statistics")
    return dict(sorted({**plain, **averages}.items()))


def _sort_named(keys: Collection[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Sort the names of TensorFlow 1 into plain values and averages, by variable."""
    averages = {
        key.removesuffix(_NAMED_AVERAGE): key for key in keys if key.endswith(_NAMED_AVERAGE)
    }
    left_out = (_NAMED_AVERAGE, *_NAMED_SLOTS)
    plain = {key: key for key in keys if not key.endswith(left_out) and key not in _COUNTERS}
    return plain, averages


def _sort_tracked(keys: Collection[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Sort the keys of TensorFlow 2 into plain values and averages, by variable."""
    plain, averages = {}, {}
    for key in keys:
        name, is_slot, slot = key.removesuffix(_VALUE).partition(_SLOT)
        if is_slot:
            if slot.endswith("/average"):
                averages[name] = key
        elif not name.startswith(_TRAINING_ROOTS) and name not in _COUNTERS:
            plain[name] = key
    return plain, averages


def _check_shards(prefix: Path) -> None:
    matches = [_SHARD.fullmatch(each.name) for each in prefix.parent.glob(f"{prefix.name}.data-*")]
    shards = [match for match in matches if match and match["prefix"] == prefix.name]
    total = max((int(match["total"]) for match in shards), default=1)
    index = prefix.with_name(f"{prefix.name}.index")
    if not index.is_file() or len(shards) != total:
        there = [index.name] if index.is_file() else []
        there += sorted(match[0] for match in shards)
        raise WeightsError(
            f"checkpoint {prefix} must be {index.name} with {total} file{'s' * (total > 1)} "
            f"{prefix.name}.data-..., and there is {_some(there) or 'neither'}: get all its files"
        )


def _array(value: Any) -> np.ndarray:  # noqa: ANN401 - tensorflow is untyped
    array = np.asarray(value)
    # numpy has no bfloat16 of its own, and nobody downstream reads tensorflow's.
    return array if array.dtype in _FLOATS else array.astype(np.float32)


# ------------------------------------------------------------------------------------------ words


def _starts_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(magic)) == magic


def _damaged(path: Path, kind: str, error: BaseException) -> str:
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    return (
        f"weights {path} must be a whole {kind} and can't be read ({in_words(reason)}): it is "
        "cut short or damaged; get it again"
    )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(map(in_words, names[:_NAMES_SHOWN]))
    return f"{shown}, ..." if len(names) > _NAMES_SHOWN else shown
