"""Event files of trainings, for TensorBoard: ``tensorboard --logdir FOLDER``.

They are for looking at while a training runs, and nothing reads them back: what counts is in the
record. Steps are optimizer steps. Tags are ``step/loss``, ``step/top1``, ``step/learning_rate`` and
``step/examples_per_second`` about once a second, and ``epoch/train_loss``, ``epoch/held_out_top1``
and so on at the end of each epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rsbench.errors import DiskError, RsbenchError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class EventFile:
    """Where a training's numbers are written, by step."""

    def __init__(self, writer: SummaryWriter) -> None:
        """Write with this writer."""
        self._writer = writer

    def add(self, group: str, values: Mapping[str, float], *, steps: int) -> None:
        """Write numbers.

        Args:
            group: First word of their tags, "step" or "epoch".
            values: By name, the second word.
            steps: Optimizer steps so far.
        """
        with _explained(self._writer.log_dir):
            for name, value in values.items():
                self._writer.add_scalar(f"{group}/{name}", value, steps)


@contextmanager
def _explained(folder: Path | str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskError(
            f"Can't write event files in {folder}: {error.strerror or error}; free some space or"
            " name another folder with --tensorboard, then run the same command again."
        ) from error


@contextmanager
def event_file(folder: Path | None, *, first_step: int) -> Iterator[EventFile | None]:
    """Open the event file of a training, and close it in the end.

    Args:
        folder: Of this training alone; made if need be. None opens nothing.
        first_step: Steps that the training has behind it: what an interrupted run wrote from there
            on is left out of the drawing.

    Raises:
        RsbenchError: TensorBoard is not installed.
        DiskError: The folder can't be written; so does writing, where it can't be any more.
    """
    if folder is None:
        yield None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise RsbenchError(
            "Event files are written by TensorBoard, which is not installed: pip install"
            ' "rsbench[tensorboard]", or leave --tensorboard out.'
        ) from error
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # What was written of the last step that counts stays; what is after it goes.
        writer = SummaryWriter(str(folder), purge_step=first_step + 1 if first_step else None)
    try:
        yield EventFile(writer)
    finally:
        with _explained(folder):
            writer.close()
