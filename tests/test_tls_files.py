"""The files of TLS at start: one that cannot be used is refused, and named."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from trustme import KeyType

from bus_server import tls
from bus_server.listening import ServeError
from bus_server.settings import Settings
from tests.certificates import (
    LONG_AGO,
    TOMORROW,
    YESTERDAY,
    PairFiles,
    authority,
    pair,
)
from tests.refused_start import contents, refused_start


def settings(files: PairFiles, client_ca: Path | None = None) -> Settings:
    return Settings(tls_cert=files.certificate, tls_key=files.key, tls_client_ca=client_ca)


@pytest.fixture
def files(tmp_path: Path) -> PairFiles:
    """A pair of files that can be used."""
    return pair().save(tmp_path)


def encrypted(key: bytes) -> bytes:
    loaded = load_pem_private_key(key, None)
    return loaded.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )


def removed(path: Path) -> None:
    path.unlink()


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def empty(path: Path) -> None:
    path.write_bytes(b"\n")


def not_ascii(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\xff")


def huge(path: Path) -> None:
    os.truncate(path, 1 << 40)  # a sparse file


def garbage(path: Path) -> None:
    path.write_bytes(b"\x00\xff" * 1000)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-60])


def twice_cut_off(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:-60])


def expired(path: Path) -> None:
    made = authority().issue(not_before=LONG_AGO, not_after=YESTERDAY)
    PairFiles(path, path.with_suffix(".key")).replace(certificate=made.certificate, key=made.key)


def not_yet_valid(path: Path) -> None:
    made = authority().issue(not_before=TOMORROW)
    PairFiles(path, path.with_suffix(".key")).replace(certificate=made.certificate, key=made.key)


def of_another_key(path: Path) -> None:
    path.write_bytes(authority().issue().key)


def of_another_kind(path: Path) -> None:
    path.write_bytes(authority().issue(key_type=KeyType.RSA).key)


def with_a_passphrase(path: Path) -> None:
    path.write_bytes(encrypted(path.read_bytes()))


def a_certificate(path: Path) -> None:
    path.write_bytes(pair().certificate)


def a_key(path: Path) -> None:
    path.write_bytes(pair().key)


def test_a_pair_that_fits_is_accepted(files: PairFiles, tmp_path: Path) -> None:
    assert tls.certificates(settings(files)) is not None
    assert tls.certificates(settings(files, authority().save(tmp_path))) is not None
    assert tls.certificates(Settings()) is None


def test_a_pair_in_one_file_is_accepted(tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(pair().key + pair().certificate)
    assert tls.certificates(settings(PairFiles(both, both))) is not None


@pytest.mark.parametrize(
    ("harm", "told", "advice"),
    [
        (removed, "No such file", "check the path"),
        (folder, "is a folder", "name a file in PEM format"),
        (empty, "is empty", "PEM format"),
        (garbage, "is not a certificate in PEM format", "put a whole one"),
        (not_ascii, "is not a certificate in PEM format", "put a whole one"),
        (huge, "is larger than 1 MiB", "PEM format"),
        (cut_off, "cut off", "put a whole one"),
        (twice_cut_off, "cut off", "put a whole one"),
        (a_key, "is not a certificate", "put a whole one"),
        (expired, "expired on 20", "put a new one"),
        (not_yet_valid, "is not valid before 20", "check this machine's clock"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_refused(
    files: PairFiles, harm: Callable[[Path], None], told: str, advice: str
) -> None:
    harm(files.certificate)
    refused(settings(files), files.certificate, told, advice)


@pytest.mark.parametrize(
    ("harm", "told", "advice"),
    [
        (removed, "No such file", "check the path"),
        (folder, "is a folder", "name a file in PEM format"),
        (empty, "is empty", "PEM format"),
        (garbage, "has no private key", "name the file of the certificate's key"),
        (a_certificate, "has no private key", "name the file of the certificate's key"),
        (cut_off, "cut off", "put the whole key"),
        (of_another_key, "does not belong to the certificate", "name a pair that fits"),
        (of_another_kind, "does not belong to the certificate", "name a pair that fits"),
        (with_a_passphrase, "is encrypted", "openssl pkey"),
    ],
)
def test_a_key_that_cannot_be_used_is_refused(
    files: PairFiles, harm: Callable[[Path], None], told: str, advice: str
) -> None:
    harm(files.key)
    refused(settings(files), files.key, told, advice)


@pytest.mark.parametrize(
    ("harm", "told", "advice"),
    [
        (removed, "No such file", "check the path"),
        (garbage, "is not a CA certificate", "put a whole one"),
        (not_ascii, "is not a CA certificate", "put a whole one"),
        (a_certificate, "has no certificate of a CA", "the one that has issued"),
    ],
)
def test_a_client_ca_that_cannot_be_used_is_refused(
    files: PairFiles, tmp_path: Path, harm: Callable[[Path], None], told: str, advice: str
) -> None:
    client_ca = authority().save(tmp_path)
    harm(client_ca)
    refused(settings(files, client_ca), client_ca, told, advice)


@pytest.mark.parametrize(
    ("key", "told"),
    [
        (Ed25519PrivateKey.generate(), "Ed25519"),
        (ec.generate_private_key(ec.SECP521R1()), "P-521"),
    ],
    ids=["Ed25519", "P-521"],
)
def test_a_key_that_grpc_cannot_use_is_refused(
    files: PairFiles, key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey, told: str
) -> None:
    self_sign(files, key)
    refused(settings(files), files.certificate, told, "ECDSA (P-256) or RSA")


def test_a_key_that_is_too_short_is_refused(files: PairFiles) -> None:
    self_sign(files, rsa.generate_private_key(65_537, 1024))  # noqa: S505 - refused
    refused(settings(files), files.key, "too short", "make a new pair")


def self_sign(
    files: PairFiles, key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
) -> None:
    """Replace the pair by a key and a certificate that it has signed itself."""
    nobody = x509.Name([])
    builder = x509.CertificateBuilder(nobody, nobody, key.public_key(), 1, YESTERDAY, TOMORROW)
    digest = None if isinstance(key, Ed25519PrivateKey) else SHA512()
    certificate = builder.sign(key, digest).public_bytes(Encoding.PEM)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    files.replace(certificate=certificate, key=pem)


def refused(given: Settings, file: Path, *told: str) -> None:
    """Check that the settings are refused with one sentence that names the file."""
    with pytest.raises(ServeError) as refusal:
        tls.certificates(given)
    text = str(refusal.value)
    assert str(file) in text
    assert not [part for part in told if part not in text], text
    assert "\n" not in text


@pytest.mark.slow
def test_a_server_whose_certificate_has_expired_does_not_start(
    files: PairFiles, tmp_path: Path
) -> None:
    expired(files.certificate)
    line = refused_start(tmp_path / "bus.db", *files.flags)
    assert f"the certificate in {files.certificate} expired on" in line
    assert contents(tmp_path).keys() == {files.certificate, files.key}


@pytest.mark.parametrize(
    ("mode", "told"), [(0o600, []), (0o640, []), (0o604, ["read or change the key"])]
)
def test_a_key_that_everyone_can_read_is_a_risk(
    files: PairFiles, tmp_path: Path, mode: int, told: list[str]
) -> None:
    link = tmp_path / "link.key"
    link.symlink_to(files.key)
    files.key.chmod(mode)
    found = tls.risks(settings(PairFiles(files.certificate, link)))
    assert len(found) == len(told)
    assert all(
        part in line and f"chmod o= {files.key}" in line
        for part, line in zip(told, found, strict=True)
    )


def test_a_key_in_a_folder_that_everyone_can_change_is_a_risk(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    (line,) = tls.risks(settings(pair().save(tmp_path)))
    assert re.search(f"can replace what is in {tmp_path}", line)
