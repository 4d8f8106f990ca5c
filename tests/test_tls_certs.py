"""`threadbus certs`: certificates to try TLS with."""

from __future__ import annotations

import shlex
import stat
import sys
from pathlib import Path

import pytest
from cryptography import x509

from tests.serving import ServerProcess
from tests.shell import Shell
from threadbus.extras import install_command

FILES = {"ca.pem", "server.pem", "server.key", "client.pem", "client.key"}


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell("127.0.0.1:1", tmp_path)


def flags(folder: Path) -> list[str]:
    return ["--tls-cert", str(folder / "server.pem"), "--tls-key", str(folder / "server.key")]


def test_the_files_are_written_and_named_and_keys_are_private(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "new/tls"
    done = shell.run("certs", str(folder), "--host", "bus.example", "--host", "192.0.2.7")
    assert done.code == 0
    assert "not for production" in done.err
    assert {path.name for path in folder.iterdir()} == FILES
    assert {line for line in done.out.splitlines() if line.startswith("/")} == {
        str(folder / name) for name in FILES
    }
    for path in folder.iterdir():
        private = path.suffix == ".key"
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == (0 if private else 0o044)
    made = x509.load_pem_x509_certificate((folder / "server.pem").read_bytes())
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "bus.example"]
    addresses = [str(each) for each in names.get_values_for_type(x509.IPAddress)]
    assert addresses == ["127.0.0.1", "::1", "192.0.2.7"]
    for name in ("ca.pem", "server.pem", "client.pem"):
        subject = x509.load_pem_x509_certificate((folder / name).read_bytes()).subject
        assert "OU=not for production" in subject.rfc4514_string()


def test_nothing_is_overwritten(shell: Shell, tmp_path: Path) -> None:
    there = tmp_path / "client.key"
    there.write_text("precious")
    done = shell.run("certs", str(tmp_path))
    assert done.code == 1
    assert f"{there} exists" in done.err
    assert there.read_text() == "precious"
    assert not (tmp_path / "ca.pem").exists()


def test_what_is_no_host_is_wrong_usage(shell: Shell, tmp_path: Path) -> None:
    done = shell.run("certs", str(tmp_path / "tls"), "--host", "a b")
    assert done.code == 2
    assert "--host" in done.err
    assert not (tmp_path / "tls").exists()


@pytest.mark.usefixtures("chosen_store")
@pytest.mark.slow
def test_the_commands_that_are_shown_work(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "t l s"
    serve, client = shell.run("certs", str(folder), "--json").json["try"]
    assert shlex.split(serve) == ["threadbus", "serve", *flags(folder)]
    with ServerProcess(tmp_path / "bus.db", *flags(folder)) as server:
        port = server.address.rpartition(":")[2]
        told = shell.script(client.replace("tls://localhost", f"tls://localhost:{port}"))
        assert told.startswith("anonymous at tls://localhost")


@pytest.mark.usefixtures("chosen_store")
@pytest.mark.slow
def test_the_client_certificate_is_accepted(shell: Shell, tmp_path: Path) -> None:
    shell.run("certs", str(tmp_path / "tls"))
    ca, certificate, key = (tmp_path / "tls" / n for n in ("ca.pem", "client.pem", "client.key"))
    given = [*flags(tmp_path / "tls"), "--tls-client-ca", str(ca)]
    with ServerProcess(tmp_path / "bus.db", *given) as server:
        call = ["whoami", "--server", f"tls://{server.address}", "--ca-file", str(ca)]
        assert shell.run(*call).code == 4
        shell.ok(*call, "--client-cert", str(certificate), "--client-key", str(key))


def test_without_the_library_it_says_how_to_install_it(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trustme", None)
    done = shell.run("certs", str(tmp_path / "tls"))
    assert done.code == 1
    assert install_command("certs") in done.err
    assert not (tmp_path / "tls").exists()
