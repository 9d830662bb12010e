"""Files of Keras and TensorFlow: what is read off them, and what is refused."""

from __future__ import annotations

import errno
import io
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest

from rsbench.errors import DiskError, WeightsError
from rsbench.weights.foreign import choose_published, read_foreign

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
AVERAGE = "/.OPTIMIZER_SLOT/optimizer/average"
MOMENTUM = "/.OPTIMIZER_SLOT/optimizer/ema_base_optimizer/momentum"


def write_h5(path: Path, layers: dict[str, dict[str, np.ndarray]], *, pieces: int = 0) -> Path:
    """Write weights as Keras 2 does (tf_keras/src/saving/legacy/hdf5_format.py)."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        names = [name.encode() for name in layers]
        if pieces:
            for piece in range(pieces):
                file.attrs[f"layer_names{piece}"] = names[piece::pieces]
        else:
            file.attrs["layer_names"] = names
        for layer, weights in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/{name}:0".encode() for name in weights]
            for name, value in weights.items():
                group.create_dataset(f"{layer}/{name}:0", data=value)
    return path


def two_layers() -> dict[str, dict[str, np.ndarray]]:
    return {
        "input_1": {},
        "stem_conv_1": {"kernel": np.arange(24, dtype=np.float32).reshape(2, 2, 3, 2)},
        "predictions": {"kernel": np.ones((4, 3), np.float32), "bias": np.zeros(3, np.float32)},
    }


def pack(path: Path, *members: tuple[str, bytes] | tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            entry = tarfile.TarInfo(member[0])
            entry.size = len(member[1])
            tar.addfile(entry, io.BytesIO(member[1]))
    return path


# ------------------------------------------------------------------------------------------ Keras


def test_a_keras_file_gives_its_tensors_by_their_names(tmp_path) -> None:
    path = write_h5(tmp_path / "weights.h5", two_layers())

    kind, tensors = read_foreign(path)

    assert kind == "keras-h5"
    assert list(tensors) == ["stem_conv_1/kernel", "predictions/kernel", "predictions/bias"]
    np.testing.assert_array_equal(
        tensors["stem_conv_1/kernel"], two_layers()["stem_conv_1"]["kernel"]
    )


def test_layer_names_that_keras_cut_in_pieces_are_put_together(tmp_path) -> None:
    # HDF5 allows 64 KiB an attribute; ResNet-RS-420 has more names than fit.
    path = write_h5(tmp_path / "weights.h5", two_layers(), pieces=2)

    _, tensors = read_foreign(path)

    assert sorted(tensors) == ["predictions/bias", "predictions/kernel", "stem_conv_1/kernel"]


def test_of_a_whole_keras_model_only_the_weights_are_read(tmp_path) -> None:
    h5py = pytest.importorskip("h5py")
    inner = write_h5(tmp_path / "inner.h5", two_layers())
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file, h5py.File(inner) as source:
        file.attrs["model_config"] = '{"class_name": "Lambda", "code": "import os"}'
        group = file.create_group("model_weights")
        for name in source:
            source.copy(name, group)
        group.attrs["layer_names"] = source.attrs["layer_names"]
        file.create_group("optimizer_weights").create_dataset("momentum", data=np.ones(2))

    _, tensors = read_foreign(path)

    assert sorted(tensors) == ["predictions/bias", "predictions/kernel", "stem_conv_1/kernel"]


def test_a_truncated_keras_file_is_one_line(tmp_path) -> None:
    path = write_h5(tmp_path / "weights.h5", two_layers())
    path.write_bytes(path.read_bytes()[:-1000])

    with pytest.raises(WeightsError, match=r"must be a whole HDF5 file.*get it again") as caught:
        read_foreign(path)

    assert "\n" not in str(caught.value)


def test_a_keras_file_with_damaged_bytes_is_read_or_refused_and_nothing_else(tmp_path) -> None:
    whole = write_h5(tmp_path / "weights.h5", two_layers()).read_bytes()
    path = tmp_path / "damaged.h5"
    numbers = np.random.default_rng(0)
    refused = 0
    for _ in range(50):
        content = bytearray(whole)
        for place in numbers.integers(8, len(whole), size=8):
            content[place] = numbers.integers(256)
        path.write_bytes(content)
        try:
            read_foreign(path)
        except WeightsError:
            refused += 1

    assert refused > 5


@pytest.mark.parametrize("wrong", ["a layer", "a tensor", "a list"])
def test_a_keras_file_with_other_things_in_its_places_is_refused(tmp_path, wrong) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = 7 if wrong == "a list" else [b"dense"]
        if wrong == "a layer":
            file["dense"] = np.ones(3)
            file["dense"].attrs["weight_names"] = [b"kernel:0"]
        else:
            file.create_group("dense").attrs["weight_names"] = [b"kernel:0"]
            file["dense"].create_group("kernel:0")

    with pytest.raises(WeightsError, match="must be a whole HDF5 file"):
        read_foreign(path)


def test_an_hdf5_file_of_something_else_says_what_it_holds(tmp_path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "measurements.h5"
    with h5py.File(path, "w") as file:
        file["temperature"] = np.ones(3)

    with pytest.raises(WeightsError, match=r"layer_names.*temperature"):
        read_foreign(path)


def test_a_keras_file_that_points_into_another_file_is_refused(tmp_path) -> None:
    h5py = pytest.importorskip("h5py")
    other = write_h5(tmp_path / "other.h5", two_layers())
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"predictions"]
        file["predictions"] = h5py.ExternalLink(str(other), "predictions")

    with pytest.raises(WeightsError, match="link to elsewhere"):
        read_foreign(path)


def test_a_keras_file_whose_bytes_lie_in_another_file_is_refused(tmp_path) -> None:
    h5py = pytest.importorskip("h5py")
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(16))
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"dense"]
        group = file.create_group("dense")
        group.attrs["weight_names"] = [b"kernel:0"]
        group.create_dataset("kernel:0", (4,), "f4", external=[(str(secret), 0, 16)])

    with pytest.raises(WeightsError, match="link to elsewhere"):
        read_foreign(path)


@pytest.mark.parametrize("how", ["external", "soft", "broken"])
def test_a_keras_model_whose_weights_are_a_link_is_refused(tmp_path, how) -> None:
    h5py = pytest.importorskip("h5py")
    other = write_h5(tmp_path / "other.h5", two_layers())
    path = write_h5(tmp_path / "weights.h5", two_layers())
    links = {
        "external": h5py.ExternalLink(str(other), "/"),
        "soft": h5py.SoftLink("/predictions"),
        "broken": h5py.ExternalLink("nowhere.h5", "/"),
    }
    with h5py.File(path, "a") as file:
        file["model_weights"] = links[how]

    with pytest.raises(WeightsError, match="model_weights is a link to elsewhere"):
        read_foreign(path)


def test_a_keras_file_with_a_virtual_dataset_is_refused(tmp_path) -> None:
    h5py = pytest.importorskip("h5py")
    other = write_h5(tmp_path / "other.h5", two_layers())
    path = tmp_path / "weights.h5"
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource(str(other), "predictions/predictions/bias:0", (3,))
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"dense"]
        group = file.create_group("dense")
        group.attrs["weight_names"] = [b"kernel:0"]
        group.create_virtual_dataset("kernel:0", layout)

    with pytest.raises(WeightsError, match="link to elsewhere"):
        read_foreign(path)


def test_names_from_a_keras_file_are_shown_escaped(tmp_path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file["a\nb\x1b[31m"] = np.ones(3)

    with pytest.raises(WeightsError) as caught:
        read_foreign(path)

    assert r"holds a\nb\x1b[31m" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tensor_that_is_named_and_missing_is_named(tmp_path) -> None:
    h5py = pytest.importorskip("h5py")
    path = write_h5(tmp_path / "weights.h5", two_layers())
    with h5py.File(path, "a") as file:
        del file["predictions/predictions/bias:0"]

    with pytest.raises(WeightsError, match=r"predictions/bias:0 is missing"):
        read_foreign(path)


def test_a_tensor_of_whole_numbers_is_refused(tmp_path) -> None:
    path = write_h5(tmp_path / "weights.h5", {"dense": {"kernel": np.ones(3, np.int64)}})

    with pytest.raises(WeightsError, match=r"floating-point.*int64"):
        read_foreign(path)


def test_numbers_stored_in_the_other_byte_order_are_turned(tmp_path) -> None:
    path = write_h5(tmp_path / "weights.h5", {"dense": {"kernel": np.array([1.5], ">f4")}})

    _, tensors = read_foreign(path)

    assert tensors["dense/kernel"].dtype == np.dtype(np.float32)
    assert tensors["dense/kernel"].dtype.isnative
    assert tensors["dense/kernel"].item() == 1.5


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch) -> None:
    path = write_h5(tmp_path / "weights.h5", two_layers())
    monkeypatch.setitem(sys.modules, "h5py", None)

    with pytest.raises(WeightsError, match=r'pip install "rsbench\[keras\]"'):
        read_foreign(path)


# --------------------------------------------------------------------------- archives and folders


def test_a_keras_file_in_an_archive_is_found(tmp_path) -> None:
    content = write_h5(tmp_path / "weights.h5", two_layers()).read_bytes()
    path = pack(
        tmp_path / "weights.tar.gz", ("name/weights.h5", content), ("name/._weights.h5", b"mac")
    )

    kind, tensors = read_foreign(path)

    assert (kind, len(tensors)) == ("keras-h5", 3)


def test_what_is_wrong_inside_an_archive_is_told_of_the_archive(tmp_path) -> None:
    content = write_h5(tmp_path / "weights.h5", two_layers()).read_bytes()
    path = pack(tmp_path / "weights.tar.gz", ("weights.h5", content[:-1000]))

    with pytest.raises(WeightsError, match=rf"{path}/weights\.h5 must be a whole HDF5 file"):
        read_foreign(path)


@pytest.mark.parametrize("name", ["../outside.h5", "inside/../../outside.h5", "/outside.h5"])
def test_an_archive_that_would_write_outside_is_refused(tmp_path, name) -> None:
    path = pack(tmp_path / "weights.tar.gz", (name, b"harmless"))

    with pytest.raises(WeightsError, match="written outside"):
        read_foreign(path)

    assert not (tmp_path / "outside.h5").exists()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_an_archive_with_links_or_devices_is_refused(tmp_path, kind) -> None:
    entry = tarfile.TarInfo("model.ckpt.index")
    entry.type, entry.linkname = kind, "/etc/hostname"
    path = pack(tmp_path / "weights.tar.gz", entry)

    with pytest.raises(WeightsError, match=r"model\.ckpt\.index is not a plain file"):
        read_foreign(path)


def test_an_archive_that_unpacks_to_more_than_any_weights_is_left_alone(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("rsbench.weights.foreign.MAX_BYTES", 1000)
    path = pack(tmp_path / "weights.tar.gz", ("a", bytes(600)), ("b", bytes(600)))

    with pytest.raises(WeightsError, match="at most 1,000 bytes"):
        read_foreign(path)


@pytest.mark.parametrize("name", ["a\nb.h5", "\x1b[31m.h5"])
def test_an_archive_with_unprintable_names_is_refused_in_one_line(tmp_path, name) -> None:
    path = pack(tmp_path / "weights.tar.gz", (name, b"harmless"))

    with pytest.raises(WeightsError, match="unprintable characters") as caught:
        read_foreign(path)

    assert str(caught.value).isprintable()


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_an_archive_with_a_name_of_megabytes_is_refused(tmp_path, format) -> None:
    path = tmp_path / "weights.tar.gz"
    with tarfile.open(path, "w:gz", format=format) as tar:
        tar.addfile(tarfile.TarInfo("x" * 2**21))

    with pytest.raises(WeightsError, match="at most 1,048,576 bytes on names"):
        read_foreign(path)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_an_archive_with_an_entry_of_negative_size_is_refused(tmp_path, kind) -> None:
    entry = tarfile.TarInfo("weights.h5")
    entry.type, entry.size = kind, -(2**20)
    path = tmp_path / "weights.tar"
    path.write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + bytes(4096))

    with pytest.raises(WeightsError, match="must be a whole tar archive"):
        read_foreign(path)


def test_an_archive_of_a_sparse_file_is_refused(tmp_path) -> None:
    entry = tarfile.TarInfo("weights.h5")
    entry.type = tarfile.GNUTYPE_SPARSE
    path = pack(tmp_path / "weights.tar.gz", entry)

    with pytest.raises(WeightsError, match="sparse file"):
        read_foreign(path)


def test_an_archive_of_more_entries_than_any_is_left_alone(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("rsbench.weights.foreign.MAX_ENTRIES", 2)
    path = pack(tmp_path / "weights.tar.gz", ("a", b""), ("b", b""), ("c", b""))

    with pytest.raises(WeightsError, match="at most 2 entries"):
        read_foreign(path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_from_a_damaged_archive(tmp_path, monkeypatch, number) -> None:
    path = pack(tmp_path / "weights.tar.gz", ("weights.h5", b"harmless"))

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(number, "no room")

    monkeypatch.setattr(tarfile.TarFile, "makefile", full)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    with pytest.raises(DiskError, match=rf"^{tmp_path} must have room to unpack .*TMPDIR"):
        read_foreign(path)


@pytest.mark.parametrize("kept", [0.5, 0.98])
def test_a_truncated_archive_is_one_line(tmp_path, kept) -> None:
    noise = np.random.default_rng(0).bytes(100_000)
    path = pack(tmp_path / "weights.tar.gz", ("weights.h5", noise))
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])

    with pytest.raises(WeightsError, match="must be a whole tar archive") as caught:
        read_foreign(path)

    assert "\n" not in str(caught.value)


def test_an_archive_without_weights_says_what_it_holds(tmp_path) -> None:
    path = pack(tmp_path / "weights.tar.gz", ("readme.txt", b"hello"))

    with pytest.raises(WeightsError, match=r"one Keras \.h5 file, and holds readme\.txt"):
        read_foreign(path)


def test_a_folder_with_several_checkpoints_asks_for_one(tmp_path) -> None:
    for name in ("ckpt-1.index", "ckpt-2.index"):
        (tmp_path / name).touch()

    with pytest.raises(WeightsError, match=r"holds ckpt-1, ckpt-2: name one of them"):
        read_foreign(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04K\x01."])
def test_a_file_of_another_kind_says_what_it_must_be(tmp_path, content) -> None:
    path = tmp_path / "weights"
    path.write_bytes(content)

    with pytest.raises(WeightsError, match=r"must be a Keras \.h5 file or a TensorFlow checkpoint"):
        read_foreign(path)


def test_a_path_with_nothing_there_is_named(tmp_path) -> None:
    with pytest.raises(WeightsError, match=r"no-such-file .* does not exist"):
        read_foreign(tmp_path / "no-such-file")


def test_a_checkpoint_without_its_data_says_which_file_is_missing(tmp_path) -> None:
    (tmp_path / "model.ckpt.index").touch()

    with pytest.raises(WeightsError, match=r"1 file model\.ckpt\.data-.*get all its files"):
        read_foreign(tmp_path / "model.ckpt")


def test_a_checkpoint_with_one_of_two_shards_says_so(tmp_path) -> None:
    for name in ("model.ckpt.index", "model.ckpt.data-00000-of-00002"):
        (tmp_path / name).touch()

    with pytest.raises(WeightsError, match=r"2 files model\.ckpt\.data-"):
        read_foreign(tmp_path)


def test_without_tensorflow_the_extra_is_named(tmp_path, monkeypatch) -> None:
    for name in ("model.ckpt.index", "model.ckpt.data-00000-of-00001"):
        (tmp_path / name).touch()
    monkeypatch.setitem(sys.modules, "tensorflow", None)

    with pytest.raises(WeightsError, match=r'pip install "rsbench\[tensorflow\]"'):
        read_foreign(tmp_path)


# ------------------------------------------------------------- which tensors of a checkpoint count


def choose(kind, keys, *, prefix="model.ckpt"):
    notes: list[str] = []
    return choose_published(kind, keys, Path(prefix), notes.append), notes


def test_of_a_tpu_checkpoint_the_averages_count() -> None:
    # Names as tensorflow/tpu's resnet_main.py has its optimizer and its averages write them.
    names = ["conv2d/kernel", "batch_normalization/gamma", "batch_normalization/moving_mean"]
    keys = [
        *names,
        *(f"{name}/ExponentialMovingAverage" for name in names),
        *(f"{name}/Momentum" for name in names[:2]),
        "global_step",
    ]

    chosen, notes = choose("tf1", keys)

    assert chosen == {name: f"{name}/ExponentialMovingAverage" for name in sorted(names)}
    assert notes == ["model.ckpt: moving averages were taken, of weights and BatchNorm statistics"]


def test_of_a_garden_checkpoint_the_averages_count() -> None:
    # Keys as the trainer of tf-models-official 2.20 writes them; `make parity` has it do so.
    names = ["backbone/layer_with_weights-0/kernel", "backbone/layer_with_weights-1/moving_mean"]
    keys = [
        *(f"{name}{VALUE}" for name in names),
        *(f"{name}{AVERAGE}{VALUE}" for name in names),
        f"{names[0]}{MOMENTUM}{VALUE}",
        *(
            f"{name}{VALUE}"
            for name in ("optimizer/ema_base_optimizer/decay", "global_step", "save_counter")
        ),
    ]

    chosen, _ = choose("tf2", keys)

    assert chosen == {name: f"{name}{AVERAGE}{VALUE}" for name in names}


def test_a_checkpoint_without_averages_gives_its_values_and_needs_no_note() -> None:
    chosen, notes = choose("tf1", ["conv2d/kernel", "conv2d/kernel/Momentum", "global_step"])

    assert (chosen, notes) == ({"conv2d/kernel": "conv2d/kernel"}, [])


def test_a_best_checkpoint_has_its_averages_in_the_place_of_the_values() -> None:
    # base_trainer.py: "so that average weights used for eval are exported".
    name = "backbone/layer_with_weights-0/kernel"

    chosen, notes = choose(
        "tf2", [f"{name}{VALUE}", f"{name}{AVERAGE}{VALUE}"], prefix="best_ckpt-7"
    )

    assert chosen == {name: f"{name}{VALUE}"}
    assert "swapped in" in notes[0]


def test_averaged_weights_with_no_averaged_statistics_at_all_are_taken_and_noted() -> None:
    chosen, notes = choose(
        "tf1", ["a/kernel", "a/kernel/ExponentialMovingAverage", "b/moving_mean"]
    )

    assert chosen == {
        "a/kernel": "a/kernel/ExponentialMovingAverage",
        "b/moving_mean": "b/moving_mean",
    }
    assert "BatchNorm statistics of the last step" in notes[0]


@pytest.mark.parametrize(
    "keys",
    [
        ["a/kernel", "a/kernel/ExponentialMovingAverage", "b/kernel"],
        [
            "a/moving_mean",
            "a/moving_mean/ExponentialMovingAverage",
            "b/moving_mean",
            "b/kernel/ExponentialMovingAverage",
            "b/kernel",
        ],
    ],
    ids=["weights", "statistics"],
)
def test_a_mixture_of_averages_and_plain_values_is_refused(keys) -> None:
    with pytest.raises(WeightsError, match=r"1 of \d have none \(b/\w+\)"):
        choose("tf1", keys)


# ----------------------------------------------------------- with tensorflow: run by `make parity`


@pytest.fixture
def tensorflow():
    return pytest.importorskip(
        "tensorflow", reason="tensorflow is not installed; `make parity` runs this"
    )


@pytest.fixture
def named_checkpoint(tensorflow, tmp_path) -> Path:
    """A TensorFlow 1 checkpoint, without the file `checkpoint`, as most of Google's are."""
    v1 = tensorflow.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        kernel = v1.get_variable("conv2d/kernel", initializer=np.ones((2, 3), np.float32))
        average = v1.get_variable(
            "conv2d/kernel/ExponentialMovingAverage", initializer=np.full((2, 3), 2, np.float32)
        )
        v1.train.get_or_create_global_step()
        session.run(v1.global_variables_initializer())
        assert kernel.shape == average.shape
        prefix = tmp_path / "resnet" / "model.ckpt"
        prefix.parent.mkdir()
        v1.train.Saver().save(session, str(prefix), write_state=False)
    return prefix


