"""Galleries from Python: `Client.gallery` and `AsyncClient.gallery`, over a store here or at a server.

May import embedding, exchange, inputs, results and errors.
pyarrow and a store's driver are imported when a store is opened.
"""

from vssl_client.galleries.answers import (
    Added,
    AddedImage,
    Classification,
    Classified,
    DuplicateGroup,
    GalleryInfo,
    GalleryMap,
    GalleryNames,
    MappedRow,
    Neighbour,
    Neighbours,
    Outlier,
    QueryInfo,
    Row,
    SearchAnswer,
    Written,
)

__all__ = [
    "Added",
    "AddedImage",
    "Classification",
    "Classified",
    "DuplicateGroup",
    "GalleryInfo",
    "GalleryMap",
    "GalleryNames",
    "MappedRow",
    "Neighbour",
    "Neighbours",
    "Outlier",
    "QueryInfo",
    "Row",
    "SearchAnswer",
    "Written",
]
