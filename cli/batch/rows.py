"""Files of jobs: a row a job, in CSV or as a line of JSON, read strictly."""

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nstx.models.errors import NstxError, UsageError
from nstx.models.printable import printable
from nstx.models.storage.inputs import read_input
from nstx.models.storage.plain_data import parse_json
from nstx.models.values import describe, suggest

from ..configuration.defaults import check_value
from ..grouped import Option

SUFFIXES = (".csv", ".jsonl")
_MOST_BYTES, _MOST_ROWS = 1 << 28, 1_000_000
_MOST_COLUMNS = 1000
_PICTURES = ("content", "style", "targets", "output")
_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")
BETWEEN = ";"
"""What separates several values in a cell of CSV."""


class Row(NamedTuple):
    """A job of a file: its pictures, or a targets file, and options by their names."""

    line: int
    content: str | None
    styles: tuple[str, ...]
    output: str | None
    options: Mapping[str, object]
    targets: str | None = None


def read_rows(path: Path, options: Mapping[str, Option]) -> Iterator[Row]:
    """Yield the jobs of a file; options are those that a row may have.

    `UsageError` names the line that cannot be.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(
            f"expected a file of jobs that ends in {' or '.join(SUFFIXES)}, got {printable(path)}; try jobs.csv",
            setting="jobs",
        )
    data = read_input(path, kind="a file of jobs", most_bytes=_MOST_BYTES, error=UsageError)
    count = 0
    for line, fields in (_read_csv if suffix == ".csv" else _read_jsonl)(data, path):
        with in_line(path, line):
            yield _make_row(line, fields, options)
        count += 1
        if count > _MOST_ROWS:
            raise UsageError(
                f"expected at most {_MOST_ROWS} jobs in {printable(path)}, got more; try several files"
            )
    if not count:
        raise UsageError(f"expected jobs in {printable(path)}, got none; try a row for each")


class in_line:  # noqa: N801  (used as a function)
    """Name the line of a file in errors of a block."""

    def __init__(self, path: Path, line: int) -> None:
        self._where = f"line {line} of {printable(path)}"

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Turn an error of nstx's, or of plain data, into one that names the line."""
        if isinstance(error, NstxError | ValueError | csv.Error):
            advice = "" if "; try " in str(error) else "; try mending that line"
            raise UsageError(
                f"expected a job in {self._where}, got: {printable(error)}{advice}"
            ) from error


def _read_csv(data: bytes, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    text = _decode(data, path)
    with in_line(path, 1):
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, restkey="")
        names = reader.fieldnames or []
        if len(set(names)) != len(names) or not names or len(names) > _MOST_COLUMNS:
            raise ValueError(f"no names of columns, or one twice, or more than {_MOST_COLUMNS}")
    line = 1
    while True:
        with in_line(path, line + 1):
            row = next(reader, None)
            if row is not None and None in row.values():
                raise ValueError("fewer values than columns")
            if row is not None and "" in row:
                raise ValueError("more values than columns")
        if row is None:
            return
        line = reader.line_num
        yield line, {name: value for name, value in row.items() if value != ""}


def _decode(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        with in_line(path, data.count(b"\n", 0, error.start) + 1):
            raise ValueError("bytes that are no UTF-8") from error
        raise


def _read_jsonl(data: bytes, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in enumerate(data.split(b"\n"), 1):
        if not text.strip():
            continue
        with in_line(path, line):
            row = parse_json(text.removeprefix(b"\xef\xbb\xbf") if line == 1 else text)
            if not isinstance(row, dict):
                raise ValueError("no object of JSON")  # noqa: TRY004  (as all of plain data)
        yield line, row


def _make_row(line: int, fields: Mapping[str, Any], options: Mapping[str, Option]) -> Row:
    values: dict[str, Any] = {}
    for written, value in fields.items():
        name = written.strip().replace("-", "_")
        name = "style" if name == "styles" else name
        known = (*_PICTURES, *options)
        if name not in known:
            raise UsageError(
                f"expected names of options, got {describe(written)}; try {suggest(name, known, 'content')}"
            )
        if name in values:
            raise ValueError(f"{name!r} comes twice")
        if value is not None:
            values[name] = value
    content, output, targets = (
        _take_text(values.pop(name, None), name) for name in ("content", "output", "targets")
    )
    styles = values.pop("style", ())
    if isinstance(styles, str):
        styles = [part.strip() for part in styles.split(BETWEEN)] if BETWEEN in styles else [styles]
    if not isinstance(styles, list | tuple) or not all(
        isinstance(item, str) and item and "\0" not in item for item in styles
    ):
        raise ValueError("'style' is neither a text nor a list of them")
    if targets is not None and (content is not None or styles):
        raise ValueError("'targets' stands beside 'content' or 'style'")
    if content is None and targets is None:
        raise ValueError("there is no 'content'")
    chosen = {name: _convert(name, value, options[name]) for name, value in values.items()}
    if not styles and "style_for" not in chosen and targets is None:
        raise ValueError("there is no 'style'")
    return Row(line, content, tuple(styles), output, chosen, targets)


def _take_text(value: Any, name: str) -> str | None:
    if value is None or (isinstance(value, str) and value and "\0" not in value):
        return value
    raise ValueError(f"{name!r} is no text")


def _convert(name: str, value: Any, option: Option) -> object:
    """Return a value as its option takes it, from the text of a cell, or as JSON has it."""
    if isinstance(value, str) and option.repeated:
        value = [part.strip() for part in value.split(BETWEEN)]
    elif isinstance(value, str) and option.kind not in (str, Path):
        value = _parse(value.strip(), option.kind)
    taken = check_value(value, option, name)
    return Path(taken) if option.kind is Path and isinstance(taken, str) else taken


def _parse(text: str, kind: type) -> object:
    if kind is bool and text.lower() in (*_TRUE, *_FALSE):
        return text.lower() in _TRUE
    try:
        return int(text) if kind is int else float(text) if kind is float else text
    except ValueError:
        return text
