"""How a protocol is fitted: by this process, or by all processes of a team at once.

A network that learns is trained by all of them (`rsbench.training.distribution`): the lead sends an
order, each helper makes the same cell ready, and all call the same `Protocol.fit`, each with its
own `Settings.ranks`. They end with the same network to the bit, so that helpers can compute their
shares of what it says of the test items. All else is fitted by the lead alone, with helpers that
extract.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rsbench.assembly import Assembled
from rsbench.cells import Cell, RunRequest, assemble_cell, prepare, settings_of
from rsbench.data import sharing
from rsbench.data.computing import pool_key
from rsbench.data.sharing import Order, Ready
from rsbench.data.team import BrokenLinkError, Team
from rsbench.errors import RunError
from rsbench.gathering import FoldSets
from rsbench.protocols._networks import trained_digest, trained_model
from rsbench.specs import FitRequest, Fitted, ItemSet, Model, Ranks, Scalar, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class FitOrder:
    """What helpers must know of a fit; the words of its cell they have themselves."""

    fold: str
    model: str
    """Digest of the network that it begins with."""
    examples: str
    """Name of the items to train on, by their ids."""


def use_device(request: RunRequest) -> None:
    """Let what asks for "the GPU" without a number have this process's own.

    Else each process would also take some memory of the first one.
    """
    if request.device.startswith("cuda"):
        import torch

        torch.cuda.set_device(torch.device(request.device).index or 0)


def is_joint(cell: Cell) -> bool:
    """Say whether all processes fit a cell at once: there are several, and the network learns."""
    return cell.request.helpers is not None and cell.protocol.spec.learns_backbone(cell.recipe)


def processes_felt(cell: Cell, assembled: Assembled, num: int) -> int:
    """Give how many of some processes a cell's score hangs on: 1 where their number moves nothing.

    It does where a batch normalisation learns, which each process does by its own share of a batch.

    Args:
        cell: Whose protocol fits.
        assembled: Its network.
        num: Processes that fit it, if its network learns.
    """
    learns = cell.protocol.spec.learns_backbone(cell.recipe)
    return num if learns and _norms_see_shares(cell.recipe, assembled.model) else 1


def fitted(cell: Cell, assembled: Assembled, fold: FoldSets, settings: Settings) -> Fitted:
    """Fit on a fold, together with the helpers where the network learns and there are some.

    Args:
        cell: Whose protocol fits.
        assembled: Its network.
        fold: One of the cell's.
        settings: Of this process, without ranks.

    Raises:
        RsbenchError: The fit failed, here or in a helper.
    """
    request = _fit_request(cell, assembled, fold, settings)
    helpers = cell.request.helpers
    if helpers is None or not is_joint(cell):
        return cell.protocol.spec.fit(request)
    helpers.order(_order_of(assembled, fold))
    return helpers.team.together(lambda ranks: _fitted_by_all(cell, request, ranks))


def network_after(cell: Cell, assembled: Assembled, outcome: Fitted) -> str:
    """Give the digest of the network that helpers have after a fit."""
    if not is_joint(cell):
        return assembled.model.digest
    return trained_digest(assembled.model, outcome.arrays)


def _fit_request(
    cell: Cell, assembled: Assembled, fold: FoldSets, settings: Settings
) -> FitRequest:
    return FitRequest(
        model=assembled.model,
        train=fold.train,
        validation=fold.validation,
        target=cell.task.target,
        recipe=cell.recipe,
        reading=cell.fit_reading,
        flip=cell.task.sample.flip if cell.sample else cell.task.flip,
        seed=cell.request.seed,
        settings=settings,
        allowed_test=replace(fold.test, targets=fold.test_targets)
        if cell.request.allow_test_selection
        else None,
    )


def _order_of(assembled: Assembled, fold: FoldSets) -> FitOrder:
    items = () if fold.train is None else fold.train.items
    return FitOrder(fold=fold.name, model=assembled.model.digest, examples=pool_key(items))


def _fitted_by_all(cell: Cell, request: FitRequest, ranks: Ranks) -> Fitted:
    """Fit as one of several processes; all end with the same network.

    Raises:
        RunError: They did not.
    """
    from rsbench.training.distribution import gathered

    joint = replace(request.settings, ranks=ranks, helpers=None)
    outcome = cell.protocol.spec.fit(replace(request, settings=joint))
    digests = gathered(trained_digest(request.model, outcome.arrays), ranks)
    other = next((rank for rank, each in enumerate(digests) if each != digests[0]), None)
    if other is not None:
        raise RunError(
            f"All processes must end a training with the same network, and process {other + 1} of"
            f" {ranks.size} has another one than the first: give all of them GPUs of one kind and"
            f" the same versions, and see whether protocol {cell.protocol.spec.name} minds"
            " Settings.ranks."
        )
    return replace(outcome, notes=(*outcome.notes, *_notes_on_norms(request, ranks)))


def _notes_on_norms(request: FitRequest, ranks: Ranks) -> tuple[str, ...]:
    """Say where a training by several processes is not quite that of one."""
    if not _norms_see_shares(request.recipe, request.model):
        return ()
    return (
        f"trained by {ranks.size} processes: batch normalisation saw the share of each in a batch"
        " (sync_norm=true normalises them together, on GPUs)",
    )


def _norms_see_shares(recipe: Mapping[str, Scalar], model: Model) -> bool:
    """Say whether several processes that train a network would each normalise by their share."""
    from torch.nn.modules.batchnorm import _BatchNorm

    if recipe.get("freeze_norm") is True or recipe.get("sync_norm") is True:
        return False
    return any(isinstance(each, _BatchNorm) for each in model.module.modules())


class Assistant:
    """A helper's side of a run: it makes cells ready when the first order of each comes.

    Samples and weights are on the disk then. It keeps one cell, and the network that was last
    fitted in it.
    """

    def __init__(self, requests: Sequence[RunRequest], team: Team) -> None:
        """Take the cells of the grid, as the lead has them; this process is not the lead."""
        self._requests = requests
        self._team = team
        self._number: int | None = None
        self._cell: Cell
        self._assembled: Assembled
        self._trained: Model | None = None

    def obey(self, number: int, order: object) -> None:
        """Do this process's part of an order for one of the cells.

        What goes wrong is the lead's to report.

        Raises:
            RunError: A process has ended.
        """
        if isinstance(order, FitOrder):
            self._fit(number, order)
            return
        assert isinstance(order, Order), "a lead sends orders"
        sharing.assist(order, lambda: self._ready(number, order), self._team)

    def _fit(self, number: int, order: FitOrder) -> None:
        # Checkpoints are the lead's: what a protocol may leave here is of no use to anyone.
        with TemporaryDirectory(prefix="rsbench-") as folder:
            self._fit_in(Path(folder), number, order)

    def _fit_in(self, folder: Path, number: int, order: FitOrder) -> None:
        def work(ranks: Ranks) -> Fitted:
            return _fitted_by_all(self._cell, request, ranks)

        fault: Exception | None = None
        try:
            self._turn_to(number)
            request = self._request(order, folder)
        # As in `Team.help`: the lead would wait for ever.
        except Exception as error:
            fault = error
        self._trained = None
        try:
            outcome = self._team.together(work, fault)
        except BrokenLinkError:
            raise
        except Exception:
            # The lead has heard of it and says so; the next cell may do better.
            return
        self._trained = trained_model(
            self._assembled.model,
            outcome.arrays,
            classes=(),
            device=self._requests[number].device,
        )

    def _request(self, order: FitOrder, folder: Path) -> FitRequest:
        """Give what this process fits with, in a folder of its own.

        Raises:
            RunError: It has another network or other items than the lead.
        """
        fold = next((each for each in self._cell.gathered.folds if each.name == order.fold), None)
        if fold is None or _order_of(self._assembled, fold) != order:
            raise RunError(
                "it has other items or another network than the first one, so that they can't"
                " train one together; give all processes the same data and weights"
            )
        settings = settings_of(self._cell.request, key="")
        settings = replace(settings, work_root=folder, log_root=None)
        return _fit_request(self._cell, self._assembled, fold, settings)

    def _ready(self, number: int, order: Order) -> Ready:
        """Give what this process extracts with: the network as it came, or as it was fitted."""
        self._turn_to(number)
        is_trained = self._trained is not None and self._trained.digest == order.model
        folds = self._cell.gathered.folds
        sets: list[ItemSet | None] = [
            each for fold in folds for each in (fold.train, fold.validation, fold.test)
        ]
        return Ready(
            model=self._trained if is_trained and self._trained else self._assembled.model,
            pools=list({id(each.pool): each.pool for each in sets if each is not None}.values()),
            read=self._cell.task.read,
            settings=settings_of(self._cell.request, key=""),
        )

    def _turn_to(self, number: int) -> None:
        if self._number == number:
            return
        self._number = self._trained = None
        use_device(self._requests[number])
        self._cell = prepare(self._requests[number])
        self._assembled = assemble_cell(self._cell)
        self._number = number
