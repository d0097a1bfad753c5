"""What is reported of the machine, and of what is installed."""

import platform
from pathlib import Path

import pytest

from nstx.engine.devices.machine import describe_machine, has_bf16_units, is_there, package_versions

TWO_PROCESSORS = """\
processor\t: 0
model name\t: Some CPU @ 2.00GHz: fast
flags\t\t: fpu sse avx2 {flags}
vmx flags\t: vnmi
power management:

processor\t: 1
model name\t: Another CPU
flags\t\t: fpu amx_bf16
"""


@pytest.mark.parametrize(
    ("text", "processor", "bf16"),
    [
        (TWO_PROCESSORS.format(flags=""), "Some CPU @ 2.00GHz: fast (avx2)", False),
        (TWO_PROCESSORS.format(flags="avx512f"), "Some CPU @ 2.00GHz: fast (avx512f)", False),
        (
            TWO_PROCESSORS.format(flags="avx512f avx512_bf16"),
            "Some CPU @ 2.00GHz: fast (avx512_bf16)",
            True,
        ),
        (TWO_PROCESSORS.format(flags="amx_bf16"), "Some CPU @ 2.00GHz: fast (avx2)", True),
        (TWO_PROCESSORS.format(flags="avx512_bf16x"), "Some CPU @ 2.00GHz: fast (avx2)", False),
        ("model name\t: Old\nflags\t\t: fpu\n", "Old", False),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", platform.machine(), False),
        ("", platform.machine(), False),
        (None, platform.machine(), False),
    ],
)
def test_the_first_processor_counts(
    tmp_path: Path, text: str | None, processor: str, bf16: bool
) -> None:
    file = tmp_path / "cpuinfo"
    if text is not None:
        file.write_text(text)
    assert describe_machine(file)["processor"] == processor
    assert has_bf16_units(file) is bf16


def test_packages_are_looked_for_without_being_imported() -> None:
    assert is_there("numpy")
    assert not is_there("no_such_package")
    assert not is_there("no_such_package.within")


def test_versions_are_those_of_what_is_installed() -> None:
    versions = package_versions()
    assert versions["numpy"]
    assert {"matplotlib", "av"} <= set(versions)
