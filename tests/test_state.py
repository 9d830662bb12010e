"""Files of weights, whole and broken, friendly and hostile, and the digests of networks."""

from __future__ import annotations

import copy
import zipfile
from pathlib import Path

import pytest
import torch
from rsbench_backbones.resnet_rs import BACKBONES
from rsbench_backbones.tiny import BACKBONES as TINY
from safetensors.torch import save_file
from torch import nn

from rsbench.errors import WeightsError
from rsbench.weights.state import (
    load_into,
    load_state,
    maps_digest,
    numeric_digest,
    read_state,
    state_digest,
)

TINY_2D, TINY_3D = TINY
RESNET_RS = {backbone.name: backbone for backbone in BACKBONES}


def network(seed: int = 0, num_classes: int | None = 4) -> nn.Module:
    torch.manual_seed(seed)
    return TINY_2D.build(num_classes)


def same(first, second) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def one_line(error: pytest.ExceptionInfo[WeightsError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


class Bomb:
    """Runs code when a plain unpickler opens it: it makes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


class Eval:
    def __init__(self, trace: Path) -> None:
        self.code = f"open({str(trace)!r}, 'w').close()"

    def __reduce__(self):
        return (eval, (self.code,))


# ------------------------------------------------------------------------------------ whole files


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_torch_file_gives_back_what_was_saved(tmp_path, legacy):
    state = network().state_dict()
    torch.save(state, tmp_path / "net.pth", _use_new_zipfile_serialization=not legacy)
    assert same(load_state(tmp_path / "net.pth"), state)


@pytest.mark.parametrize("name", ["net.safetensors", "net.bin"])
def test_a_safetensors_file_is_known_by_its_content(tmp_path, name):
    state = network().state_dict()
    save_file(state, tmp_path / name)
    assert same(load_state(tmp_path / name), state)


@pytest.mark.parametrize(
    "wrapper", ["state_dict", "model", "model_state_dict", "model_state", "state_dict_ema"]
)
def test_a_checkpoint_is_unwrapped(tmp_path, wrapper):
    state = network().state_dict()
    torch.save({"epoch": 3, wrapper: state, "optimizer": {"lr": 0.1}}, tmp_path / "last.pth")
    assert same(load_state(tmp_path / "last.pth"), state)


def test_of_two_the_averaged_weights_are_taken(tmp_path):
    plain, averaged = network(0).state_dict(), network(1).state_dict()
    torch.save({"model": plain, "model_ema": averaged}, tmp_path / "last.pth")
    assert same(load_state(tmp_path / "last.pth"), averaged)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_prefixes_of_training_are_taken_off(tmp_path, prefix):
    state = network().state_dict()
    torch.save({prefix + key: value for key, value in state.items()}, tmp_path / "net.pth")
    assert same(load_state(tmp_path / "net.pth"), state)


def test_a_prefix_that_only_some_names_have_belongs_to_the_network(tmp_path):
    state = {"module.a": torch.zeros(1), "b": torch.ones(1)}
    torch.save(state, tmp_path / "net.pth")
    assert load_state(tmp_path / "net.pth").keys() == state.keys()


# --------------------------------------------------------------------- missing, broken and hostile


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsError) as error:
        load_state(tmp_path / "none.pth")
    assert "none.pth" in one_line(error)
    assert "does not exist" in str(error.value)


@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_a_truncated_file_is_called_damaged(tmp_path, kind, part):
    path = tmp_path / ("net.safetensors" if kind == "safetensors" else "net.pth")
    if kind == "safetensors":
        save_file(network().state_dict(), path)
    else:
        torch.save(network().state_dict(), path, _use_new_zipfile_serialization=kind == "zip")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(WeightsError) as error:
        load_state(path)
    message = one_line(error)
    assert str(path) in message
    assert "cut short or damaged" in message


def test_a_file_of_noise_is_refused(tmp_path):
    (tmp_path / "noise.pth").write_bytes(bytes(range(256)) * 40)
    with pytest.raises(WeightsError):
        load_state(tmp_path / "noise.pth")


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("bomb", [Bomb, Eval])
def test_a_pickle_with_code_is_refused_and_the_code_not_run(tmp_path, bomb, legacy):
    trace, path = tmp_path / "ran", tmp_path / "net.pth"
    content = {"state_dict": network().state_dict(), "extra": bomb(trace)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(WeightsError) as error:
        load_state(path)
    message = one_line(error)
    assert "could run code" in message
    assert "safetensors" in message
    assert not trace.exists()
    # The trap is a real one: plain unpickling springs it.
    torch.load(path, weights_only=False)
    assert trace.exists()


def test_a_whole_pickled_network_is_refused_by_name(tmp_path):
    torch.save(nn.Sequential(nn.Linear(2, 2)), tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"torch\.nn\.modules\.container\.Sequential"):
        load_state(tmp_path / "net.pth")


@pytest.mark.parametrize("content", [{"epoch": 3, "lr": 0.1}, {}, torch.zeros(3), [1, 2]])
def test_a_file_without_named_tensors_says_what_it_holds(tmp_path, content):
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"holds (epoch, lr|nothing|a Tensor|a list)"):
        load_state(tmp_path / "net.pth")


def test_a_keras_file_says_what_to_do(tmp_path):
    (tmp_path / "net.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(WeightsError, match="HDF5"):
        load_state(tmp_path / "net.h5")


# -------------------------------------------------------------------------------- into the network


def test_a_state_of_the_same_network_loads_without_notes():
    source, target = network(0), network(1)
    assert load_into(target, source.state_dict(), name="tiny_2d") == []
    assert same(target.state_dict(), source.state_dict())


def test_the_timm_names_of_resnet_rs_load_as_they_are():
    # timm's names, from `timm.create_model("resnetrs50").state_dict()`.
    names = {"conv1.0.weight", "maxpool.1.running_var", "layer4.2.se.fc2.bias", "fc.bias"}
    with torch.device("meta"):
        module = RESNET_RS["resnet_rs_50"].build(1000)
    assert names <= module.state_dict().keys()


def test_half_precision_is_noted():
    state = {
        k: v.half() if v.is_floating_point() else v for k, v in network(0).state_dict().items()
    }
    target = network(1)
    assert load_into(target, state, name="tiny_2d") == [
        "weights stored as float16, loaded as float32"
    ]
    assert next(target.parameters()).dtype == torch.float32


def test_missing_counters_of_batch_norm_are_no_fault():
    state = {k: v for k, v in network(0).state_dict().items() if "num_batches" not in k}
    assert load_into(network(1), state, name="tiny_2d") == []


def test_a_checkpoint_of_another_depth_is_explained():
    with torch.device("meta"):
        deep = RESNET_RS["resnet_rs_101"].build(1000).state_dict()
        module = RESNET_RS["resnet_rs_50"].build(1000)
    with pytest.raises(WeightsError) as error:
        load_into(module, deep, name="resnet_rs_50")
    message = one_line(error)
    # 17 more blocks in c4, each with three convolutions, three BatchNorms of four (without the
    # counters) and two dense layers of two: 17 * 19.
    assert "323 of the file's" in message
    assert "layer3.6.conv1.weight" in message
    assert "resnet_rs_50" in message
    assert "missing" not in message


def test_a_shallower_checkpoint_names_what_is_missing():
    with torch.device("meta"):
        shallow = RESNET_RS["resnet_rs_50"].build(1000).state_dict()
        module = RESNET_RS["resnet_rs_101"].build(1000)
    with pytest.raises(
        WeightsError, match=r"323 of the network's \d+ names are missing .*layer3\.6\.conv1"
    ):
        load_into(module, shallow, name="resnet_rs_101")


def test_2d_weights_in_a_3d_network_show_two_shapes():
    torch.manual_seed(0)
    with pytest.raises(WeightsError, match=r"\(8, 3, 3, 3, 3\), in the file \(8, 3, 3, 3\)"):
        load_into(TINY_3D.build(4), network().state_dict(), name="tiny_3d")


def test_a_network_is_unchanged_when_nothing_fits():
    target = network(1)
    before = state_digest(target)
    state = network(0, num_classes=7).state_dict()
    with pytest.raises(WeightsError):
        load_into(target, state, name="tiny_2d")
    assert state_digest(target) == before


def test_a_head_of_another_width_is_named():
    with pytest.raises(WeightsError) as error:
        load_into(network(1), network(0, num_classes=7).state_dict(), name="tiny_2d")
    message = one_line(error)
    assert "head.bias in the file is for 7 classes and in the network for 4" in message


@pytest.mark.parametrize(
    ("built", "stored", "advice"),
    [
        (None, 7, "if head is the classifier, build the network with that many classes"),
        (4, None, "if head is the classifier, build the network without one"),
    ],
)
def test_a_head_on_one_side_only_is_explained(built, stored, advice):
    with pytest.raises(WeightsError, match=advice):
        load_into(network(1, built), network(0, stored).state_dict(), name="tiny_2d")


def test_values_that_are_not_finite_are_refused():
    state = network(0).state_dict()
    state["stages.1.1.running_var"][3] = float("nan")
    with pytest.raises(WeightsError, match=r"stages\.1\.1\.running_var holds NaN"):
        load_into(network(1), state, name="tiny_2d")


# ----------------------------------------------------------------------------------------- digests


def test_the_state_digest_changes_with_one_bit_and_with_a_name():
    module, other = network(0), network(0)
    assert state_digest(module) == state_digest(other)
    with torch.no_grad():
        other.head.bias[0] = torch.nextafter(other.head.bias[0], torch.tensor(9.0))
    assert state_digest(module) != state_digest(other)
    assert state_digest(module) != state_digest(nn.ModuleDict({"inner": module}))


def test_the_state_digest_sees_buffers_and_reads_bfloat16():
    module, other = network(0), network(0)
    other.stages[0][1].running_mean += 1
    assert state_digest(module) != state_digest(other)
    assert state_digest(module.bfloat16()) == state_digest(network(0).bfloat16())


def shape_for(backbone) -> tuple[int, ...]:
    return (1, 3, 8, 32, 32) if backbone.modality == "video" else (1, 3, 32, 32)


def test_the_numeric_digest_does_not_depend_on_threads_or_layout():
    torch.manual_seed(0)
    module = RESNET_RS["resnet_rs_50"].build(None)
    # Branches that end in a zero scale would hide what is in them.
    for name, value in module.state_dict().items():
        if name.endswith("bn3.weight"):
            value.fill_(1.0)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = numeric_digest(module, (1, 3, 64, 64))
        torch.set_num_threads(2)
        two = numeric_digest(module.to(memory_format=torch.channels_last), (1, 3, 64, 64))
    finally:
        torch.set_num_threads(threads)
    assert one == two


def test_the_numeric_digest_survives_a_noise_that_only_reorders_sums():
    # A permutation of inner channels computes the same function with sums in another order.
    module = network(0)
    twin = copy.deepcopy(module)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    convolution, norm = twin.stages[1][0], twin.stages[1][1]
    with torch.no_grad():
        for value in (convolution.weight, norm.weight, norm.bias, norm.running_mean):
            value.copy_(value[order])
        twin.stages[2][0].weight.copy_(twin.stages[2][0].weight[:, order])
    shape = shape_for(TINY_2D)
    assert state_digest(module) != state_digest(twin)
    assert numeric_digest(module, shape) == numeric_digest(twin, shape)


@pytest.mark.parametrize("backbone", TINY, ids=lambda backbone: backbone.name)
def test_the_numeric_digest_changes_with_a_weight_and_with_the_code(backbone):
    torch.manual_seed(0)
    module = backbone.build(None)
    before = numeric_digest(module, shape_for(backbone))
    other = copy.deepcopy(module)
    other.stages[2][1].eps = 1e-3
    assert numeric_digest(other, shape_for(backbone)) != before
    with torch.no_grad():
        module.stages[0][0].weight[0, 0] += 0.01
    assert numeric_digest(module, shape_for(backbone)) != before


def test_the_numeric_digest_sees_a_change_of_scale():
    module = network(0, num_classes=None)
    twin = copy.deepcopy(module)
    with torch.no_grad():
        twin.stages[2][1].weight *= 2
        twin.stages[2][1].bias *= 2
    assert numeric_digest(module, (1, 3, 32, 32)) != numeric_digest(twin, (1, 3, 32, 32))


def test_the_numeric_digest_leaves_the_network_as_it_was():
    module = network(0).train()
    before = state_digest(module)
    numeric_digest(module, (1, 3, 32, 32))
    assert module.training
    assert state_digest(module) == before
    assert next(module.parameters()).dtype == torch.float32
    assert numeric_digest(module, (1, 3, 32, 32)) == numeric_digest(module.eval(), (1, 3, 32, 32))


class SinglePrecision(nn.Module):
    """A network that refuses float64."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(12, 40)

    def forward(self, batch):
        return self.layer(batch.float().flatten(1))


def test_a_network_that_refuses_float64_still_has_a_numeric_digest():
    module = SinglePrecision()
    before = numeric_digest(module, (1, 3, 2, 2))
    assert before == numeric_digest(module, (1, 3, 2, 2))
    with torch.no_grad():
        module.layer.weight[0] += 0.5
    assert numeric_digest(module, (1, 3, 2, 2)) != before


def test_a_network_that_can_not_take_the_input_says_so():
    with pytest.raises(WeightsError, match=r"shape \(1, 5, 8, 8\)"):
        numeric_digest(network(0), (1, 5, 8, 8))


def test_outputs_that_are_not_finite_are_refused():
    module = network(0, num_classes=None)
    with torch.no_grad():
        module.stages[2][1].bias[:] = float("inf")
    with pytest.raises(WeightsError, match="NaN or infinity"):
        numeric_digest(module, (1, 3, 32, 32))


class Mapped(nn.Module):
    """A network of one size of features, whose stage maps are what it is told."""

    def __init__(self, change=lambda maps: maps) -> None:
        super().__init__()
        self.inside, self.change = network(0, num_classes=None), change

    def forward(self, batch):
        return self.inside(batch)

    def stage_maps(self, batch):
        return self.change(self.inside.stage_maps(batch))


def _last_changed(change):
    """Change the last map alone."""
    return lambda maps: {**maps, list(maps)[-1]: change(list(maps.values())[-1])}


@pytest.mark.parametrize(
    "change",
    [
        _last_changed(lambda each: each * 1.01),
        _last_changed(lambda each: each + 1e-2 * each.abs().max()),
        _last_changed(lambda each: each.flip(1)),
        _last_changed(lambda each: each.transpose(2, 3)),
        _last_changed(lambda each: each.flatten(2)),
        _last_changed(lambda each: each.float() * 2),
        lambda maps: dict(list(maps.items())[:-1]),
        lambda maps: dict(reversed(maps.items())),
        lambda maps: {f"other {name}": each for name, each in maps.items()},
    ],
    ids=["scaled", "shifted", "channels", "places", "shape", "float32", "fewer", "order", "names"],
)
def test_the_digest_of_maps_sees_what_the_features_do_not_show(change):
    shape = (1, 3, 32, 32)
    plain, changed = Mapped(), Mapped(change)

    assert numeric_digest(plain, shape) == numeric_digest(changed, shape)
    assert maps_digest(plain, shape) == maps_digest(Mapped(), shape)
    assert maps_digest(plain, shape) != maps_digest(changed, shape)


def test_the_digest_of_maps_does_not_depend_on_threads_layout_or_mode():
    module = network(0, num_classes=None)
    before, threads = state_digest(module), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = maps_digest(module, (1, 3, 64, 64))
        torch.set_num_threads(2)
        two = maps_digest(module.to(memory_format=torch.channels_last).train(), (1, 3, 64, 64))
    finally:
        torch.set_num_threads(threads)

    assert one == two
    assert module.training
    assert state_digest(module) == before


def test_maps_of_a_network_that_refuses_float64_still_have_a_digest():
    module = SinglePrecision()
    module.stage_maps = lambda batch: {"layer": SinglePrecision().layer(batch.float().flatten(1))}
    double = SinglePrecision()
    double.stage_maps = lambda batch: {"layer": 2 * SinglePrecision().layer(batch.flatten(1))}

    assert maps_digest(module, (1, 3, 2, 2)) == maps_digest(module, (1, 3, 2, 2))
    assert maps_digest(module, (1, 3, 2, 2)) != maps_digest(double, (1, 3, 2, 2))


def test_a_network_without_maps_says_so():
    with pytest.raises(WeightsError, match=r"must give stage maps .*\(1, 3, 2, 2\).*stage_maps"):
        maps_digest(SinglePrecision(), (1, 3, 2, 2))


# ------------------------------------------------------------------------- kinds of numbers


@pytest.mark.parametrize(
    "tensor",
    [
        torch.empty(3, device="meta"),
        torch.zeros(3).to(torch.float8_e4m3fn),
        torch.eye(3).to_sparse(),
        torch.zeros(3, dtype=torch.complex64),
    ],
    ids=["meta", "float8", "sparse", "complex"],
)
@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")
def test_a_file_of_other_than_plain_dense_tensors_is_refused(tmp_path, tensor):
    torch.save({"stages.0.0.weight": tensor}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"must hold dense tensors .*stages\.0\.0\.weight is"):
        load_state(tmp_path / "net.pth")


@pytest.mark.parametrize(
    "kind", [torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn], ids=str
)
def test_numbers_that_can_not_stand_for_the_network_s_are_refused(kind):
    target, state = network(1), network(0).state_dict()
    before = state_digest(target)
    state["head.weight"] = state["head.weight"].to(kind)
    with pytest.raises(WeightsError, match=r"head\.weight must be a dense tensor of float16.* is "):
        load_into(target, state, name="tiny_2d")
    assert state_digest(target) == before


def test_numbers_too_large_for_the_network_are_refused():
    state = network(0).state_dict()
    state["head.weight"] = state["head.weight"].double()
    state["head.weight"][0, 0] = 1e300
    with pytest.raises(WeightsError, match=r"head\.weight holds NaN or infinity"):
        load_into(network(1), state, name="tiny_2d")


# ------------------------------------------------------------------------- names from a file


def test_names_from_a_file_are_shown_escaped_and_short():
    state = network(0).state_dict() | {"a\n\x1b[31mb": torch.zeros(1), "c" * 9999: torch.zeros(1)}
    with pytest.raises(WeightsError) as error:
        load_into(network(1), state, name="tiny_2d")
    message = one_line(error)
    assert "a\\n\\x1b[31mb" in message
    assert "\x1b" not in message
    assert len(message) < 500


def test_what_a_checkpoint_holds_is_shown_escaped_and_short(tmp_path):
    torch.save({"a\nb\x1b": 1, (1, 2): 2, "c" * 9999: 3}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"holds a\\nb\\x1b, a key of type tuple") as error:
        load_state(tmp_path / "net.pth")
    assert len(one_line(error)) < 600


def test_a_number_of_the_network_itself_is_no_classifier():
    state = network(0).state_dict() | {"mark": torch.ones(())}
    with pytest.raises(WeightsError, match=r"\(mark\): name the backbone"):
        load_into(network(1), state, name="tiny_2d")


# ------------------------------------------------------------------------- hostile containers


@pytest.mark.parametrize("opened", ["[", '{"a":'])
def test_a_deep_safetensors_header_is_one_line(tmp_path, opened):
    header = b'{"a":' + opened.encode() * 100_000
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(WeightsError, match="must be a whole safetensors file") as error:
        load_state(tmp_path / "a.safetensors")
    one_line(error)


def test_a_torch_file_that_swells_is_refused(tmp_path):
    torch.save({"a": torch.zeros(1_000_000)}, tmp_path / "plain.pth")
    packed = tmp_path / "packed.pth"
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as deflated,
    ):
        for entry in plain.infolist():
            deflated.writestr(entry.filename, plain.read(entry))
    assert packed.stat().st_size < 100_000
    with pytest.raises(WeightsError, match=r"uncompressed, .* that unpack to 4,0"):
        load_state(packed)


@pytest.mark.filterwarnings("error:.*:UserWarning")
def test_torchscript_is_called_code(tmp_path):
    module = "archive/code/__torch__.py", "archive/constants.pkl", "archive/data.pkl"
    with zipfile.ZipFile(tmp_path / "net.pt", "w") as archive:
        for name in module:
            archive.writestr(name, b"")
    with pytest.raises(WeightsError, match=r"holds code \(TorchScript\).*save state_dict\(\)"):
        load_state(tmp_path / "net.pt")


def test_a_checkpoint_that_holds_itself_ends(tmp_path):
    content: dict = {}
    content["model"] = content
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match="holds model"):
        load_state(tmp_path / "net.pth")


