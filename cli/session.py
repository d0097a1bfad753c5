"""What one command line has promised and done, from before its console is there until its end."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Session:
    """One command line's state, which `nstx.cli.errors.run_app` begins anew.

    Attributes:
        as_json: stdout gets one JSON object, whether the command ends well or not.
        answered: that object is out, or what is to be said of a failure is.
        warnings: what is to be said as soon as there is a console.
        context: typer's, of the command that was called with its options; None before that.
    """

    as_json: bool = False
    answered: bool = False
    warnings: list[str] = field(default_factory=list)
    context: Any = None

    def begin(self, *, as_json: bool) -> None:
        """Forget the last command line, if there was one in this process."""
        self.as_json, self.answered, self.context = as_json, False, None
        self.warnings.clear()


session = Session()
