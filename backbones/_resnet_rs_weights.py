"""Every published set of ResNet-RS weights, by depth; there is none of the 3D networks.

Four publishers, one training: the TPU checkpoints are Google's originals; timm's and Keras's files
are conversions of their averaged (EMA) weights, except timm's 200, which timm trained itself; the
Model Garden's belong to another network (swish, SAME padding) and were trained anew.

Nobody publishes a sha256 of these files, so all are unverified until the first fetch.
"""

from __future__ import annotations

from typing import NamedTuple

from rsbench.specs import InputSpec, Weights
from rsbench.synsets import IMAGENET1K

LICENCE = "Apache-2.0"


class Scores(NamedTuple):
    """One model at one resolution: ImageNet validation, one central crop, in percent."""

    depth: int
    pixels: int
    tpu_top1: float
    keras_top1: float
    keras_top5: float
    garden_top1: float | None
    """None where the Model Garden has no such checkpoint."""
    garden_top5: float | None
    keras_md5: str


# TPU: github.com/tensorflow/tpu, models/official/resnet/resnet_rs/README.md.
# Keras: the re-evaluation of the converted averages, in float32 on a GPU, of
#   github.com/sebastian-sz/resnet-rs-keras, imagenet_evaluation/README.md; md5 of the files from
#   WEIGHT_HASHES of tf_keras/src/applications/resnet_rs.py.
# Garden: github.com/tensorflow/models, official/vision/MODEL_GARDEN.md (it lists no 420).
SCORES = (
    # depth @ pixels, TPU, Keras top-1 and top-5, Garden top-1 and top-5, md5 of the Keras file
    Scores(50, 160, 78.8, 78.9, 94.3, 79.1, 94.5, "69d9d925319f00a8bdd4af23c04e4102"),
    Scores(101, 160, 80.3, 80.3, 95.0, 80.2, 94.9, "544b3434d00efc199d66e9058c7f3379"),
    Scores(101, 192, 81.2, 81.3, 95.6, 81.3, 95.6, "eb285be29ab42cf4835ff20a5e3b5d23"),
    Scores(152, 192, 82.0, 82.1, 95.9, 81.9, 95.8, "8d72a301ed8a6f11a47c4ced4396e338"),
    Scores(152, 224, 82.2, 82.9, 96.2, 82.5, 96.1, "31a46a92ab21b84193d0d71dd8c3d03b"),
    Scores(152, 256, 83.0, 83.0, 96.3, 83.1, 96.3, "ba6271b99bdeb4e7a9b15c05964ef4ad"),
    Scores(200, 256, 83.4, 83.4, 96.5, 83.5, 96.6, "a76930b741884e09ce90fa7450747d5f"),
    Scores(270, 256, 83.8, 83.8, 96.7, 83.6, 96.6, "20d575825ba26176b03cb51012a367a8"),
    Scores(350, 256, 84.0, 84.0, 96.8, 83.7, 96.7, "f4a039dc3c421321b7fc240494574a68"),
    Scores(350, 320, 84.2, 84.3, 96.8, 84.2, 96.9, "7ccb858cc738305e8ceb3c0140bee393"),
    Scores(420, 320, 84.4, 84.4, 96.8, None, None, "ae0eb9bed39e64fc8d7e0db4018dc7e8"),
)

# depth: pixels, crop ratio, top-1 there. Pixels and crops are timm's default_cfg; scores are its
# own evaluation, results/results-imagenet.csv, at these pixels.
TIMM_WEIGHTS = {
    50: (160, 0.91, 77.858),
    101: (192, 0.94, 80.706),
    152: (256, 1.0, 82.900),
    200: (256, 1.0, 83.884),
    270: (256, 1.0, 83.596),
    350: (288, 1.0, 84.304),
    420: (320, 1.0, 84.240),
}

# Pixels of the checkpoint that timm converted, where a depth has several: remarks of timm's.
TIMM_TRAINED_AT = {101: 192, 152: 256, 350: 256}


def weights_2d(depth: int) -> tuple[Weights, ...]:
    """Give what is published for `resnet_rs_DEPTH`, the sibling network's checkpoints included.

    Args:
        depth: 50 to 420; the scaling study's own 300 and 400 have no weights.
    """
    timm = (_timm(depth),) if depth in TIMM_WEIGHTS else ()
    rows = [row for row in SCORES if row.depth == depth]
    return (
        *timm,
        *(_tpu(row) for row in rows),
        *(_keras(row) for row in rows),
        *_garden(depth, network=f"resnet_rs_garden_{depth}"),
    )


def weights_garden(depth: int) -> tuple[Weights, ...]:
    """Give what is published for `resnet_rs_garden_DEPTH`.

    Args:
        depth: 50 to 420; there is nothing for 420.
    """
    return _garden(depth, network=None)


