"""``nstx cache``: what is kept, whether it is sound, and getting rid of it."""

import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nstx.models.errors import OutputError, UsageError, about
from nstx.models.printable import printable
from nstx.models.storage.cache import (
    CACHE_KINDS,
    cache_limit,
    check_cache_folder,
)
from nstx.models.values import describe, parse_bytes

from ..console import Console
from ..errors.exits import failure_json
from ..formats import format_bytes, format_count
from ..grouped import Help, grouped
from ..lazy import CommandGroup
from ..options import shared as options

if TYPE_CHECKING:
    from nstx.engine.cache import CacheEntry
    from nstx.models.storage.cache import FolderEntry

app = typer.Typer(
    cls=CommandGroup,
    add_completion=False,
    no_args_is_help=True,
    help="Look at, check and empty the folder of what is computed once.",
)

Kind = Annotated[
    str | None,
    Help(
        "Only targets, weights, sessions (ONNX graphs), tensorrt (engines), places (of files that were read) or "
        "checkpoints (of long runs).",
        values=CACHE_KINDS,
    ),
]

_UNITS = {"h": 3_600, "d": 86_400, "w": 604_800}


@app.command("ls")
@grouped
def list_entries(kind: Kind = None, *, shown: options.Output) -> None:
    """List what is kept, with sizes, ages and what each entry is of."""
    from nstx.engine.cache import check_kind, list_cache, resolved_folder

    console = shown.console()
    limit = cache_limit()
    chosen = check_kind(kind)
    check_cache_folder()
    entries = list_cache(chosen)
    data = {
        "folder": str(resolved_folder()),
        "bytes": sum(entry.size_bytes for entry in entries),
        "limit_bytes": limit,
        "entries": [_entry_json(entry) for entry in entries],
    }
    lines = [*_table(entries), _totals(entries, limit)]
    console.result(data, lambda shown: "\n".join([shown["folder"], *lines]))


@app.command()
@grouped
def verify(
    remove: Annotated[bool, Help("Remove what is damaged.")] = False, *, shown: options.Output
) -> None:
    """Check every entry against its checksum; exit with 1 if one is damaged.

    A damaged entry is never used: it is found when it is read, and computed again.
    """
    from nstx.engine.cache import list_cache, remove_entries, verify_cache

    console = shown.console()
    check_cache_folder()
    entries = list_cache()
    with console.counting("checking", len(entries)) as advance:
        damaged = verify_cache(entries, lambda entry: advance(entry.kind))
    removed = remove_entries(damaged) if remove else []
    data = {
        "checked": len(entries),
        "damaged": [_entry_json(entry) for entry in damaged],
        "removed": [str(path) for path in removed],
    }
    more = f", {len(removed)} removed" if remove else "; try --remove"
    console.result(data, lambda shown: _describe_check(shown) + (more if damaged else ""))
    if damaged:
        raise typer.Exit(1)


def _describe_check(data: dict[str, Any]) -> str:
    text = "".join(f"DAMAGED    {entry['path']}\n" for entry in data["damaged"])
    checked = format_count(data["checked"], "entry")
    return f"{text}{checked} checked, {len(data['damaged'])} damaged"


@app.command()
@grouped
def prune(
    max_size: Annotated[
        str | None,
        Help(
            "Keep the latest used of everything within this size, such as 500MB; without it, "
            "targets and checkpoints each within NSTX_CACHE_LIMIT, which is 2 GiB if it is not set."
        ),
    ] = None,
    older_than: Annotated[
        str | None, Help("Also remove what was not used for 12h, 30d or 8w.")
    ] = None,
    *,
    shown: options.Output,
) -> None:
    """Remove what has not been used for the longest, and what killed processes left behind."""
    from nstx.engine.cache import prune_cache

    console = shown.console()
    with about("max_size"):
        size = None if max_size is None else parse_bytes("--max-size", max_size)
    age = None if older_than is None else _parse_age(older_than)
    check_cache_folder()
    _print_removed(console, prune_cache(most_bytes=size, unused_seconds=age))


@app.command()
@grouped
def clear(kind: Kind = None, *, shown: options.Output) -> None:
    """Remove everything that is kept. It is computed again when it is needed."""
    from nstx.engine.cache import check_kind, clear_cache

    console = shown.console()
    chosen = check_kind(kind)
    check_cache_folder()
    removed, stuck = clear_cache(chosen)
    failure = _cannot_remove(stuck) if stuck else None
    _print_removed(console, removed, **failure_json(failure))
    if failure is not None:
        raise failure