@pytest.mark.parity
def test_a_named_checkpoint_is_read_by_any_of_its_paths(named_checkpoint) -> None:
    folder = named_checkpoint.parent
    for path in (folder, folder.parent, named_checkpoint, *folder.glob("model.ckpt.[id]*")):
        kind, tensors = read_foreign(path)

        assert kind == "tf1"
        assert list(tensors) == ["conv2d/kernel"]
        np.testing.assert_array_equal(tensors["conv2d/kernel"], np.full((2, 3), 2))


@pytest.mark.parity
def test_a_checkpoint_is_read_from_an_archive(named_checkpoint, tmp_path) -> None:
    archive = tmp_path / "resnet.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(named_checkpoint.parent, arcname="resnet")

    kind, tensors = read_foreign(archive)

    assert kind == "tf1"
    np.testing.assert_array_equal(tensors["conv2d/kernel"], np.full((2, 3), 2))


@pytest.mark.parity
@pytest.mark.parametrize("part", ["index", "data-00000-of-00001"])
def test_a_truncated_checkpoint_is_one_line(named_checkpoint, part) -> None:
    path = named_checkpoint.with_name(f"model.ckpt.{part}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    with pytest.raises(WeightsError, match="must be a whole TensorFlow checkpoint") as caught:
        read_foreign(named_checkpoint)

    assert "\n" not in str(caught.value)


@pytest.mark.parity
def test_the_latest_of_several_checkpoints_is_read(tensorflow, tmp_path) -> None:
    variable = tensorflow.Variable(1.0)
    checkpoint = tensorflow.train.Checkpoint(value=variable)
    for number in (1.0, 2.0):
        variable.assign(number)
        checkpoint.save(str(tmp_path / "ckpt"))

    kind, tensors = read_foreign(tmp_path)

    assert kind == "tf2"
    assert {name: value.item() for name, value in tensors.items()} == {"value": 2.0}


@pytest.mark.parity
def test_bfloat16_becomes_float32(tensorflow, tmp_path) -> None:
    value = tensorflow.Variable(tensorflow.constant([1.5], tensorflow.bfloat16))
    tensorflow.train.Checkpoint(value=value).write(str(tmp_path / "model.ckpt"))

    _, tensors = read_foreign(tmp_path)

    assert (tensors["value"].dtype, tensors["value"].item()) == (np.float32, 1.5)
