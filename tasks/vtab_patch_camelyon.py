"""VTAB-1k, specialised: PatchCamelyon, patches of lymph node sections."""

from __future__ import annotations

from ._vtab import VtabSet, vtab_task
from ._vtab_hdf5 import PATCH_CAMELYON
from ._vtab_order import OWN_VALIDATION

TASK = vtab_task(
    VtabSet(
        name="vtab_patch_camelyon",
        data_set="patch_camelyon",
        folders=("patch_camelyon", "camelyon"),
        classes=("no tumour", "tumour"),
        num_test=32_768,
        cuts=OWN_VALIDATION,
        originals=(PATCH_CAMELYON,),
    ),
    title="VTAB-1k PatchCamelyon, tumour or not",
    originals=(
        "https://zenodo.org/record/2546921 has the original, read with h5py; looked for are "
        "camelyonpatch_level_2_split_{train,valid,test}_{x,y}.h5, unpacked."
    ),
    licence="CC0",
    citation=(
        "Veeling et al., Rotation Equivariant CNNs for Digital Pathology, MICCAI 2018, "
        "arXiv:1806.03962"
    ),
)
