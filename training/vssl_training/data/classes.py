"""Lists of classes: ImageNet-100 is a hundred of ImageNet's thousand, and a file says which."""

from pathlib import Path

from vssl.errors import UsageError
from vssl.images.decoding import Preprocessing
from vssl.sources.in_memory import Allocate, ImageSet, load_images, new_pixels, warn_of_missing
from vssl.sources.source import Source
from vssl_training.recipe.reading import RECIPES


def read_classes(name: str) -> set[str]:
    """The classes in a list of the package, such as `imagenet100`, or in a file with one a line.

    Raises:
        UsageError: there is no such list, or it is empty.
    """
    own = RECIPES / f"{name}.txt"
    file = own if own.is_file() else Path(name)
    try:
        found = set(file.read_text().split("\n")) - {""}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"image.classes: {name} is no list of the package and can't be read: {error}") from error
    if not found:
        raise UsageError(f"image.classes: {name} holds no class; write one a line")
    return found


def paths_of(source: Source, classes: str | None) -> list[str]:
    """Paths of a source's images, those of the classes in a list where one is named.

    Raises:
        UsageError: `read_classes`, or the source's images have no classes, or none of one in the list.
    """
    paths = list(source.paths())
    if classes is None:
        return paths
    wanted, labelled = read_classes(classes), source.labels(paths)
    names = [] if labelled is None else labelled[1]
    if missing := sorted(wanted - set(names)):
        raise UsageError(
            f"{source.name}: no images of {len(missing)} of the {len(wanted)} classes in {classes}, such as "
            f"{missing[0]}; each class is a top folder of its name"
        )
    assert labelled is not None  # else all were missing
    return [path for path, label in zip(paths, labelled[0], strict=True) if names[label] in wanted]


def load_classes(
    source: Source, preprocessing: Preprocessing, classes: str | None, allocate: Allocate = new_pixels
) -> ImageSet:
    """`load_images` of `paths_of`; what is not among them is logged."""
    images = load_images(source, preprocessing, paths_of(source, classes), allocate)
    warn_of_missing(source, images)
    return images
