"""Recipes as YAML: those of the package by name, and single values changed from the command line."""

from importlib.resources import files
from typing import Any

from pydantic import ValidationError

from vssl.errors import UsageError
from vssl_training.recipe.sections import Recipe

RECIPES = files("vssl_training.recipe") / "recipes"


def load_recipe(name: str) -> Recipe:
    """A recipe of the package by its name.

    Raises:
        UsageError: there is none of that name, or it is not valid; one line for each field.
    """
    import yaml

    path = RECIPES / f"{name}.yaml"
    if name not in recipe_names():
        raise UsageError(f"no recipe {name!r}; there are: {', '.join(recipe_names())}")
    return parse_recipe(yaml.safe_load(path.read_text()), f"recipe {name}")


def recipe_names() -> list[str]:
    """Names of the package's recipes."""
    return sorted(path.name.removesuffix(".yaml") for path in RECIPES.iterdir() if path.name.endswith(".yaml"))


def description(name: str) -> str:
    """The comment at the top of a recipe's file."""
    lines = (RECIPES / f"{name}.yaml").read_text().splitlines()
    return " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))


def parse_recipe(fields: object, where: str) -> Recipe:
    """Check a recipe's fields; `where` names it in errors."""
    try:
        return Recipe.model_validate(fields)
    except ValidationError as error:
        lines = [f"{where}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise UsageError("\n".join(lines)) from error


def override(recipe: Recipe, assignments: list[str]) -> Recipe:
    """The recipe with `section.key=value` assignments made, values read as YAML.

    Raises:
        UsageError: an assignment without `=`, an unknown key, or a value that does not fit.
    """
    import yaml

    fields = recipe.model_dump(mode="json")
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set {assignment}: write key=value, such as optimiser.batch=128")
        if key.startswith("network.whitening"):
            raise UsageError(
                f"--set {assignment}: network.whitening is network.embedding now, such as "
                "--set 'network.embedding={of: maps, cells: [4, 2], centre: true, whiten: {dimension: 256, power: 1}}'"
            )
        *sections, last = key.split(".")
        target: dict[str, Any] = fields
        for section in sections:
            inner = target.get(section)
            if inner is None:  # a section that this recipe goes without, or no such key: the check tells which
                inner = target[section] = {}
            if not isinstance(inner, dict):
                raise UsageError(f"--set {assignment}: {section} is a value, not a section")
            target = inner
        try:
            target[last] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {assignment}: the value is not valid YAML") from error
    return parse_recipe(fields, "--set")
