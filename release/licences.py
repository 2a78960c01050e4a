"""The licences of all that `pip install 'vssl[…]'` brings, from the metadata of what is installed here.

`python -m release.licences` writes docs/licences.md. A licence that is unknown, or that asks something of those who
pass a program on, is refused unless it stands in `NAMED` with the reason why it may be there.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "licences.md"

PERMISSIVE = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python", "ISC", "LLVM-exception",
    "MIT", "MIT-CMU", "PSF-2.0", "Python-2.0", "Unlicense", "ZPL-2.1", "Zlib",
}  # fmt: skip
"""SPDX names of licences that ask for their notice and nothing else."""

SPELLINGS = {
    "apache": "Apache-2.0", "apache 2": "Apache-2.0", "apache 2.0": "Apache-2.0", "apache 2.0 license": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0", "apache software license": "Apache-2.0",
    "dual license": "Apache-2.0 OR BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause", "bsd": "BSD-3-Clause", "bsd license": "BSD-3-Clause",
    "isc license": "ISC", "isc license (iscl)": "ISC", "mit license": "MIT", "the mit license (mit)": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0", "nvidia proprietary software": "LicenseRef-NVIDIA-Proprietary",
    "other/proprietary license": "LicenseRef-NVIDIA-Proprietary", "python software foundation license": "PSF-2.0",
}  # fmt: skip
"""How metadata writes a licence, in small letters, and its SPDX name."""

FILE_BY_FILE = "MPL-2.0 binds its own files alone; we install them as they are"
NVIDIA = (
    "CUDA's libraries, which PyTorch's wheel for Linux names; free to use, not to change; no code of ours links to them"
)
LIBRARY = "LGPL binds changes of the library itself; PostgreSQL's driver comes with the extra `postgres` alone"
NAMED = {
    "certifi": FILE_BY_FILE,
    "orjson": FILE_BY_FILE,
    "tqdm": FILE_BY_FILE,
    "psycopg": LIBRARY,
    "psycopg-binary": LIBRARY,
    "psycopg-pool": LIBRARY,
    "cuda-toolkit": NVIDIA,
}
"""Packages whose licence is not permissive, or that name none, and why they may be there."""

ELSEWHERE = {"mlflow": "Apache-2.0", "onnxruntime-gpu": "MIT"}
"""Packages of an extra that our own environment has in another form: what their metadata says on PyPI."""


@dataclass(frozen=True)
class Licence:
    """Of one package: its SPDX expression, empty if it names none, and the extras of ours that bring it."""

    package: str
    expression: str
    extras: frozenset[str]

    @property
    def reason(self) -> str:
        """Why it may be there although its licence is not permissive; empty where nothing needs a reason."""
        return NAMED.get(self.package, NVIDIA if self.package.startswith("nvidia-") else "")

    @property
    def fault(self) -> str:
        """What is wrong with it, in a line; empty if nothing is."""
        words = set(re.findall(r"[\w.+-]+", self.expression)) - {"AND", "OR", "WITH"}
        unknown = words - PERMISSIVE
        if (words and not unknown) or self.reason:
            return ""
        said = self.expression or "no licence named"
        return f"{self.package}: {said}: read it, then name it in release/licences.py or go without"


def all_licences() -> list[Licence]:
    """Of each package that the default install or an extra for users brings, with what it needs itself, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    found: dict[str, set[str]] = {}
    for extra, lines in groups.items():
        if not extra.startswith("dev"):
            for package in closure(lines):
                found.setdefault(package, set()).add(extra)
    return [Licence(name, expression_of(name), frozenset(extras)) for name, extras in sorted(found.items())]


def closure(lines: list[str]) -> Iterator[str]:
    """The names of all packages that these requirements bring, each once, `vssl` itself left out."""
    waiting, seen = [Requirement(line) for line in lines], set[tuple[str, frozenset[str]]]()
    named = set[str]()
    while waiting:
        wanted = waiting.pop()
        name, extras = canonicalize_name(wanted.name), frozenset(wanted.extras)
        if name == "vssl" or (name, extras) in seen:
            continue  # vssl[parquet] within an extra: its packages stand under their own extra
        seen.add((name, extras))
        if name not in named:
            named.add(name)
            yield name
        if name in ELSEWHERE:
            continue
        for line in metadata.requires(name) or []:
            further = Requirement(line)
            if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                waiting.append(further)


def expression_of(package: str) -> str:
    """The SPDX expression of an installed package, by what its metadata says first: expression, word, classifier."""
    if package in ELSEWHERE:
        return ELSEWHERE[package]
    fields = metadata.metadata(package).json
    classifiers = fields.get("classifier", [])
    trailing = [line.rsplit(" :: ", 1)[1] for line in classifiers if line.startswith("License :: ")]
    for said in (fields.get("license_expression"), fields.get("license"), *trailing):
        text = said if isinstance(said, str) else ""
        if text and len(text) < 200 and "\n" not in text:
            return SPELLINGS.get(text.lower(), text)
    return ""


def as_page(licences: list[Licence]) -> str:
    """docs/licences.md."""
    lines = [
        "# Licences of dependencies",
        "",
        "For whoever passes VSSL on, or must say what is in it: the licence of each package that an install brings.",
        "`python -m release.licences` writes this page from the packages' own metadata. `make release-check` refuses a",
        "licence that is unknown or asks for more than its notice, unless a reason stands here. VSSL's own licence is",
        "Apache-2.0; `NOTICE` names the work of others within it. Versions are in `constraints.txt`.",
        "",
        "The packages are those of CPython 3.11 on Linux for x86-64; of the extra `mlflow`, only the package itself.",
        "A licence is of the package's own code: a wheel may carry libraries with others, whose texts lie in it.",
        "",
        "| package | licence | comes with |",
        "|---|---|---|",
    ]
    for licence in licences:
        extras = (
            "every install" if "" in licence.extras else ", ".join(f"`{extra}`" for extra in sorted(licence.extras))
        )
        lines.append(f"| {licence.package} | {licence.expression or 'none named'} | {extras} |")
    reasons = sorted({licence.reason for licence in licences if licence.reason})
    lines += ["", "## Not permissive, and why they are there", ""]
    for reason in reasons:
        names = ", ".join(licence.package for licence in licences if licence.reason == reason)
        lines += [f"- {reason}:", *wrapped(names)]
    return "\n".join(lines) + "\n"


def wrapped(words: str) -> list[str]:
    """A list of names in lines of at most 110 characters, indented."""
    import textwrap

    return textwrap.wrap(words + ".", 110, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def main() -> int:
    """Write the page; 1 and a line for each package that is refused."""
    licences = all_licences()
    faults = [licence.fault for licence in licences if licence.fault]
    PAGE.write_text(as_page(licences))
    sys.stderr.writelines(f"{fault}\n" for fault in faults)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
