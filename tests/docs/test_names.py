"""Names of our code and texts of our messages, as pages quote them, are in the code: looked up in its syntax trees."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, name_of
from tests.paths import ROOT

PACKAGES = {
    "vssl": ROOT / "core" / "vssl",
    "vssl_gallery": ROOT / "gallery" / "vssl_gallery",
    "vssl_client": ROOT / "client" / "vssl_client",
    "vssl_server": ROOT / "server" / "vssl_server",
    "vssl_training": ROOT / "training" / "vssl_training",
    "vssl_export": ROOT / "export" / "vssl_export",
}
NAME = re.compile(rf"`((?:{'|'.join(PACKAGES)})(?:\.\w+)+)(?:\(\))?`")
NO_CODE = {"vssl.id", "vssl.model", "vssl.version", "vssl.source", "vssl.encoder_id", "vssl.client", "vssl.commands"}
"""Keys of metadata, the name of a logger, a group of entry points."""
GONE = {"vssl_client.table"}
"""Names of earlier versions, which the changelog tells what to do about."""


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def defined(body: list[ast.stmt], name: str) -> ast.stmt | None:
    """The class, function, or assignment of that name, or a string that `__all__` lists."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return node
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return node
        listed = isinstance(node, ast.Assign) and isinstance(node.value, ast.List) and ast.unparse(node.targets[0])
        if listed == "__all__" and name in ast.literal_eval(ast.unparse(node.value)):  # type: ignore[attr-defined]
            return node
    return None


def exists(dotted: str) -> bool:
    """Whether `package.room.module.function`, or any beginning of it, is in the code."""
    package, *rest = dotted.split(".")
    place = PACKAGES[package]
    while rest and place.is_dir():
        step = place / rest[0]
        if not step.is_dir() and not step.with_suffix(".py").is_file():
            break
        place = step if step.is_dir() else step.with_suffix(".py")
        rest.pop(0)
    body = tree(place / "__init__.py" if place.is_dir() else place).body
    for name in rest:
        found = defined(body, name)
        if found is None:
            return False
        body = found.body if isinstance(found, ast.ClassDef) else []
    return True


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_names_of_code_exist(page: Path) -> None:
    names = set(NAME.findall(page.read_text(encoding="utf-8"))) - NO_CODE - GONE
    assert [name for name in sorted(names) if not exists(name)] == []


@pytest.mark.parametrize("name", ["vssl.engine.NoSuchName", "vssl.no_room.no_module", "vssl_client.Client.no_method"])
def test_a_name_that_is_not_there_is_noticed(name: str) -> None:
    assert not exists(name)


def walks() -> list[list[str]]:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    return [part.split("\n## ")[0].splitlines() for part in text.split("\n## Walk ")[1:]]


def test_each_step_of_the_three_walks_begins_with_a_function() -> None:
    assert len(walks()) == 3
    for walk in walks():
        steps = [line for line in walk if re.match(r"\d+\. ", line)]
        assert len(steps) >= 6
        assert [step for step in steps if not re.match(rf"\d+\. {NAME.pattern}", step)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_the_map_has_every_room(package: str) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {place.parent.name for place in PACKAGES[package].glob("*/__init__.py")}
    assert {room for room in rooms if f"`{room}`" not in text} == set()


def messages() -> set[str]:
    """Every text in the code, `…` where a value goes."""
    found = set()
    for package in PACKAGES.values():
        for file in package.rglob("*.py"):
            for node in ast.walk(tree(file)):
                if isinstance(node, ast.JoinedStr):
                    parts = (str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
                    found.add("".join(parts).replace("`", ""))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(node.value)
    return found


def test_the_messages_on_the_page_about_trouble_are_ours() -> None:
    text = (ROOT / "docs" / "trouble.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^### `(.*)`$", text, re.MULTILINE)
    assert len(quoted) == 10
    known = messages()
    assert [message for message in quoted if not any(message in each for each in known)] == []
