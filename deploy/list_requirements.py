"""Print what pyproject.toml asks for, a line each, so that an image has it in a layer apart from nstx.

python deploy/list_requirements.py serve,ray          nstx's requirements and those of these extras
python deploy/list_requirements.py --only serve,ray   those of the extras alone
"""

import argparse
import tomllib
from pathlib import Path


def list_requirements(project: Path, extras: list[str], *, only: bool) -> list[str]:
    """Return requirements as pip reads them; KeyError of an extra that there is not."""
    table = tomllib.loads(project.read_text())["project"]
    requirements = [] if only else list(table["dependencies"])
    for extra in extras:
        requirements += table["optional-dependencies"][extra]
    return requirements


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("extras", nargs="?", default="", help="extras, with commas between them")
    parser.add_argument("--only", action="store_true", help="those of the extras alone")
    chosen = parser.parse_args()
    names = [name for name in chosen.extras.split(",") if name]
    print("\n".join(list_requirements(Path("pyproject.toml"), names, only=chosen.only)))
