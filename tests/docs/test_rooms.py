"""The house: the lint notices an import that goes the wrong way, each room has a sign, and nothing grows too long."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.test_names import PACKAGES, tree
from tests.paths import ROOT

MODULE_LINES, FUNCTION_LINES, ARGUMENTS = 300, 60, 7
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
COMMANDS = {
    place.split(" ")[0].replace(":", ".") for place in PROJECT["project"]["entry-points"]["vssl.commands"].values()
}
"""A command has an argument for each of its flags."""
SUBCOMMANDS = [f"vssl_client.commands.gallery.{name}" for name in ("asking", "curating", "filling", "keeping")]
"""Every public function of these modules is a command."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def dotted(file: Path) -> str:
    """The module's name."""
    package = next(name for name, place in PACKAGES.items() if file.is_relative_to(place))
    return ".".join(file.relative_to(PACKAGES[package].parent).with_suffix("").parts).removesuffix(".__init__")


def modules() -> Iterator[Path]:
    for place in PACKAGES.values():
        yield from sorted(place.rglob("*.py"))


def reasoned(node: ast.Module | Function) -> bool:
    """Whether its docstring says why it is so long."""
    return bool(re.search(r"\b(because|reason)\b", ast.get_docstring(node) or ""))


@pytest.fixture(scope="module")
def broken_lint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `make lint` says of a copy in which core imports the server, and one room of core another above it."""
    pytest.importorskip("importlinter")
    copy = tmp_path_factory.mktemp("copy")
    for place in PACKAGES.values():
        shutil.copytree(place, copy / place.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    names = copy / "vssl" / "images" / "names.py"
    names.write_text(names.read_text(encoding="utf-8") + "\nimport vssl_server\nimport vssl.sources.folder\n")
    lint = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(
        lint, cwd=copy, env={**os.environ, "PYTHONPATH": str(copy)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    return " ".join(done.stdout.split())


def test_the_lint_notices_an_import_that_goes_the_wrong_way(broken_lint: str) -> None:
    assert re.search(r"The packages depend on core[^.]* BROKEN", broken_lint)
    assert "vssl.images.names -> vssl_server" in broken_lint
    assert "The rooms of core BROKEN" in broken_lint
    assert "vssl.images.names -> vssl.sources.folder" in broken_lint


def test_no_contract_has_an_exception() -> None:
    assert [
        contract["name"] for contract in PROJECT["tool"]["importlinter"]["contracts"] if "ignore_imports" in contract
    ] == []


@pytest.mark.parametrize("room", sorted(file for file in modules() if file.name == "__init__.py"), ids=dotted)
def test_a_room_says_what_lives_in_it_and_names_what_it_imports(room: Path) -> None:
    sign = ast.get_docstring(tree(room)) or ""
    assert "import" in sign.lower() or "depends on" in sign.lower()
    package, *inner = dotted(room).split(".")
    if len(inner) != 1 or re.search(r"what\s(stands|is)|every", sign):
        return
    found = set()
    for file in room.parent.rglob("*.py"):
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{package}."):
                found.add((node.module or "").split(".")[1])
    assert {name for name in found - set(inner) if not re.search(rf"\b{name}\b", sign)} == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_tests_mirror_the_rooms(package: str) -> None:
    tests = ROOT / "tests" / PACKAGES[package].parent.name
    folders = {file.parent.relative_to(tests) for file in tests.rglob("test_*.py")}
    assert {folder.as_posix() for folder in folders if not (PACKAGES[package] / folder).is_dir()} == set()


def test_a_long_module_says_why() -> None:
    lines = {dotted(file): len(file.read_text(encoding="utf-8").splitlines()) for file in modules()}
    long = {file for file in modules() if lines[dotted(file)] > MODULE_LINES}
    assert [dotted(file) for file in long if not reasoned(tree(file))] == []


def functions() -> Iterator[tuple[str, Function]]:
    for file in modules():
        for node in ast.walk(tree(file)):
            if isinstance(node, Function):
                yield f"{dotted(file)}.{node.name}", node


def is_command(name: str) -> bool:
    return name in COMMANDS or name.rpartition(".")[0] in SUBCOMMANDS


def test_a_long_function_says_why() -> None:
    """Of a command its flags do not count."""
    long = {}
    for name, node in functions():
        first = node.body[0].lineno if is_command(name) else node.lineno
        if (node.end_lineno or 0) - first + 1 > FUNCTION_LINES and not reasoned(node):
            long[name] = (node.end_lineno or 0) - first + 1
    assert long == {}


def test_no_argument_list_is_long() -> None:
    """But for the flags of a command, and for keywords of what is public."""
    many = {}
    for name, node in functions():
        given = [argument.arg for argument in [*node.args.posonlyargs, *node.args.args]]
        public = not node.name.startswith("_") or node.name == "__init__"
        if len(set(given) - {"self", "cls"}) + (0 if public else len(node.args.kwonlyargs)) > ARGUMENTS:
            many[name] = len(given)
    assert {name: count for name, count in many.items() if not is_command(name)} == {}