def _timm(depth: int) -> Weights:
    pixels, crop_ratio, top1 = TIMM_WEIGHTS[depth]
    # Despite its tag: timm's change log lists the file among the weights timm trained on TPUs.
    google = depth != 200
    trained_at = f" at {TIMM_TRAINED_AT[depth]} pixels" if depth in TIMM_TRAINED_AT else ""
    return Weights(
        name=f"resnetrs{depth}.tf_in1k",
        url=f"timm/resnetrs{depth}.tf_in1k",
        format="safetensors",
        trained_on=("imagenet1k",),
        num_classes=1000,
        classes=IMAGENET1K,
        input=InputSpec(
            pixels=pixels, interpolation="bicubic", crop_ratio=crop_ratio, resizer="timm"
        ),
        published={"imagenet1k/top1": top1},
        published_conditions=(
            f"timm's own evaluation, one view of {pixels} pixels, crop {crop_ratio}, PIL bicubic"
        ),
        licence=LICENCE,
        source=(
            f"averaged (EMA) weights of the released TPU checkpoint{trained_at}, converted by timm"
            if google
            else "trained by timm, not Google's checkpoint in spite of the tag"
        ),
    )


def _tpu(row: Scores) -> Weights:
    return Weights(
        name=f"tpu.i{row.pixels}",
        url=(
            "https://storage.googleapis.com/cloud-tpu-checkpoints/resnet-rs/"
            f"resnet-rs-{row.depth}-i{row.pixels}.tar.gz"
        ),
        format="tf1",
        trained_on=("imagenet1k",),
        num_classes=1000,
        classes=IMAGENET1K,
        input=_tpu_input(row.pixels),
        published={"imagenet1k/top1": row.tpu_top1},
        published_conditions=(
            f"Google's own evaluation, one central crop of {row.pixels} pixels, legacy bicubic"
        ),
        licence=LICENCE,
        source="Google's released TPU checkpoint (tensorflow/tpu, resnet_rs); averages are taken",
    )


def _keras(row: Scores) -> Weights:
    return Weights(
        name=f"keras.i{row.pixels}",
        url=(
            "https://storage.googleapis.com/tensorflow/keras-applications/resnet_rs/"
            f"resnet-rs-{row.depth}-i{row.pixels}.h5"
        ),
        format="keras-h5",
        trained_on=("imagenet1k",),
        num_classes=1000,
        classes=IMAGENET1K,
        input=_tpu_input(row.pixels),
        published={"imagenet1k/top1": row.keras_top1, "imagenet1k/top5": row.keras_top5},
        published_conditions=(
            f"re-evaluation in float32, one central crop of {row.pixels} pixels, legacy bicubic"
        ),
        licence=LICENCE,
        source=(
            "averaged (EMA) weights of the released TPU checkpoint, converted by "
            f"sebastian-sz/resnet-rs-keras for keras.applications; md5 {row.keras_md5}"
        ),
    )


def _garden(depth: int, *, network: str | None) -> tuple[Weights, ...]:
    return tuple(
        Weights(
            name=f"garden.i{row.pixels}",
            url=(
                "https://storage.googleapis.com/tf_model_garden/vision/resnet-rs/"
                f"resnet-rs-{depth}-i{row.pixels}.tar.gz"
            ),
            format="tf2",
            network=network,
            trained_on=("imagenet1k",),
            # Of its configuration, imagenet_resnetrsDEPTH_iPIXELS.yaml: class 0 is "background".
            # What is loaded has the width found in the file.
            num_classes=1001,
            classes=("background", *IMAGENET1K),
            input=InputSpec(
                pixels=row.pixels,
                interpolation="bilinear",
                antialias=False,
                crop_ratio=0.875,
                resizer="model_garden",
            ),
            published={"imagenet1k/top1": row.garden_top1, "imagenet1k/top5": row.garden_top5},
            published_conditions=(
                f"the Model Garden's own evaluation, one central crop of {row.pixels} pixels, "
                "bilinear"
            ),
            licence=LICENCE,
            source="TensorFlow Model Garden (tensorflow/models), swish; averages are taken",
        )
        for row in SCORES
        if row.depth == depth and row.garden_top1 is not None and row.garden_top5 is not None
    )


def _tpu_input(pixels: int) -> InputSpec:
    return InputSpec(
        pixels=pixels,
        interpolation="bicubic",
        antialias=False,
        # resnet_preprocessing.py cuts pixels / (pixels + 32) of the short side: 0.875 at 224 only.
        crop_ratio=pixels / (pixels + 32),
        resizer="tpu",
    )
