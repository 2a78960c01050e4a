"""A certificate whose files change."""

from pathlib import Path

from tests.server.conftest import make_certificate
from vssl_server.settings import Settings
from vssl_server.wire.tls import Certificate


def test_a_replaced_certificate_is_shown(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    settings = Settings(tls_certificate=certificate, tls_key=key)
    watched = Certificate(settings)
    assert not watched.changed()
    (tmp_path / "other").mkdir()
    other, other_key = make_certificate(tmp_path / "other")
    other.replace(certificate)
    assert not watched.changed()  # the key is still that of the old one
    other_key.replace(key)
    assert watched.changed()
    assert not watched.changed()
