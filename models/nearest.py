"""The name that somebody probably meant."""

from collections.abc import Iterable


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of ``names`` that is written nearly as ``name`` is, or None."""
    from difflib import get_close_matches

    by_lower_case = {candidate.lower(): candidate for candidate in names}
    # Longer ones are no mistyped names, and take the square of their length.
    near = get_close_matches(name.lower()[:64], by_lower_case, n=1)
    return by_lower_case[near[0]] if near else None
