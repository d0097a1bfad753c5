"""The command line: one module per command; parse, configure, one library call, render.

Nothing is imported here: `main` is what the shell calls, and an interrupt during the imports of a
command is to be as quiet as any other.
"""


def main() -> None:
    """Run the command line and exit with its code."""
    import gc
    import sys

    try:
        from .app import run

        code = run()
    except KeyboardInterrupt:
        code = 130
    # The process ends, and its memory with it: nothing is gained by a search for garbage (`.garbage`).
    gc.freeze()
    sys.exit(code)
