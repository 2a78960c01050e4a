"""Where galleries lie."""

from vssl_gallery.store.opening import default_address

__all__ = ["default_address", "is_server"]


def is_server(address: str) -> bool:
    """Whether galleries there are a server's."""
    return address.startswith(("http://", "https://"))
