"""What names a reading: all that decides which numbers are made of an item's bytes."""

from __future__ import annotations

import importlib.metadata
from dataclasses import asdict
from typing import Any

from rsbench.media import video
from rsbench.specs import Reading

PIXELS_FORMAT = 1
"""Raised whenever our own resizers, crops or frame folders would give other pixels: everything that
was made of the former ones is then made anew."""


def reading_facts(reading: Reading) -> dict[str, Any]:
    """Describe all that decides which numbers a network is given of an item's bytes.

    It is part of every key under which something made of pixels is kept.
    """
    return {
        "modality": reading.modality,
        "input": asdict(reading.input),
        "clip": asdict(reading.clip),
        "sampler": reading.sampler,
        "views": asdict(reading.views),
        "cropper": reading.cropper,
        "read": reading.read_key if reading.read is not None else "",
        "decoder": video.decoder_version(),
        "pixels": PIXELS_FORMAT,
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("torch", "torchvision", "pillow", "numpy")
        },
    }
