"""The command line: one module per command; parse, configure, one library call, render.

Nothing is imported here: `main` is what the shell calls, and an interrupt during the imports of a
command is to be as quiet as any other.
"""


def main() -> None:
    """Run the command line and exit with its code."""
    import sys

    try:
        from .app import run

        code = run()
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
