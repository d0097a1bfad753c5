"""Names of results: filled into a template, safe on every system, distinct, and within their folder."""

import re
import string
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from nstx.models.errors import UsageError
from nstx.models.printable import UNSAFE, printable, safe_name
from nstx.models.values import describe

from ..pictures.writing import SUFFIXES
from ..targets.paintings import split_painting

TEMPLATE = "{content}_{style}.png"
FIELDS = ("content", "style", "index", "size", "preset")
"""What a template may have in braces."""

WORK = ".nstx-jobs"
"""The folder, beside the results, of what belongs to the batch."""

_LONGEST_PART, _LONGEST = 200, 1000  # bytes of a part of a name, and of all of it
_FORMAT = re.compile(r"[<>^]?\d{0,3}(\.\d{1,3})?[ds]?")
"""Of a field; a longer width would fill memory before it is no name."""

# What Windows has no names of, besides what is not printable.
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?$")


def check_template(template: str) -> str:
    """Return a template of names; `UsageError` if it has other fields, or no suffix of a picture."""
    try:
        parts = list(string.Formatter().parse(template))
        if not all(_FORMAT.fullmatch(spec or "") for _, _, spec, _ in parts):
            raise ValueError
        names = [field for _, field, _, _ in parts if field is not None]
        filled = _fill(template, {**dict.fromkeys(FIELDS, "x"), "index": 1})
        is_plain = all(conversion is None for _, _, _, conversion in parts)
    except (ValueError, LookupError, AttributeError, TypeError):
        names, filled, is_plain = [], "", False
    unknown = [name for name in names if name not in FIELDS]
    if unknown or not is_plain or not filled:
        raise UsageError(
            f"expected a template of names with {', '.join(f'{{{name}}}' for name in FIELDS)}, got "
            f"{describe(template)}; try '{TEMPLATE}'",
            setting="name",
        )
    check_name(filled)
    return template


def fill_name(template: str, fields: Mapping[str, str | int]) -> str:
    """Return a template with what a job has for its fields, made safe; `UsageError` if that is no name."""
    safe = {
        name: value if isinstance(value, int) else safe_name(value)
        for name, value in fields.items()
    }
    return check_name(_fill(template, safe))


def _fill(template: str, fields: Mapping[str, str | int]) -> str:
    return string.Formatter().vformat(template, (), fields)


def check_name(name: str) -> str:
    """Return a result's name, relative to the folder, with ``/`` between its parts; `UsageError` if it cannot be."""
    path = PurePosixPath(name)
    parts = name.split("/")
    is_safe = all(
        part == part.strip(" ")
        and not part.startswith(".")
        and not part.endswith(".")
        and not UNSAFE.search(part)
        and not _RESERVED.match(part)
        and part.isprintable()
        and 0 < len(part.encode("utf-8", "replace")) <= _LONGEST_PART
        for part in parts
    )
    if not is_safe or len(name.encode("utf-8", "replace")) > _LONGEST:
        raise UsageError(
            f"expected a result's name within its folder, of parts of at most {_LONGEST_PART} bytes that any system "
            f"takes, got '{printable(name)[:80]}'; try 'out.png'"
        )
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"expected a result's name that ends in {', '.join(SUFFIXES)}, got '{printable(name)[:80]}'; "
            "try 'out.png'"
        )
    return name


def check_names(names: Sequence[str]) -> None:
    """Check that names are distinct, whatever a system makes of their case and accents; `UsageError` if not."""
    seen: dict[str, str] = {}
    for name in names:
        key = unicodedata.normalize("NFC", name).casefold()
        if key in seen:
            raise UsageError(
                f"expected results of different names, got {printable(name)} for two jobs; "
                "try --name '{index:04}_{content}_{style}.png'",
                setting="name",
            )
        seen[key] = name
    for key, name in seen.items():
        for parent in list(PurePosixPath(key).parents)[:-1]:
            if str(parent) in seen:
                raise UsageError(
                    f"expected results and folders of different names, got {printable(seen[str(parent)])}, and "
                    f"{printable(name)} in it; try another name for one of them",
                    setting="name",
                )


def place_of(folder: Path, name: str) -> Path:
    """Return where a result goes; `UsageError` if a link leads it out of its folder."""
    path = folder / check_name(name)
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            f"expected results within {printable(folder)}, got {printable(name)}, which a link leads out of it; "
            "try another name"
        )
    return path


def style_name(paths: Iterable[Path]) -> str:
    """Return what stands for styles, whose paths may name layers and masks, in a name."""
    return "+".join(_stem(path) for path in paths)


def _stem(path: Path) -> str:
    named = split_painting(path)
    return path.stem if named.mask is None else Path(named.file).stem
