"""Build what would be released, and try it as a stranger gets it: `python -m release.check [--out DIR]`.

In order: licences of dependencies; the workflow file; source distribution and wheel; their metadata and contents; the
wheel in an empty environment, with its own dependencies and then with those of `vssl embed`; a bill of materials of the
latter. The first that fails ends it, with status 1. pip gets packages from where it is told to, with our constraints.
"""

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from release.contents import faults_of_licences, faults_of_source, faults_of_wheel
from release.licences import PAGE, all_licences, as_page

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
"""A checkout on PYTHONPATH would stand in for the wheel."""

COUNT_ROWS = """
import pyarrow.dataset
table = pyarrow.dataset.dataset('embeddings').to_table()
print(table.num_rows, table['embedding'].null_count)
"""


class ReleaseError(Exception):
    """What keeps this tree from being released, and what to do."""


def main() -> int:
    """Check all; 1 and what is wrong if it may not be released."""
    parser = argparse.ArgumentParser(description="Build a release and try it in an empty environment.")
    parser.add_argument("--out", type=Path, help="keep the distributions and the bill of materials in this folder")
    out: Path | None = parser.parse_args().out
    with tempfile.TemporaryDirectory(prefix="vssl-release-") as place:
        try:
            check_licences()
            check_workflow()
            folder = Path(place)
            make_images(folder / "images")
            wheel = build(out or folder / "dist")
            environment = install(wheel, folder)
            embed_two(environment, folder)
            write_bill(environment, wheel.parent)
        except ReleaseError as error:
            sys.stderr.write(f"release: {error}\n")
            return 1
    return 0


def check_licences() -> None:
    """Each dependency's licence may be there, and the page about them is of today."""
    licences = all_licences()
    refuse(licence.fault for licence in licences if licence.fault)
    if PAGE.read_text() != as_page(licences):
        raise ReleaseError("docs/licences.md is not of today's dependencies: python -m release.licences")
    say(f"{len(licences)} dependencies, all with a licence that may be there")


def check_workflow() -> None:
    """The workflow that publishes is well formed, and gives nobody more than they need."""
    run(BIN / "actionlint", WORKFLOW)
    run(BIN / "zizmor", "--offline", "--quiet", "--no-progress", WORKFLOW)
    say("the workflow is clean by actionlint and zizmor")


def build(dist: Path) -> Path:
    """Build the source distribution, and the wheel from it, into an empty folder; check both; the wheel's path."""
    if dist.exists() and any(dist.iterdir()):
        raise ReleaseError(f"{dist}: not empty; what lies there might be published too")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, ROOT)
    wheel, source = next(dist.glob("*.whl")), next(dist.glob("*.tar.gz"))
    run(BIN / "twine", "check", "--strict", wheel, source)
    with zipfile.ZipFile(wheel) as archive:
        refuse([*faults_of_wheel(archive.namelist()), *faults_of_licences(archive.namelist())])
    with tarfile.open(source) as archive:
        refuse(faults_of_source(name.split("/", 1)[1] for name in archive.getnames()))
    for built in (wheel, source):
        say(f"{built.name}: {built.stat().st_size / 2**20:.1f} MiB, holds what it should and no more")
    return wheel


def install(wheel: Path, place: Path) -> Path:
    """Put the wheel alone into a new `venv`, then what `vssl embed` needs besides; its folder of commands."""
    venv.create(place / "venv", with_pip=True)
    commands = place / "venv" / "bin"
    pip = (commands / "pip", "install", "--quiet", "-c", ROOT / "constraints.txt")
    run(*pip, wheel)
    run(commands / "pip", "check")
    run(commands / "vssl", "--help")
    without = subprocess.run(
        embed_in(commands), cwd=place, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    if without.returncode != 2 or "pip install 'vssl[" not in without.stderr:
        raise ReleaseError(f"vssl embed must name its extra, with status 2; {without.returncode}: {without.stderr}")
    say("it installs into an empty environment, and names the extra that a command needs")
    run(*pip, f"{wheel}[server,parquet]")
    run(commands / "pip", "check")
    return commands


def make_images(folder: Path) -> None:
    """Two small images."""
    folder.mkdir()
    for name, colour in (("red.png", "red"), ("blue.jpg", "blue")):
        Image.new("RGB", (64, 48), colour).save(folder / name)


def embed_in(commands: Path) -> list[str]:
    """The command that embeds them."""
    return [str(commands / "vssl"), "embed", "images", "-o", "embeddings", "--strict", "--quiet"]


def embed_two(commands: Path, place: Path) -> None:
    """Two images become two rows, by the default model of the installed wheel."""
    run(*embed_in(commands), cwd=place)
    if run(commands / "python", "-c", COUNT_ROWS, cwd=place).split() != ["2", "0"]:
        raise ReleaseError("vssl embed of two images did not write two rows")
    say("vssl embed works there")


def write_bill(commands: Path, dist: Path) -> None:
    """The bill of materials (CycloneDX 1.6, JSON) of what `pip install 'vssl[server,parquet]'` brings, into `dist`."""
    bill = dist / "vssl.cdx.json"
    run(commands / "pip", "uninstall", "--quiet", "--yes", "pip", "setuptools")  # they made it, they are no part of it
    run(
        BIN / "cyclonedx-py", "environment", "--output-reproducible", "--spec-version", "1.6",
        "--pyproject", ROOT / "pyproject.toml", "--output-file", bill, commands / "python",
    )  # fmt: skip
    say(f"{bill.name}: {bill.stat().st_size / 2**10:.0f} KiB")


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """The standard output of a command that succeeds.

    Raises:
        ReleaseError: it fails; the message has what it said.
    """
    words = [str(part) for part in command]
    done = subprocess.run(words, cwd=cwd or ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError(f"{' '.join(words)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def refuse(faults: Iterable[str]) -> None:
    """Raise `ReleaseError` with these lines, if there are any."""
    lines = list(faults)
    if lines:
        raise ReleaseError("\n".join(lines))


def say(line: str) -> None:
    """One line of progress."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