# ------------------------------------------------------------------------- moving averages


@pytest.mark.parametrize("key", ["ema", "ema_state_dict", "params_ema", "ema_model"])
def test_a_moving_average_is_taken_and_noted(tmp_path, key):
    plain, averaged = network(0).state_dict(), network(1).state_dict()
    torch.save({"state_dict": plain, key: averaged}, tmp_path / "last.pth")
    found = read_state(tmp_path / "last.pth")
    assert same(found.tensors, averaged)
    assert found.notes == (f"moving average taken ({key})",)


@pytest.mark.parametrize("key", ["netEMA", "ema_net", "ema"])
def test_what_may_be_an_average_and_is_left_is_noted(tmp_path, key):
    plain = network(0).state_dict()
    content = {"state_dict": plain, key: {"shadow": [torch.ones(1)]}, "ema_decay": 0.9}
    torch.save({**content, "schema": {"a": 1}}, tmp_path / "last.pth")
    found = read_state(tmp_path / "last.pth")
    assert same(found.tensors, plain)
    assert found.notes == (f"plain weights taken; {key} left",)


def test_plain_weights_alone_need_no_note(tmp_path):
    torch.save({"state_dict": network().state_dict()}, tmp_path / "last.pth")
    assert read_state(tmp_path / "last.pth").notes == ()
