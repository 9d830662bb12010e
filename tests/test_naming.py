"""A network whose stage maps are others is another one to whatever reads them, and to nothing else.

Here its features are equal: somebody edited `stage_maps` in a file that the backbone's own imports.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rsbench_backbones._tiny_modules import TinyNetwork
from small_world import fit_request, item_set, model, pictures, settings

from rsbench.cells import RunRequest
from rsbench.protocols._trained import checkpoint_of
from rsbench.protocols.attentive_probe import PROTOCOL as ATTENTIVE
from rsbench.protocols.finetune import PROTOCOL as FINETUNE
from rsbench.protocols.linear_probe_dino import PROTOCOL as DINO
from rsbench.protocols.vtab1k import PROTOCOL as VTAB
from rsbench.runner import Finished, run
from rsbench.specs import Protocol

SETTINGS = {
    "linear_probe": {"strengths": "2"},
    "linear_probe_dino": {"epochs": "1", "epoch_iterations": "4", "augment": "false"},
    "attentive_probe": {"epochs": "1", "num_blocks": "1", "num_heads": "2"},
}
"""Few steps: what is learned is of no interest here."""


def _finish(folder: Path, cache: Path, protocol: str) -> Finished:
    return run(
        RunRequest(
            task="folder@sample",
            backbone="tiny_2d",
            protocol=protocol,
            pixels=32,
            overrides=SETTINGS[protocol],
            results=folder / "results",
            cache_root=cache,
        )
    )


@pytest.mark.parametrize(
    ("protocol", "reads_maps"),
    [("linear_probe", False), ("linear_probe_dino", True), ("attentive_probe", True)],
)
def test_a_record_made_of_other_stage_maps_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    session_cache: Path,
    protocol: str,
    reads_maps: bool,
) -> None:
    first = _finish(tmp_path, session_cache, protocol)
    same = _finish(tmp_path, session_cache, protocol)
    before = TinyNetwork.stage_maps

    def doubled(self: TinyNetwork, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: 2 * each for name, each in before(self, batch).items()}

    monkeypatch.setattr(TinyNetwork, "stage_maps", doubled)
    edited = _finish(tmp_path, session_cache, protocol)

    assert (first.reused, same.reused) == (False, True)
    assert edited.reused == (not reads_maps)
    assert edited.record.backbone.numeric_digest == first.record.backbone.numeric_digest


@pytest.mark.parametrize(
    ("protocol", "reads_maps"),
    [(ATTENTIVE, True), (DINO, True), (FINETUNE, False), (VTAB, False)],
    ids=lambda value: value.name if isinstance(value, Protocol) else "",
)
def test_a_checkpoint_made_of_other_stage_maps_is_another(
    tmp_path: Path, protocol: Protocol, reads_maps: bool
) -> None:
    items, labels = pictures(4)

    def key(maps_digest: str) -> str:
        network = model(maps_digest=maps_digest)
        asked = fit_request(protocol, network, item_set(items, labels), settings(tmp_path))
        return checkpoint_of(asked, protocol, items=items, labels=labels, name="last").key

    assert (key("its maps") != key("others")) == reads_maps
