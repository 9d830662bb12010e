"""What earlier reading of the same content left behind, at hand for reader processes.

Packet indexes, decoded views and known failures, all found by what a file holds. They save time;
what is read, what fails and why is the same without them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rsbench.data.clip_cache import FOLDER, CachedViews, ClipCache
from rsbench.data.fingerprints import Fingerprints
from rsbench.data.packed import PackedItems
from rsbench.data.quarantine import Known, Quarantine
from rsbench.data.readings import reading_facts
from rsbench.digests import digest_json
from rsbench.specs import Item, Reading, Settings

_NORMALISATION = ("mean", "std")
"""What of an input the network's side does: views are kept before it, so backbones share them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Remembered:
    """Items packed for reader processes, with what is known of their content."""

    items: PackedItems
    known: Known
    """Failures that are not decoded again."""
    index_root: Path | None
    """Folder of packet indexes; None where nothing is indexed."""
    clips: ClipCache | None
    """Decoded views; None where none are kept."""

    def index_file(self, row: int) -> Path | None:
        """Give the place of an item's packet index, whether or not it is there."""
        content = None if self.index_root is None else self.items.content(row)
        if content is None or self.index_root is None:
            return None
        return self.index_root / content[:2] / content

    def cached(self, row: int) -> CachedViews | None:
        """Give an item's views as they were read before, if they are kept."""
        content = None if self.clips is None else self.items.content(row)
        if content is None or self.clips is None:
            return None
        item = self.items[row]
        return self.clips.load(content, item)

    def keep(self, row: int, entry: CachedViews) -> None:
        """Keep an item's views for the next time, if that is asked for and there is room."""
        content = None if self.clips is None else self.items.content(row)
        if content is not None and self.clips is not None:
            self.clips.store(content, self.items[row], entry)


def remember(
    items: Sequence[Item],
    reading: Reading,
    settings: Settings,
    *,
    rows: Iterable[int],
    quarantine: Quarantine,
    reading_key: str | None,
    is_random: bool,
) -> Remembered:
    """Look up what is known of the items that will be read.

    Args:
        items: The examples.
        reading: How they are read.
        settings: Cache folder, and how many bytes of views may be kept.
        rows: Which will be read.
        quarantine: Known failures.
        reading_key: Digest of `reading_facts`; None for random views.
        is_random: Whether views are random; such ones are not kept.
    """
    keeps_clips = settings.cache_clips_bytes > 0 and not is_random and reading.read is None
    is_indexed = reading.modality == "video" and reading.read is None
    fingerprints = Fingerprints(settings.cache_root / "fingerprints")
    wanted = list(rows)
    clips = None
    if keeps_clips:
        clips = ClipCache(
            settings.cache_root / FOLDER,
            views_key(reading),
            limit_bytes=settings.cache_clips_bytes,
        )
        clips.open()
    return Remembered(
        items=PackedItems(
            items, fingerprints=fingerprints if is_indexed or keeps_clips else None, rows=wanted
        ),
        known=quarantine.known(items, wanted, reading, reading_key=reading_key),
        index_root=settings.cache_root / "index" if is_indexed else None,
        clips=clips,
    )


def views_key(reading: Reading) -> str:
    """Name all of a reading that decides the views it gives, before normalisation."""
    facts = reading_facts(reading)
    facts["input"] = {
        name: value for name, value in asdict(reading.input).items() if name not in _NORMALISATION
    }
    return digest_json(facts)