def _cannot_remove(stuck: "Sequence[FolderEntry]") -> OutputError:
    return OutputError(
        f"expected to remove all entries, got {format_count(len(stuck), 'entry')} that cannot be "
        f"removed, such as {printable(stuck[0].path)}; try to change the folder's permissions"
    )


def _print_removed(console: Console, removed: "Sequence[FolderEntry]", **more: Any) -> None:
    from nstx.engine.cache import cache_bytes

    freed, left = sum(entry.size_bytes for entry in removed), cache_bytes()
    text = f"{format_count(len(removed), 'entry')} removed"
    text += f", {format_bytes(freed)} freed, {format_bytes(left)} left"
    paths = [str(entry.path) for entry in removed]
    data = {"removed": paths, "freed_bytes": freed, "left_bytes": left, **more}
    console.result(data, lambda _: text)


def _parse_age(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([hdw])", text.strip().lower())
    if match is None:
        raise UsageError(
            f"expected an age for --older-than, got {describe(text)}; try 12h, 30d or 8w",
            setting="older_than",
        )
    return float(match[1]) * _UNITS[match[2]]


def _entry_json(entry: "CacheEntry") -> dict[str, Any]:
    age = max(0.0, time.time() - entry.used)
    return {**asdict(entry), "path": str(entry.path), "age_seconds": round(age, 1)}


def _table(entries: Sequence["CacheEntry"]) -> list[str]:
    """Return a line for each entry; the layers of a picture at one size share one."""
    rows: dict[tuple[str, str], list[CacheEntry]] = {}
    for entry in entries:
        rows.setdefault(_name(entry), []).append(entry)
    lines = [f"  {'size':>9}  {'last used':<12} what"] if rows else []
    for (what, how), group in rows.items():
        size = format_bytes(sum(entry.size_bytes for entry in group))
        used = _format_age(time.time() - max(entry.used for entry in group))
        layers = ", ".join(sorted({entry.of["layer"] for entry in group if "layer" in entry.of}))
        # What entries say of themselves may come from others, who share the folder.
        name = printable(" ".join(filter(None, (what, layers, how))))
        lines.append(f"  {size:>9}  {used:<12} {name}")
    return lines


def _name(entry: "CacheEntry") -> tuple[str, str]:
    """Return the text before and after the layers; entries with equal texts share a line."""
    of = entry.of
    if not of:
        return f"{entry.kind} {entry.path.name}", "(damaged or of another release)"
    if entry.kind == "targets":
        statistic = {"gram": " Gram", "moments": " moments"}.get(of["statistic"], "")
        how = f"({of['pooling']}, {of['computed_by']}, weights {of['weights'][:8]}…)"
        return f"{of['path']} {of['width']}×{of['height']}{statistic}", how
    if entry.kind == "sessions":
        activations = of.get("activations") or of.get("content_layers")
        grams = of.get("grams") or of.get("style_layers")
        moments = of.get("moments")
        parts = (activations, grams and f"Gram {grams}", moments and f"moments {moments}")
        what = ", ".join(filter(None, parts))
        if "gradient" in of:
            what = f"{'the gradient' if of['gradient'] == 'true' else 'the cost'} of {what}"
        return f"graph of {what}", f"({of.get('pooling')}, {of.get('pool_rounding')})"
    if entry.kind == "weights":
        return f"weights {of['weights'][:8]}…", "as float32"
    if entry.kind == "checkpoints":
        return f"checkpoint of {of['output']} {of['width']}×{of['height']}", ""
    if entry.kind == "places":
        return f"the place of {of['path']}", ""
    return f"TensorRT engines {entry.path.name}", ""


def _totals(entries: Iterable["CacheEntry"], limit: int) -> str:
    counts, sizes = Counter[str](), Counter[str]()
    for entry in entries:
        counts[entry.kind] += 1
        sizes[entry.kind] += entry.size_bytes
    bound = dict.fromkeys(("targets", "checkpoints"), f" (of at most {format_bytes(limit)})")
    parts = [
        f"{n} {kind} {format_bytes(sizes[kind])}{bound.get(kind, '')}" for kind, n in counts.items()
    ]
    return ", ".join(parts) or "nothing is kept"


def _format_age(seconds: float) -> str:
    for name, unit in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= unit:
            return f"{seconds // unit:.0f} {name} ago"
    return f"{max(0, seconds):.0f} s ago"
