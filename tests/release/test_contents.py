"""What hatchling would put into a wheel and a source distribution, without building them; the slow test builds both."""

import subprocess
import sys
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

from release.contents import NEEDED, SOURCE_FILES, faults_of_licences, faults_of_source, faults_of_wheel
from tests.paths import ROOT


def test_the_wheel_holds_what_it_should() -> None:
    names = [file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()]
    assert faults_of_wheel(names) == []


def test_the_source_distribution_holds_what_builds_the_wheel() -> None:
    names = {file.distribution_path for file in SdistBuilder(str(ROOT)).recurse_included_files()}
    assert faults_of_source(names | {"LICENSE", "pyproject.toml"}) == []  # hatchling adds these two when it builds


@pytest.mark.parametrize(
    "name",
    [
        "tests/test_x.py",
        "vssl/tests/test_x.py",
        "vssl/__pycache__/cli.cpython-311.pyc",
        "vssl/notes.txt",
        "benchmarks/x.py",
    ],
)
def test_what_has_no_place_in_a_wheel_is_named(name: str) -> None:
    (fault,) = faults_of_wheel([*NEEDED, name])
    assert fault.startswith(name)


def test_what_is_missing_is_named() -> None:
    assert [fault.split(":")[0] for fault in faults_of_wheel(NEEDED[1:])] == [NEEDED[0]]
    assert len(faults_of_licences(["vssl-1.dist-info/licenses/LICENSE"])) == 1
    inside = [
        ("core/" if name.startswith("vssl/") else name.split("/")[0].removeprefix("vssl_") + "/") + name
        for name in NEEDED
    ]
    assert [fault.split(":")[0] for fault in faults_of_source([*SOURCE_FILES, *inside, "demo/x.zip"])] == ["demo/x.zip"]


@pytest.mark.slow
def test_a_stranger_can_install_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "release.check", "--out", tmp_path / "dist"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.suffix for path in (tmp_path / "dist").iterdir()) == [".gz", ".json", ".whl"]
