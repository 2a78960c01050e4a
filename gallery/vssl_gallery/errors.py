"""Errors of galleries. Each has a code for programs, and the status that HTTP answers with."""

from typing import ClassVar

from vssl.errors import VsslError


class GalleryError(VsslError):
    """Something that was asked of a gallery failed."""

    code: ClassVar[str] = "gallery_error"
    status: ClassVar[int] = 500


class InvalidName(GalleryError):
    """A name that a gallery, an alias or a field can't have."""

    exit_status = 2
    code = "invalid_name"
    status = 400


class InvalidFilter(GalleryError):
    """A filter with an unknown field or operator, or a value that its field can't have."""

    exit_status = 2
    code = "invalid_filter"
    status = 400


class InvalidRows(GalleryError):
    """Rows, or vectors to search by, that no gallery takes: a missing id, a vector that is not of unit length."""

    code = "invalid_rows"
    status = 400


class OutsideFilter(GalleryError):
    """Rows that are written, or replaced, lie outside the filter to which somebody is limited."""

    code = "outside_filter"
    status = 403


class TooLarge(GalleryError):
    """More at once than one request may hold."""

    code = "too_large"
    status = 413


class UnknownGallery(GalleryError):
    """There is no gallery of that name here."""

    exit_status = 2
    code = "unknown_gallery"
    status = 404


class GalleryExists(GalleryError):
    """The name is taken, by a gallery or by an alias."""

    exit_status = 2
    code = "gallery_exists"
    status = 409


class EncoderMismatch(GalleryError):
    """Vectors of another encoder than the gallery's: their cosines mean nothing."""

    exit_status = 2
    code = "encoder_mismatch"
    status = 409


class VersionUnknown(GalleryError):
    """A version that this gallery has not reached in time."""

    code = "version_unknown"
    status = 409


class NotAGallery(GalleryError):
    """What lies at the place is not a gallery, or a newer version of this program wrote it."""

    exit_status = 2
    code = "not_a_gallery"
    status = 409


class SnapshotDamaged(GalleryError):
    """A snapshot whose bytes are not those that were written."""

    code = "snapshot_damaged"
    status = 409


class StoreUnavailable(GalleryError):
    """The store can't be reached, or does not answer in time. Nothing is lost; try again."""

    code = "store_unavailable"
    status = 503


class StoreFull(GalleryError):
    """The store's disk is full. What was acknowledged is kept."""

    code = "store_full"
    status = 507
