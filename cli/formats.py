"""Numbers and names as a person reads them."""

import math


def format_count(count: int, noun: str) -> str:
    """Write a number of things: ``1 picture``, ``2 pictures``, ``3 entries``."""
    if count != 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count} {noun}"


def format_cost(value: float) -> str:
    """Write a cost with three significant digits: ``1.75e+07``."""
    return f"{value:.2e}" if value and not math.isclose(value, 0) else "0"


def format_bytes(count: int) -> str:
    """Write a number of bytes as GiB, MiB or KiB."""
    if count < 2**20:
        return f"{count / 2**10:.0f} KiB"
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def format_minutes(seconds: float) -> str:
    """Write an estimate of a time, as ``about 40 s``, ``about 3 min`` or ``about 2.5 h``."""
    if seconds < 90:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def format_seconds(seconds: float) -> str:
    """Write a time as ``12.3 s`` or ``2 min 05 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
