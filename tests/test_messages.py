"""Every error says what was expected, what there was, and what to try."""

import ast
from pathlib import Path

import pytest

from nstx.models import errors

ROOT = Path(__file__).parents[1]
KINDS = {name for name, kind in vars(errors).items() if isinstance(kind, type)}


def messages(path: Path) -> list[tuple[int, str]]:
    """Return the messages of the errors that a module makes, with "…" for what they insert."""
    calls = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {*KINDS, "error"}
        and node.args
    ]
    texts = [(call.lineno, text_of(call.args[0])) for call in calls]
    return [(line, text) for line, text in texts if text.strip("…")]


def text_of(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(map(text_of, node.values))
    return str(node.value) if isinstance(node, ast.Constant) else "…"


def is_complete(text: str) -> bool:
    """Whether a message has its parts; what is inserted first or last may bring them."""
    if text.startswith("…"):
        return True
    # A picture that was saved elsewhere needs no advice.
    advises = "; try " in text or text.endswith("…") or "was saved as" in text
    return text.startswith("expected ") and " got" in text and advises


@pytest.mark.parametrize("room", ["models", "export", "engine", "cli"])
def test_errors_say_what_was_expected_what_there_was_and_what_to_try(room: str) -> None:
    wrong = {
        f"{path.relative_to(ROOT)}:{line}": text
        for path in sorted((ROOT / room).rglob("*.py"))
        for line, text in messages(path)
        if not is_complete(text)
    }
    assert not wrong
