"""nginx and Envoy in front of a server, configured as in docs/proxies.md."""

import contextlib
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import grpc

from tests.ports import free_port
from tests.programs import program

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/proxies.md").read_text("utf-8")
SERVER, LISTEN = "7420", "7430"

_NGINX = """\
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
{snippet}}}
"""


def snippet(language: str) -> str:
    """Returns the page's block of a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


@contextlib.contextmanager
def nginx(server: str, folder: Path, changes: Mapping[str, str] | None = None) -> Iterator[str]:
    """Yields the address of an nginx. `changes` maps texts of the page's block to replacements.

    Skips the test where there is no nginx.
    """
    port = free_port()
    with (
        run_nginx(_changed(snippet("nginx"), server, port, changes), folder, port) as address,
        _ready(address, folder),
    ):
        yield address


@contextlib.contextmanager
def run_nginx(text: str, folder: Path, port: int) -> Iterator[str]:
    """Yields the address of an nginx with these servers, of which one has the port.

    Skips the test where there is no nginx.
    """
    path = program("nginx")
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, snippet=text), "utf-8")
    command = [str(path), "-e", "stderr", "-p", str(folder), "-c", str(config)]
    with _running(command, folder, port) as address:
        yield address


@contextlib.contextmanager
def envoy(server: str, folder: Path, changes: Mapping[str, str] | None = None) -> Iterator[str]:
    """As `nginx`, for Envoy."""
    path, port = program("envoy"), free_port()
    config = folder / "envoy.yaml"
    shipped = ROOT / "protos/threadbus/v1/descriptor_set.binpb"
    changes = {"protos/descriptor_set.binpb": str(shipped)} | dict(changes or {})
    config.write_text(_changed(snippet("yaml"), server, port, changes), "utf-8")
    command = [str(path), "-c", str(config), "--concurrency", "1", "--disable-hot-restart"]
    with (
        _running([*command, "--log-level", "warn"], folder, port) as address,
        _ready(address, folder),
    ):
        yield address


def _changed(text: str, server: str, port: int, changes: Mapping[str, str] | None) -> str:
    ports = {SERVER: server.rpartition(":")[2], LISTEN: str(port)}
    for old, new in {**ports, **(changes or {})}.items():
        assert old in text
        text = text.replace(old, new)
    return text


@contextlib.contextmanager
def _running(command: list[str], folder: Path, port: int) -> Iterator[str]:
    log = folder / "log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as proxy:
        try:
            yield f"127.0.0.1:{port}"
        finally:
            proxy.terminate()


@contextlib.contextmanager
def _ready(address: str, folder: Path) -> Iterator[None]:
    """Wait until the proxy passes calls on."""
    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=20)
        except grpc.FutureTimeoutError:
            raise AssertionError((folder / "log").read_text("utf-8")) from None
    yield
