"""Training: objective, encoder, loop, recipes; and `attach`, for any network of torch.

Imports core. Its rooms, each may import those after it: commands, attaching, loop, report, phases, judging, encoder,
objective and views and data, run, recipe.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from vssl_training.recipe.sections import Channels, Recipe

__all__ = ["attach"]


def attach(
    module: "nn.Module",
    data: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    size: int,
    mean: "Channels" = (0.0, 0.0, 0.0),
    std: "Channels" = (1.0, 1.0, 1.0),
    recipe: "Recipe | None" = None,
    cache: str | Path | None = None,
    seed: int = 0,
) -> None:
    """Put an embedding and a variance head on a network of your own, as `vssl attach` does; it stays as it is.

    The folder `out` is a run then. `vssl_export.bundle_writer.export_run` makes a bundle of it; it needs the module
    again, since no recipe can build it.

    Args:
        module: answers float images [N, 3, size, size] with features [N, F], or with maps or tokens, then averaged.
        data: photographs: a folder, an archive, or several of them.
        out: folder of the run; an interrupted one goes on.
        size: side of the images in pixels.
        mean: taken off pixels in 0 … 1, for red, green and blue.
        std: what they are divided by then.
        recipe: with other settings than the recipe `attach`; how images are cropped, among others.
        cache: folder of what the module says of images, kept for other runs; in the run, and removed, by default.
        seed: of every random choice.

    Raises:
        UsageError: the module does not answer so; there are too few images, or `out` holds something else.
        VsslError: the images can't be read, or the module's answers are not finite.
    """
    from vssl_training.attaching.attach import AttachJob, attach_module
    from vssl_training.recipe.reading import load_recipe

    locations = [data] if isinstance(data, str | Path) else data
    job = AttachJob(tuple(map(str, locations)), Path(out), seed, None if cache is None else Path(cache))
    attach_module(module, recipe or load_recipe("attach"), job, size, mean, std)
