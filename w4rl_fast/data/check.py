"""Does every byte of a store still say what was written?"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from w4rl_fast.data.cache import cache_folders, check_cache
from w4rl_fast.data.index import SegmentEntry, read_index
from w4rl_fast.data.pending import SUFFIX, load_pending
from w4rl_fast.data.segment import Segment, digest_of, is_rows, read_checksums
from w4rl_fast.errors import UserError


@dataclass(frozen=True, slots=True)
class Damage:
    """One file that is not what was written, and the episodes it may have taken with it."""

    file: str
    what: str
    episodes: tuple[str, ...]


@dataclass(slots=True)
class Report:
    """What `w4rl data check` found; notes are harmless."""

    episodes: int = 0
    rows: int = 0
    files: int = 0
    damage: list[Damage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_store(path: Path) -> Report:
    """Read every file of a store and compare it with its checksum; every file that differs names its episodes."""
    report = Report()
    try:
        index = read_index(path)
    except UserError as error:
        if not (path / "store.json").exists():
            raise
        report.damage.append(Damage("store.json", error.rule, ("all",)))
        return report
    for entry in index.segments:
        report.episodes += entry.episodes
        report.rows += entry.rows
        report.damage += check_segment(path, entry, report)
    for file in sorted((path / "pending").glob("*" + SUFFIX)):
        report.files += 1
        try:
            report.rows += len(load_pending(file))
            report.episodes += 1
        except UserError as error:
            report.damage.append(Damage(f"pending/{file.name}", error.rule, (file.name.removesuffix(SUFFIX),)))
    for folder in cache_folders(path / "cache"):
        report.damage += [Damage(f"cache/{folder.name}/{name}", what, ()) for name, what in check_cache(folder)]
    counted = {entry.name for entry in index.segments}
    leftovers = [f for f in (path / "segments").glob("*") if f.name not in counted]
    if leftovers:
        report.notes.append(f"{len(leftovers)} folder(s) of an interrupted append; the next collect removes them")
    return report


def check_segment(path: Path, entry: SegmentEntry, report: Report) -> Iterator[Damage]:
    """Damage in one sealed segment."""
    place = f"segments/{entry.name}"
    folder = path / place
    everything = (f"all {entry.episodes} episodes of segment {entry.name}",)
    report.files += 1
    try:
        table = read_checksums(folder, entry.digest)
    except UserError as error:
        yield Damage(f"{place}/checksums.json", error.rule, everything)
        return
    wrong = [name for name, digest in table.items() if not intact(folder / name, digest)]
    report.files += len(table)
    readable = all(is_rows(name) for name in wrong)
    for name in wrong:
        what = "its bytes differ from those that were sealed" if (folder / name).exists() else "it is missing"
        named = tuple(episodes_in(Segment(folder), name)) if readable else everything
        yield Damage(f"{place}/{name}", what, named)


def intact(file: Path, digest: str) -> bool:
    return file.is_file() and digest_of(file) == digest


def episodes_in(segment: Segment, name: str) -> Iterator[str]:
    """The episodes of a damaged file of rows that cannot be decoded; if all can, every episode that lies in it."""
    array = name.split("/")[1]
    rows_per_file = segment.arrays[array].shards[0]
    number = int(name.split("/c/")[1].split("/")[0])
    first, last = number * rows_per_file, (number + 1) * rows_per_file
    inside = [e for e in range(len(segment.infos)) if segment.rows(e)[0] < last and segment.rows(e)[1] > first]
    broken = [e for e in inside if not decodes(segment, array, e)]
    for episode in broken or inside:
        yield segment.infos[episode].key


def decodes(segment: Segment, array: str, episode: int) -> bool:
    first, last = segment.rows(episode)
    try:
        segment.arrays[array][first:last]
    except Exception:
        return False
    return True
