"""What decides a run's result, as `recipe.yaml` keeps it: recipe, seed, data, budget, schedule, numerics."""

import hashlib

from pydantic import Field, ValidationError, field_validator, model_validator

from vssl import __version__
from vssl.errors import UsageError
from vssl.images.decoding import Preprocessing
from vssl.sources.in_memory import ImageSet
from vssl_training.recipe.section import Section
from vssl_training.recipe.sections import Recipe, SettledImage
from vssl_training.run.numerics import Numerics


class DataRecord(Section):
    """What was trained on: `location` as given, number of images, and a hash of their pixels."""

    location: str
    images: int
    sha256: str


class InitialWeights(Section):
    """Weights that the encoder starts from: `location` as given, and a hash of the file."""

    location: str
    sha256: str


class BackboneRecord(Section):
    """Whose network a run's backbone is, where its weights are another's.

    Attributes:
        source: `timm`, `torchvision`, `hf`, or `vssl` for our own.
        architecture: its name there.
        weights_sha256: hash of the file of weights.
        licence: of the weights, where their source names it.
    """

    source: str
    architecture: str
    weights_sha256: str | None = None
    licence: str | None = None


class Schedule(Section):
    """Optimiser steps of the two phases: `encoder`, then `variance`; 0 where there is no such phase."""

    encoder: int = Field(ge=0)
    variance: int = Field(ge=0)


class Budget(Section):
    """The length of a run: minutes of wall time, a number of steps of both phases, or epochs of the encoder."""

    minutes: float | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, ge=2)
    epochs: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one(self) -> "Budget":
        if [self.minutes, self.steps, self.epochs].count(None) != 2:
            raise ValueError("a budget is one of minutes, steps and epochs")
        return self


def budget_of(recipe: Recipe, minutes: float | None, steps: int | None, epochs: int | None) -> Budget:
    """The budget that flags name, or else the recipe's own.

    Raises:
        UsageError: more than one is named, or it is out of bounds.
    """
    named = {"minutes": minutes, "steps": steps, "epochs": epochs}
    if all(value is None for value in named.values()):
        named = {"minutes": recipe.minutes, "steps": None, "epochs": recipe.epochs}
    if list(named.values()).count(None) < 2:
        raise UsageError("--max-minutes, --steps and --epochs exclude each other: name one")
    try:
        return Budget.model_validate(named)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{first['loc'][0]}: {first['msg']}") from error


class RunRecord(Section):
    """Everything that decides a run's result, as `recipe.yaml` holds it; `vssl` is the version that began it."""

    vssl: str = __version__
    recipe: Recipe
    seed: int
    data: DataRecord
    budget: Budget
    schedule: Schedule
    speed: Numerics = Numerics()
    init: InitialWeights | None = None
    backbone: BackboneRecord | None = None
    prior: BackboneRecord | None = None

    @field_validator("recipe")
    @classmethod
    def _numbers(cls, recipe: Recipe) -> Recipe:
        return recipe.model_copy(update={"image": recipe.image.settled()})


def preprocessing_of(recipe: Recipe) -> Preprocessing:
    """How this recipe's images become pixels."""
    return settled_preprocessing(recipe.image.settled())


def settled_preprocessing(image: SettledImage) -> Preprocessing:
    """How images become pixels by these settings."""
    return Preprocessing(image.size, image.crop, image.interpolation, image.fit, image.decoder)


def record_data(location: str, images: ImageSet) -> DataRecord:
    """Describe the data that a run trains on."""
    digest = hashlib.sha256(images.pixels.data).hexdigest()
    return DataRecord(location=location, images=len(images), sha256=digest)
