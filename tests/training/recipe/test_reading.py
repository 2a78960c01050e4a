"""Recipes: what is refused, and how the refusal reads."""

import pytest
import typer
import yaml
from typer.testing import CliRunner

from vssl.errors import UsageError
from vssl_training.commands import recipes
from vssl_training.data.classes import read_classes
from vssl_training.recipe.reading import load_recipe, override, recipe_names
from vssl_training.recipe.sections import Recipe, WhitenSettings

app = typer.Typer()
app.command()(recipes)


@pytest.mark.parametrize("name", recipe_names())
def test_nothing_collapses_by_design(name: str) -> None:
    """The means are kept apart, or they follow those of a frozen network, or nothing but the variance is trained."""
    recipe = load_recipe(name)
    apart = recipe.objective.decorrelation + recipe.objective.coding_rate + recipe.objective.contrastive
    assert apart > 0 or recipe.distil is not None or recipe.attach is not None


def test_unknown_recipe_lists_those_that_exist() -> None:
    with pytest.raises(UsageError, match=r"no recipe 'quik'; there are: .*quick"):
        load_recipe("quik")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("optimiser.batchsize=3", r"optimiser\.batchsize"),
        ("optimiser.batch=many", r"optimiser\.batch.*integer"),
        ("objective.form=C", r"objective\.form.*'A'"),
        ("views.crop=[0.9, 0.2]", r"views.*least ≤ most"),
        ("optimiser.learning_rate=.nan", r"optimiser\.learning_rate"),
        ("optimiser.batch", "write key=value"),
        ("name.first=x", "name is a value"),
        ("views.crop=[1,", "not valid YAML"),
        ("network.clamp=[1, 2]", r"network\.clamp"),
        ("network.width=7", r"network\.width.*8"),
        ("network.cifar_stem=true", "cifar_stem is for timm's ResNets"),
        ("objective.beta_nll=0.5", "balanced has its own likelihood"),
        ("objective.likelihood=D1", r"objective\.likelihood.*not permitted"),
        ("variance.form=mc_infonce", r"variance\.form.*not permitted"),
        ("network.embeding.of=maps", r"network\.embeding.*not permitted"),
        ("network.whitening.dimension=64", r"network\.whitening is network\.embedding now"),
        ("network.embedding.whiten.power=2", r"network\.embedding\.whiten.*power"),
        ("optimiser.name=adam", r"optimiser\.name.*'adamw'"),
        ("epochs=3", "either minutes or epochs"),
        ("minutes=null", "either minutes or epochs"),
    ],
)
def test_bad_assignments_name_the_field(assignment: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        override(load_recipe("quick"), [assignment])


def test_a_section_that_the_recipe_goes_without_is_made_by_a_value_of_it() -> None:
    recipe = override(load_recipe("cifar10"), ["network.embedding.whiten.dimension=64"])
    assert recipe.network.embedding.whiten == WhitenSettings(dimension=64)
    early = override(load_recipe("cifar10"), ["views.early.size=16", "views.early.share=0.5"]).views.early
    assert early is not None
    assert (early.size, early.share) == (16, 0.5)


def test_assignments_change_one_value_and_nothing_else() -> None:
    recipe = load_recipe("quick")
    changed = override(recipe, ["optimiser.batch=64", "objective.form=A"])
    assert changed.optimiser.batch == 64
    assert changed.objective.form == "A"
    assert override(changed, [f"optimiser.batch={recipe.optimiser.batch}", "objective.form=balanced"]) == recipe


def test_a_recipe_survives_being_written_and_read() -> None:
    recipe = load_recipe("quick")
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


def test_the_papers_recipes_follow_their_published_settings() -> None:
    cifar, imagenet = load_recipe("cifar10"), load_recipe("imagenet100")
    assert load_recipe("cifar100").model_copy(update={"name": "cifar10"}) == cifar
    assert (cifar.optimiser.name, cifar.optimiser.batch, cifar.optimiser.learning_rate, cifar.epochs) == (
        "lars",
        256,
        1.0,
        1000,
    )
    assert cifar.optimiser.warm_up * 1000 == pytest.approx(10)
    assert cifar.network.cifar_stem
    assert (cifar.views.blur, cifar.views.solarise) == ((0, 0), (0, 0.2))
    assert imagenet.network.predictor is not None
    assert (imagenet.size, imagenet.views.blur, imagenet.network.predictor.hidden) == (224, (1.0, 0.1), 8192)


def test_imagenet100_has_its_hundred_classes() -> None:
    classes = read_classes(load_recipe("imagenet100").image.classes or "")
    assert len(classes) == 100
    assert all(len(name) == 9 and name.startswith("n") for name in classes)


def test_recipes_are_listed_and_shown() -> None:
    runner = CliRunner()
    listed = runner.invoke(app, [])
    assert [line.split()[0] for line in listed.stdout.splitlines()] == recipe_names()
    shown = runner.invoke(app, ["folder"])
    assert Recipe.model_validate(yaml.safe_load(shown.stdout)) == load_recipe("folder")
