"""Recipes: what is refused, and how the refusal reads."""

import pytest

from vssl.errors import UsageError
from vssl_training.recipe import Recipe, load_recipe, override


def test_quick_is_balanced_with_decorrelation() -> None:
    recipe = load_recipe("quick")
    assert recipe.objective.form == "balanced"
    assert recipe.objective.decorrelation > 0


def test_unknown_recipe_lists_those_that_exist() -> None:
    with pytest.raises(UsageError, match=r"no recipe 'quik'; there are: .*quick"):
        load_recipe("quik")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("optimiser.batchsize=3", r"optimiser\.batchsize"),
        ("optimiser.batch=many", r"optimiser\.batch.*integer"),
        ("objective.form=C", r"objective\.form.*'raw'"),
        ("views.crop=[0.9, 0.2]", r"views.*least ≤ most"),
        ("optimiser.learning_rate=.nan", r"optimiser\.learning_rate"),
        ("optimiser.batch", "write key=value"),
        ("name.first=x", "name is a value"),
        ("views.crop=[1,", "not valid YAML"),
        ("network.clamp=[1, 2]", r"network\.clamp"),
    ],
)
def test_bad_assignments_name_the_field(assignment: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        override(load_recipe("quick"), [assignment])


def test_assignments_change_one_value_and_nothing_else() -> None:
    recipe = load_recipe("quick")
    changed = override(recipe, ["optimiser.batch=64", "objective.form=A"])
    assert changed.optimiser.batch == 64
    assert changed.objective.form == "A"
    assert override(changed, [f"optimiser.batch={recipe.optimiser.batch}", "objective.form=balanced"]) == recipe


def test_a_recipe_survives_being_written_and_read() -> None:
    recipe = load_recipe("quick")
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe
