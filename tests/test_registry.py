"""Names to plug-ins: one file a look-up, other packages' entry points, file paths, near misses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rsbench.digests import digest_file
from rsbench.errors import DuplicateNameError, PluginError, RsbenchError, UnknownNameError
from rsbench.registry import (
    Kind,
    everything,
    find_backbone,
    find_protocol,
    find_task,
    is_plain_name,
    split_sample,
)
from rsbench.specs import Backbone, Protocol, Task
from rsbench.templates import plugin_text

NETWORK = """
import torch

def build():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
"""


class Packages:
    """Installs made-up packages: a module, and the dist-info folder that pip would leave."""

    def __init__(self, site: Path) -> None:
        self.site = site

    def install(self, package: str, *, kind: Kind, name: str, source: str, value: str = "") -> None:
        module = package.replace("-", "_")
        (self.site / f"{module}.py").write_text(source)
        folder = self.site / f"{module}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        reference = value or f"{module}:{kind.upper()}"
        (folder / "entry_points.txt").write_text(f"[rsbench.{kind}s]\n{name} = {reference}\n")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Packages]:
    site = tmp_path / "site-packages"
    site.mkdir()
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(site))
    yield Packages(site)
    for name in set(sys.modules) - before:
        if str(site) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("look_up", "package", "own"),
    [
        ("find_task('folder')", "rsbench_tasks", "folder"),
        ("find_backbone('tiny_2d')", "rsbench_backbones", "tiny"),
        ("find_backbone('resnet_rs_50@160')", "rsbench_backbones", "resnet_rs"),
        ("find_protocol('linear_probe')", "rsbench.protocols", "linear_probe"),
    ],
)
def test_a_look_up_imports_one_plug_in_file(look_up: str, package: str, own: str) -> None:
    program = (
        "import json, sys\n"
        "from rsbench import registry\n"
        f"registry.{look_up}\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    imported = json.loads(done.stdout)

    prefixes = ("rsbench_tasks.", "rsbench_backbones.", "rsbench.protocols.")
    plug_ins = [name for name in imported if name.startswith(prefixes)]
    public = [name for name in plug_ins if not name.rpartition(".")[2].startswith("_")]
    assert public == [f"{package}.{own}"]
    assert "torch" not in imported


def test_a_name_is_found_with_its_origin() -> None:
    task, backbone = find_task("kinetics400"), find_backbone("tiny_2d")
    protocol = find_protocol("linear_probe")

    assert (task.spec.name, task.origin) == ("kinetics400", "rsbench_tasks.kinetics400")
    assert (backbone.spec.name, backbone.origin) == ("tiny_2d", "rsbench_backbones.tiny")
    assert (protocol.spec.name, protocol.origin) == (
        "linear_probe",
        "rsbench.protocols.linear_probe",
    )
    assert task.source_sha256 is backbone.source_sha256 is protocol.source_sha256 is None


def test_a_task_on_own_data_fits_itself_to_its_root() -> None:
    assert find_task("folder").for_root is not None
    assert find_task("kinetics400").for_root is None


@pytest.mark.parametrize(
    ("find", "name", "nearest"),
    [
        (find_task, "kinetic400", "kinetics400"),
        (find_task, "Kinetics-400", "kinetics400"),
        (find_backbone, "resnet_rs_51", "resnet_rs_50"),
        (find_backbone, "tiny2d", "tiny_2d"),
        (find_protocol, "linear-probe", "linear_probe"),
    ],
)
def test_a_near_miss_is_named(find, name: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        find(name)

    message = str(caught.value)
    assert repr(name) in message
    assert f"Did you mean {nearest}" in message
    assert "\n" not in message


def test_a_name_like_no_other_gets_the_way_to_the_list_and_no_guess() -> None:
    with pytest.raises(UnknownNameError, match="`rsbench ls tasks` lists all") as caught:
        find_task("qqqqqqqqqq")

    assert "Did you mean" not in str(caught.value)


def test_a_private_module_is_no_plug_in() -> None:
    with pytest.raises(UnknownNameError):
        find_task("_own")

    found, _ = everything("task")
    assert not [each.spec.name for each in found if each.spec.name.startswith("_")]


@pytest.mark.parametrize(
    ("kind", "noun"), [("task", Task), ("backbone", Backbone), ("protocol", Protocol)]
)
def test_everything_is_sorted_by_name_and_found_again_by_it(kind: Kind, noun: type) -> None:
    found, broken = everything(kind)
    find = {"task": find_task, "backbone": find_backbone, "protocol": find_protocol}[kind]

    names = [each.spec.name for each in found]
    assert names == sorted(names) and len(set(names)) == len(names) > 0
    assert not broken
    for each in found:
        assert isinstance(each.spec, noun)
        assert find(each.spec.name).spec is each.spec


def test_the_sample_suffix_is_cut_off() -> None:
    assert split_sample("kinetics400@sample") == ("kinetics400", True)
    assert split_sample("./mine.py@sample") == ("./mine.py", True)
    assert split_sample("kinetics400") == ("kinetics400", False)
    assert split_sample("sample") == ("sample", False)


@pytest.mark.parametrize(
    ("name", "is_plain"),
    [
        ("resnet_rs_50+blocks=1-1-1-1+width=0.25@160", True),
        ("timm/vit_base_patch16_224.augreg_in21k", True),
        ("torchvision/mvit_v2_s", True),
        ("kinetics400@sample", True),
        ("net.pyramid", True),
        ("./mine.py", False),
        ("mine.py:build", False),
        ("/a/mine.py@32", False),
        ("./a+b/mine.py+width=0.5@32", False),
        ("./mine.py@sample", False),
        ("mine.py\n", False),
        ("one,two", False),
        ("--help", False),
    ],
)
def test_a_name_that_a_record_may_give_is_no_file(name: str, is_plain: bool) -> None:
    assert is_plain_name(name) == is_plain


def test_pixels_change_the_input_and_the_name_and_nothing_else() -> None:
    plain, sized = find_backbone("resnet_rs_50").spec, find_backbone("resnet_rs_50@96")

    assert sized.pixels == 96
    assert sized.spec.name == "resnet_rs_50@96"
    # The TPU code's margin is 32 pixels at every side.
    assert sized.spec.input == replace(plain.input, pixels=96, crop_ratio=96 / 128)
    assert {weights.input.pixels for weights in sized.spec.weights} <= {96}
    assert [weights.name for weights in sized.spec.weights] == [
        weights.name for weights in plain.weights
    ]
    assert sized.spec.build is plain.build
    assert sized.spec.num_parameters == plain.num_parameters


@pytest.mark.parametrize(
    "name", ["tiny_2d@0", "tiny_2d@", "tiny_2d@large", "tiny_2d@-32", "tiny_2d@7", "tiny_2d@64+a=b"]
)
def test_a_suffix_that_is_no_side_is_told_the_grammar(name: str) -> None:
    with pytest.raises(RsbenchError, match=r"a whole number of 8 pixels or more.*@PIXELS"):
        find_backbone(name)


def test_pixels_are_given_once() -> None:
    with pytest.raises(RsbenchError, match="tiny_2d@32@64 gives pixels twice"):
        find_backbone("tiny_2d@32@64")


def test_the_near_miss_of_a_sized_name_is_named() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean tiny_2d"):
        find_backbone("tiny_2@32")


def test_an_entry_point_of_another_package_is_found_and_listed(packages: Packages) -> None:
    packages.install(
        "birds-for-rsbench", kind="task", name="birds", source=plugin_text("task", "birds")
    )

    found = find_task("birds")

    assert found.spec.name == "birds"
    assert found.origin == "birds-for-rsbench (birds_for_rsbench:TASK)"
    assert "birds" in [each.spec.name for each in everything("task")[0]]


def test_a_backbone_of_another_package_may_begin_like_a_built_in_family(
    packages: Packages,
) -> None:
    text = plugin_text("backbone", "tiny_mine")
    packages.install("mine", kind="backbone", name="tiny_mine", source=text)

    assert find_backbone("tiny_mine@48").spec.input.pixels == 48


def test_a_look_up_does_not_import_the_packages_it_does_not_name(packages: Packages) -> None:
    packages.install("noisy", kind="task", name="noisy", source="raise RuntimeError('imported')")

    assert find_task("folder").spec.name == "folder"
    assert "noisy" not in sys.modules


def test_a_name_of_a_built_in_and_of_a_package_is_an_error_naming_both(
    packages: Packages,
) -> None:
    packages.install("rival", kind="task", name="folder", source=plugin_text("task", "folder"))

    with pytest.raises(DuplicateNameError) as caught:
        find_task("folder")

    assert "rsbench_tasks.folder" in str(caught.value)
    assert "rival (rival:TASK)" in str(caught.value)


def test_a_name_of_two_packages_is_an_error_naming_both(packages: Packages) -> None:
    for package in ("first-birds", "second-birds"):
        text = plugin_text("task", "birds")
        packages.install(package, kind="task", name="birds", source=text)

    with pytest.raises(DuplicateNameError) as caught:
        find_task("birds")

    assert "first-birds" in str(caught.value) and "second-birds" in str(caught.value)


def test_a_name_offered_twice_is_reported_in_lists_and_costs_no_other(packages: Packages) -> None:
    before = [each.spec.name for each in everything("task")[0]]
    packages.install("rival", kind="task", name="folder", source=plugin_text("task", "folder"))

    found, broken = everything("task")

    assert [each.spec.name for each in found] == before
    (report,) = broken
    assert report.origin == "rival (rival:TASK)"
    assert "rsbench_tasks.folder" in report.reason and report.origin in report.reason


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("import no_such_library_anywhere", "ModuleNotFoundError: No module named"),
        ("TASK = 1 / 0", "ZeroDivisionError: division by zero"),
        ("def (", "SyntaxError: invalid syntax"),
        ("raise SystemExit('needs a licence')", "SystemExit: needs a licence"),
        ("raise RuntimeError('first\\nsecond')", "RuntimeError: first"),
        ("raise RuntimeError", "RuntimeError: no message"),
        ("", "AttributeError"),
        ("TASK = 'birds'", "it gave a str"),
        (plugin_text("backbone", "birds").replace("BACKBONE =", "TASK ="), "it gave a Backbone"),
        (plugin_text("task", "fish"), "registered as 'birds' and calls itself 'fish'"),
    ],
)
def test_a_broken_plug_in_is_reported_and_breaks_nothing_else(
    packages: Packages, source: str, cause: str
) -> None:
    before = [each.spec.name for each in everything("task")[0]]
    packages.install("broken", kind="task", name="birds", source=source)

    found, broken = everything("task")

    assert [each.spec.name for each in found] == before
    (report,) = broken
    assert (report.kind, report.origin) == ("task", "broken (broken:TASK)")
    assert cause in report.reason
    assert "\n" not in report.reason
    assert find_task("folder").spec.name == "folder"
    with pytest.raises(PluginError, match="broken:TASK"):
        find_task("birds")


def test_the_command_line_lists_what_works_and_names_what_is_broken(packages: Packages) -> None:
    packages.install("broken", kind="task", name="fishes", source="import no_such_library_anywhere")
    program = (
        f"import sys; sys.path.insert(0, {str(packages.site)!r})\n"
        "from rsbench.cli import main; main(['ls', 'tasks'])\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.returncode == 0
    assert "kinetics400" in done.stdout and "fishes" not in done.stdout
    assert "left out task broken (broken:TASK)" in done.stderr
    assert "no_such_library_anywhere" in done.stderr


def test_a_file_is_found_by_its_path_with_its_sha256(tmp_path: Path) -> None:
    task = tmp_path / "birds.py"
    task.write_text(plugin_text("task", "birds"))

    found = find_task(str(task))

    assert found.spec.name == "birds"
    assert found.origin == str(task)
    assert found.source_sha256 == digest_file(task)


def test_a_relative_path_is_taken_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(plugin_text("backbone", "net"))

    assert find_backbone("./net.py").spec.name == "net"
    assert find_backbone("net.py").spec.name == "net"


def test_any_function_that_gives_a_module_is_a_backbone(tmp_path: Path) -> None:
    path = write(tmp_path / "net.py", NETWORK)

    found = find_backbone(f"{path}:build")

    assert found.spec.name == "net:build"
    assert found.spec.modality == "image"
    # By hand: 3 x 3 kernels from 3 to 4 channels, and 4 biases.
    assert (found.spec.feature_width, found.spec.num_parameters) == (4, 3 * 3 * 3 * 4 + 4)
    assert found.source_sha256 == digest_file(Path(path))
    assert find_backbone(path).spec.name == "net:build"


def test_a_bare_module_takes_a_size_too(tmp_path: Path) -> None:
    path = write(tmp_path / "net.py", NETWORK)

    found = find_backbone(f"{path}:build@48")

    assert (found.spec.name, found.spec.input.pixels, found.pixels) == ("net:build@48", 48, 48)


def test_the_attribute_says_which_of_several_is_meant(tmp_path: Path) -> None:
    text = plugin_text("backbone", "small").replace("BACKBONE =", "SMALL =")
    text += "\nimport dataclasses\nLARGE = dataclasses.replace(SMALL, name='large')\n"
    text += "BACKBONES = (SMALL, LARGE)\n"
    path = write(tmp_path / "nets.py", text)

    assert find_backbone(f"{path}:LARGE").spec.name == "large"
    with pytest.raises(PluginError, match=r"several backbones \(small, large\)"):
        find_backbone(path)


def test_a_file_with_one_plug_in_in_a_tuple_needs_no_attribute(tmp_path: Path) -> None:
    text = plugin_text("backbone", "small") + "\nBACKBONES = (BACKBONE,)\n"

    assert find_backbone(write(tmp_path / "nets.py", text)).spec.name == "small"


def test_a_protocol_is_found_by_path(tmp_path: Path) -> None:
    source = "import dataclasses\nfrom rsbench.protocols.linear_probe import PROTOCOL as given\n"
    source += "PROTOCOL = dataclasses.replace(given, name='mine')\n"
    path = write(tmp_path / "mine.py", source)

    found = find_protocol(path)

    assert found.spec.name == "mine"
    assert found.source_sha256 == digest_file(Path(path))


def test_two_files_of_one_name_do_not_meet(tmp_path: Path) -> None:
    paths = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        paths.append(write(tmp_path / name / "mine.py", plugin_text("task", name)))

    assert [find_task(path).spec.name for path in paths] == ["one", "other"]


def test_an_edited_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    write(path, plugin_text("task", "before"))
    before = find_task(str(path))
    write(path, plugin_text("task", "after"))

    after = find_task(str(path))

    assert (before.spec.name, after.spec.name) == ("before", "after")
    assert before.source_sha256 != after.source_sha256


def test_a_missing_file_is_an_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"No file .*absent\.py to take a backbone from"):
        find_backbone(str(tmp_path / "absent.py:build"))


@pytest.mark.parametrize(
    ("source", "words", "cause"),
    [
        ("import no_such_library", "", "can't be imported: ModuleNotFoundError"),
        ("", "", "must define BACKBONES or BACKBONE or build; it defines none of them"),
        (NETWORK, ":make", "must define make; it defines none of them"),
        ("BACKBONE = 3", "", "must give a rsbench.specs.Backbone; it gave a int"),
        (
            plugin_text("task", "mine"),
            ":TASK",
            "give a rsbench.specs.Backbone; it gave a Task",
        ),
        (
            NETWORK + "INPUT = 96\n",
            ":build",
            "must be a rsbench.specs.InputSpec; it is a int",
        ),
    ],
)
def test_a_file_that_holds_something_else_is_named_with_the_cause(
    tmp_path: Path, source: str, words: str, cause: str
) -> None:
    path = write(tmp_path / "net.py", source)

    with pytest.raises(PluginError) as caught:
        find_backbone(path + words)

    assert path in str(caught.value)
    assert cause in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_failed_is_tried_again_when_it_is_named_again(tmp_path: Path) -> None:
    helper = f"helper_of_{tmp_path.name.replace('-', '_')}"
    path = write(tmp_path / "mine.py", f"import {helper}\n" + plugin_text("task", "mine"))
    with pytest.raises(PluginError):
        find_task(path)
    sys.modules[helper] = sys  # any module will do

    try:
        assert find_task(path).spec.name == "mine"
    finally:
        del sys.modules[helper]


def test_equal_files_in_two_folders_are_two_plug_ins_beside_their_own_files(tmp_path: Path) -> None:
    source = plugin_text("task", "mine").replace('title="mine"', "title=str(Path(__file__).parent)")
    paths = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        paths.append(write(tmp_path / name / "mine.py", source))

    assert [find_task(path).spec.title for path in paths] == [
        str(tmp_path / name) for name in ("one", "other")
    ]


VARIED = """
from dataclasses import replace
from rsbench.errors import RsbenchError
from rsbench_backbones.tiny import BACKBONES

