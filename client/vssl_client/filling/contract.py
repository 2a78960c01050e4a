"""How images of a source get into a gallery, and what a job says in the end."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from vssl_client.filling.describing import Known
from vssl_client.folder.contract import Summary
from vssl_client.galleries.answers import GalleryInfo
from vssl_gallery.store.contract import Spec

Failure = tuple[str, str]
"""The path of an image, and why it is not in the gallery."""


@dataclass(frozen=True)
class Target:
    """The gallery that is filled, and what is known of each image by its path."""

    spec: Spec
    known: Mapping[str, Known]


@dataclass(frozen=True)
class Done:
    """So many more images were looked at, so many rows were written, and which failed."""

    images: int
    written: int
    failures: list[Failure]


class Way(Protocol):
    """Reads, embeds and writes."""

    encoder_id: str | None
    """Of what embeds; None where the gallery's server does."""

    def __call__(self, todo: Iterator[list[str]], target: Target) -> AbstractContextManager[Iterator[Done]]:
        """Each chunk of paths in order."""


@dataclass
class Filled(Summary):
    """What a job did, and the paths in the metadata that no image of the source has."""

    unmatched: list[str] = field(default_factory=list)


def spec_of(info: GalleryInfo) -> Spec:
    """What a gallery is bound to."""
    return Spec(
        info.encoder_id,
        info.dimension,
        info.fields,  # type: ignore[arg-type]
        keep_thumbnails=info.keep_thumbnails,
        model=info.model,
        model_version=info.model_version,
        bundle_id=info.bundle_id,
    )
