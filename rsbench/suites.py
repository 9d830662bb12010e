"""Suites: named lists of tasks and protocols that networks are ranked on.

A suite is a grid whose tasks and protocols somebody published; it runs like any grid, leaves one
record a cell, and is drawn as one table of ranked networks. ``NAME@sample`` is the same suite on
the embedded samples of its tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from rsbench.errors import UnknownNameError, suggest

SAMPLE = "@sample"
"""After the name of a task or a suite: the embedded sample is meant."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """Tasks and protocols that belong together."""

    name: str
    tasks: tuple[str, ...]
    """Names of tasks in the order of the published table; "@sample" after a name means its sample,
    which is then part of the suite."""
    protocols: tuple[str, ...]
    """What each task is run under, unless the user names others."""
    title: str
    citation: str
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Name of a group -> its tasks: each has a mean of its own beside that of all."""


KORNBLITH12 = Suite(
    name="kornblith12",
    tasks=(
        *("food101", "cifar10", "cifar100", "birdsnap", "sun397", "stanford_cars"),
        *("fgvc_aircraft", "voc2007", "dtd", "oxford_iiit_pet", "caltech101", "oxford_flowers102"),
    ),
    protocols=("linear_probe",),
    title="The 12 image sets of Kornblith et al.",
    citation=(
        "Kornblith, Shlens, Le, Do Better ImageNet Models Transfer Better?, CVPR 2019"
        " (arXiv 1805.08974), table 1; linear as in Chen et al. 2020 (arXiv 2002.05709), App. B.8."
    ),
)

_NATURAL = (
    *("vtab_caltech101", "vtab_cifar100", "vtab_dtd", "vtab_oxford_flowers102"),
    *("vtab_oxford_iiit_pet", "vtab_sun397", "vtab_svhn"),
)
_SPECIALISED = (
    *("vtab_patch_camelyon", "vtab_eurosat", "vtab_resisc45", "vtab_diabetic_retinopathy"),
)
_STRUCTURED = (
    *("vtab_clevr_count_all", "vtab_clevr_closest_object_distance", "vtab_dmlab"),
    *("vtab_kitti_closest_vehicle_distance", "vtab_dsprites_label_x_position"),
    *("vtab_dsprites_label_orientation", "vtab_smallnorb_label_azimuth"),
    "vtab_smallnorb_label_elevation",
)
VTAB1K = Suite(
    name="vtab1k",
    tasks=(*_NATURAL, *_SPECIALISED, *_STRUCTURED),
    protocols=("vtab1k",),
    groups={"natural": _NATURAL, "specialised": _SPECIALISED, "structured": _STRUCTURED},
    title="VTAB-1k: 19 tasks of 1,000 training images each",
    citation=(
        "Zhai et al., A Large-scale Study of Representation Learning with the Visual Task"
        " Adaptation Benchmark, 2019 (arXiv 1910.04867)."
    ),
)

_APPEARANCE = ("kinetics400", "ucf101", "hmdb51")
_MOTION = ("something_something_v2", "diving48", "jester")
VIDEO_CORE = Suite(
    name="video-core",
    tasks=(*_APPEARANCE, *_MOTION),
    protocols=("linear_probe",),
    groups={"appearance": _APPEARANCE, "motion": _MOTION},
    title="Actions told by what is seen, and by how it moves",
    citation=(
        "Ours; tasks parted into appearance and motion as in Assran et al., V-JEPA 2, 2025"
        " (arXiv 2506.09985)."
    ),
)

OFFLINE = Suite(
    name="offline",
    tasks=("digits", "kinetics400@sample"),
    protocols=("linear_probe", "knn"),
    title="What packages alone can make: scikit-learn's digits, and clips told by motion alone",
    citation="Ours. Synthetic clips say nothing of Kinetics; both parts say that all works.",
)

SUITES = (KORNBLITH12, VTAB1K, VIDEO_CORE, OFFLINE)


def find_suite(name: str) -> Suite:
    """Find a suite by its name, or by ``NAME@sample`` the same on its tasks' samples.

    Raises:
        UnknownNameError: There is none; the message says the nearest ones.
    """
    known = {suite.name: suite for suite in SUITES}
    base = name.removesuffix(SAMPLE)
    if base not in known:
        raise UnknownNameError(
            f"No suite is called {name!r}.{suggest(base, known)} `rsbench ls suites` lists all"
            f" {len(known)}."
        )
    return known[base] if name == base else _on_samples(known[base])


def other_version(suite: Suite) -> Suite:
    """Give a suite on its tasks' samples, or of such a one the suite itself."""
    if suite.name.endswith(SAMPLE):
        return find_suite(suite.name.removesuffix(SAMPLE))
    return _on_samples(suite)


def _on_samples(suite: Suite) -> Suite:
    """Give a suite in which every task is its sample."""

    def sampled(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(f"{name.removesuffix(SAMPLE)}{SAMPLE}" for name in names)

    return replace(
        suite,
        name=f"{suite.name}{SAMPLE}",
        tasks=sampled(suite.tasks),
        groups={group: sampled(names) for group, names in suite.groups.items()},
        title=f"{suite.title}, on embedded samples",
    )
