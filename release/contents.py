"""What a wheel and a source distribution may hold, and what they must."""

from collections.abc import Iterable
from pathlib import PurePosixPath

PACKAGES = ("vssl", "vssl_client", "vssl_export", "vssl_gallery", "vssl_server", "vssl_training")

CODE = {".py", ".typed"}
"""Suffixes that may be anywhere in a package."""

DATA = {
    "vssl/bundle/default_model": {".json", ".onnx", ".f16", ".f32", ".md"},
    "vssl/bundle/tiny_model": {".json", ".onnx", ".f32", ".md"},
    "vssl_server/page/static": {".js", ".css", ".html", ".svg"},
    "vssl_server/page/static/vendor": {".js", ".txt"},
    "vssl_training/recipe/recipes": {".yaml", ".txt"},
    "vssl_training/report": {".html"},
}
"""Suffixes of other files, by their folder."""

NEEDED = (
    *(f"{package}/{name}" for package in PACKAGES for name in ("__init__.py", "py.typed")),
    *(
        f"vssl/bundle/{model}/{name}"
        for model in ("default_model", "tiny_model")
        for name in ("manifest.json", "model.onnx")
    ),
    "vssl/bundle/default_model/familiarity.f16",
    "vssl_server/page/static/index.html",
    "vssl_server/page/static/vendor/LICENSE-htm.txt",
    "vssl_server/page/static/vendor/LICENSE-preact.txt",
    "vssl_training/recipe/recipes/quick.yaml",
)
"""Files without which the wheel does not do what the documentation says."""

SOURCE_FILES = {
    "pyproject.toml",
    "PKG-INFO",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "NOTICE",
    "constraints.txt",
    ".gitignore",
}
"""What a source distribution holds beside the packages: what builds the wheel."""

SOURCE_FOLDERS = {"vssl": "core", **{package: package.removeprefix("vssl_") for package in PACKAGES[1:]}}
"""Where each package lies in the repository."""


def faults_of_wheel(names: Iterable[str]) -> list[str]:
    """What is wrong with a wheel that holds files of these names, a sentence each; [] if nothing is."""
    held = set(names)
    faults = [f"{name}: the wheel must hold it" for name in NEEDED if name not in held]
    for name in sorted(held):
        path = PurePosixPath(name)
        if path.parts[0].endswith(".dist-info"):
            continue
        if path.parts[0] not in PACKAGES or "tests" in path.parts or "__pycache__" in path.parts:
            faults.append(f"{name}: no place in a wheel")
        elif path.suffix not in CODE | DATA.get(str(path.parent), set()):
            faults.append(f"{name}: no code, and not named in release/contents.py")
    return faults


def faults_of_licences(names: Iterable[str]) -> list[str]:
    """The licence texts that a finished wheel lacks, a sentence each."""
    held = {"/".join(PurePosixPath(name).parts[1:]) for name in names if ".dist-info/" in name}
    return [
        f"{name}: the wheel must hold it under .dist-info"
        for name in ("licenses/LICENSE", "licenses/NOTICE")
        if name not in held
    ]


def faults_of_source(names: Iterable[str]) -> list[str]:
    """What is wrong with a source distribution; names are relative to its one folder. Packages are as in a wheel."""
    held = set(names)
    packages = {folder: package for package, folder in SOURCE_FOLDERS.items()}
    faults = [
        f"{name}: the source distribution must hold it" for name in ("pyproject.toml", "LICENSE") if name not in held
    ]
    inside = []
    for name in sorted(held - SOURCE_FILES):
        folder, _, rest = name.partition("/")
        if rest.split("/")[0] == packages.get(folder):
            inside.append(rest)
        else:
            faults.append(f"{name}: nothing builds the wheel from it")
    return faults + faults_of_wheel(inside)