TINY = BACKBONES[0]

def vary(options):
    if set(options) - {"width", "depth"}:
        raise RsbenchError(f"no option {min(options)}")
    return replace(TINY, name="+".join(["net", *(f"{k}={v}" for k, v in options.items())]))

BACKBONE = replace(TINY, name="net", vary=vary)
"""


def test_options_reach_the_network_as_typed_and_pixels_come_last(
    packages: Packages,
) -> None:
    packages.install(
        "varied-net", kind="backbone", name="net", source=VARIED, value="varied_net:BACKBONE"
    )

    found = find_backbone("net+width=0.5+depth=26@96")

    assert (found.spec.name, found.pixels) == ("net+width=0.5+depth=26@96", 96)
    assert found.spec.input.pixels == 96


@pytest.mark.parametrize("words", ["+width", "+width=", "+=2", "+width=1+width=2", "+"])
def test_an_option_that_is_not_one_key_and_one_value_is_refused(
    packages: Packages, words: str
) -> None:
    packages.install(
        "varied-net", kind="backbone", name="net", source=VARIED, value="varied_net:BACKBONE"
    )

    with pytest.raises(RsbenchError, match="KEY=VALUE after a plus sign, each key once"):
        find_backbone(f"net{words}")


def test_options_of_a_network_without_options_are_refused() -> None:
    with pytest.raises(RsbenchError, match=r"tiny_2d has no options, \+width=2 was given"):
        find_backbone("tiny_2d+width=2")


FAMILY = """
from dataclasses import replace
from rsbench.errors import UnknownNameError
from rsbench_backbones.tiny import BACKBONES as TINY

BACKBONES = ()

def backbone_for(name):
    if name != "zoo/known":
        raise UnknownNameError(f"the zoo has no {name}")
    return replace(TINY[0], name=name)
"""


def test_a_family_makes_networks_that_it_does_not_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import rsbench_backbones

    (tmp_path / "zoo.py").write_text(FAMILY)
    monkeypatch.setattr(rsbench_backbones, "__path__", [*rsbench_backbones.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "rsbench_backbones.zoo", raising=False)

    assert find_backbone("zoo/known@64").spec.name == "zoo/known@64"
    with pytest.raises(UnknownNameError, match="the zoo has no zoo/other"):
        find_backbone("zoo/other")
    assert not [found for found in everything("backbone")[0] if found.spec.name == "zoo/known"]
    sys.modules.pop("rsbench_backbones.zoo", None)
