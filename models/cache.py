"""Where nstx keeps what it computes once: ``NSTX_CACHE_DIR``, or the platform's place for caches."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder of the cache; it need not exist yet."""
    chosen = os.environ.get("NSTX_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("nstx", appauthor=False)
