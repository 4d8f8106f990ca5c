"""Who may use a console: Host, Origin, cookie, and what requests may carry."""

import http.client
import json
import socket
import time
from urllib.parse import urlsplit

import httpx
import pytest

from bus_client.cli.console.gate import Gate, Refused
from bus_client.cli.console.site import Site
from tests.console.consoles import ConsoleProcess, browser

pytestmark = pytest.mark.slow

JSON = {"content-type": "application/json"}
READS = ["me", "events", "agents", "threads/x", "threads/x/1", "threads/x/1/0", "waits"]
READS += ["threads/x/export", "nothing"]
WRITES = ["post", "read", "withdraw", "threads", "threads/x", "agents/x"]


def raw(console: ConsoleProcess, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    """Returns the status of a request and the content, which a client would change."""
    connection = http.client.HTTPConnection(urlsplit(console.url).netloc, timeout=30)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    content = response.read().decode()
    connection.close()
    return response.status, content


async def test_without_a_cookie_only_the_page_is_served(console: ConsoleProcess) -> None:
    async with httpx.AsyncClient(base_url=console.url, timeout=30) as client:
        page = await client.get("")
        assert (page.status_code, page.headers["content-type"][:9]) == (200, "text/html")
        assert (await client.get("app.js")).status_code == 200
        for path in READS:
            assert (await client.get(f"api/{path}")).status_code == 401, path
        for path in WRITES:
            assert (await client.post(f"api/{path}", json={})).status_code == 401, path


async def test_every_response_forbids_foreign_content(client: httpx.AsyncClient) -> None:
    found = [
        await client.get("api/me"),
        await client.get("nothing"),
        await client.get("api/threads/none"),
        await client.get("", headers={"host": "evil.example"}),
        await client.delete("api/me", headers=JSON),
        await client.get("api/me", headers={"cookie": "none=1"}),
    ]
    assert [each.status_code for each in found] == [200, 404, 404, 403, 405, 401]
    for response in found:
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"


async def test_the_cookie_is_for_this_browser_and_site_only(console: ConsoleProcess) -> None:
    async with httpx.AsyncClient(base_url=console.url, timeout=30) as client:
        wrong: tuple[object, ...] = ("", "x" * 32, "é", "\ud800", None, 1, ["x"])
        for token in wrong:
            content = json.dumps({"token": token})
            response = await client.post("login", content=content, headers=JSON)
            assert response.status_code in (400, 401), token
            assert "set-cookie" not in response.headers
        response = await client.post("login", json={"token": console.token})
        name, _, rest = response.headers["set-cookie"].partition("=")
        assert name == f"threadbus-{httpx.URL(console.url).port}"
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(rest.split("; "))


async def test_another_host_name_is_refused(console: ConsoleProcess) -> None:
    port = httpx.URL(console.url).port
    async with browser(console) as client:
        for host in (f"localhost:{port}", f"LOCALHOST:{port}", f"127.0.0.1:{port}"):
            assert (await client.get("api/me", headers={"host": host})).status_code == 200, host
        foreign = ["evil.example", f"evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost"]
        foreign += [f"127.0.0.1.evil.example:{port}", f"127.0.0.1:{port}@evil.example", f":{port}"]
        foreign += [f"127.0.0.2:{port}", f"[::1]:{port}", "[", "", f"127.0.0.1:{port}/x", "a:b:c"]
        for host in foreign:
            response = await client.get("", headers={"host": host})
            assert response.status_code in (400, 403), host


async def test_another_site_is_refused(client: httpx.AsyncClient, console: ConsoleProcess) -> None:
    port = httpx.URL(console.url).port
    own = {"origin": f"http://127.0.0.1:{port}"}
    assert (await client.get("api/me", headers=own)).status_code == 200
    foreign = ["https://evil.example", "null", "http://127.0.0.1:1", f"https://127.0.0.1:{port}"]
    foreign += [f"http://localhost:{port}", f"http://127.0.0.1:{port}.evil.example", "", "x"]
    for origin in foreign:
        headers = {"origin": origin}
        assert (await client.get("api/me", headers=headers)).status_code == 403, origin
        response = await client.post("login", json={"token": console.token}, headers=headers)
        assert response.status_code == 403, origin
    for site in ("cross-site", "same-site"):
        headers = {"sec-fetch-site": site}
        assert (await client.get("api/me", headers=headers)).status_code == 403
        assert (await client.post("api/post", json={}, headers=headers)).status_code == 403


async def test_other_sites_may_link_to_the_page(client: httpx.AsyncClient) -> None:
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert (await client.get("", headers=headers)).status_code == 200


async def test_what_a_form_can_send_is_refused(client: httpx.AsyncClient) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        response = await client.post("api/post", content="{}", headers={"content-type": kind})
        assert response.status_code == 403, kind


async def test_a_forged_cookie_is_refused(client: httpx.AsyncClient) -> None:
    ((name, value),) = client.cookies.items()
    expires, _, signature = value.partition(".")
    forged = [
        "",
        ".",
        "x",
        expires,
        f"{expires}.",
        f"{int(expires) + 1}.{signature}",
        f".{signature}",
    ]
    forged += [f"{expires}.{signature[:-1]}", f"{expires}.{signature}0", f"{expires}.{'0' * 64}"]
    for cookie in forged:
        headers = {"cookie": f"{name}={cookie}"}
        client.cookies.clear()
        assert (await client.get("api/me", headers=headers)).status_code == 401, cookie


async def test_cookies_of_other_paths_of_the_host_do_no_harm(client: httpx.AsyncClient) -> None:
    ((name, value),) = client.cookies.items()
    client.cookies.clear()
    for cookie in (
        f"{name}=1.2; {name}={value}",
        f"{name}={value};{name}=;other",
        f"{name}={value}",
    ):
        assert (await client.get("api/me", headers={"cookie": cookie})).status_code == 200, cookie
    many = f"{name}=x;" * 1_000
    assert (await client.get("api/me", headers={"cookie": many})).status_code == 401


def test_a_cookie_is_for_one_key_one_identity_and_a_month(monkeypatch: pytest.MonkeyPatch) -> None:
    def gate(key: bytes = b"k", identity: str = "ann at 127.0.0.1:1") -> Gate:
        urls = ["http://127.0.0.1:80/"]
        return Gate(urls=urls, any_address=False, port=80, key=key, identity=identity)

    one = gate()
    value, lifetime = one.log_in(one.secret)
    gate().check_cookies([f"threadbus-80={value}"])
    for other in (gate(key=b"other"), gate(identity="bob at 127.0.0.1:1")):
        with pytest.raises(Refused):
            other.check_cookies([f"threadbus-80={value}"])
    later = time.time() + lifetime + 1
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(Refused):
        one.check_cookies([f"threadbus-80={value}"])


def test_a_public_address_is_as_browsers_send_it() -> None:
    site = Site.of(("127.0.0.1", 0), None, None, "HTTPS://Bücher.Example:8443/a", insecure=False)
    assert site.urls(1) == ["https://xn--bcher-kva.example:8443/a/"]


def test_the_standard_port_may_be_left_out() -> None:
    for url, host in (
        ("http://bus.example/", "bus.example"),
        ("https://bus.example/c/", "BUS.EXAMPLE:443"),
    ):
        gate = Gate(urls=[url], any_address=False, port=1, key=b"k", identity="")
        gate.check_host({"host": host})
        gate.check_origin("GET", {"host": host, "origin": url.rstrip("/c")})
        with pytest.raises(Refused):
            gate.check_host({"host": f"{host.partition(':')[0]}:8000"})


def test_at_all_addresses_a_host_is_an_address_or_this_machines_name() -> None:
    gate = Gate(urls=["http://box:7480/"], any_address=True, port=7480, key=b"k", identity="")
    for host in ("box:7480", "10.1.2.3:7480", "[fe80::1]:7480"):
        gate.check_host({"host": host})
    for host in ("evil.example:7480", "10.1.2.3", "10.1.2.3.evil.example:7480", "box:1"):
        with pytest.raises(Refused):
            gate.check_host({"host": host})


@pytest.mark.parametrize(
    "path",
    [
        "/../gate.py",
        "/..%2fgate.py",
        "/%2e%2e/gate.py",
        "/%2e%2e%2fgate.py",
        "/..%5cgate.py",
        "/static/app.js",
        "/app.js/../../gate.py",
        "/app.js/",
        "//etc/passwd",
        "/%00",
        "/app.js%00.js",
        "/.",
        "/..",
        "/.js",
        "/static",
    ],
)
def test_no_other_file_is_served(console: ConsoleProcess, path: str) -> None:
    status, content = raw(console, path)
    assert status == 404, content
    assert content == '{"message":"There is nothing here.","reason":"","hint":""}'


def test_what_is_not_http_is_refused(console: ConsoleProcess) -> None:
    address = urlsplit(console.url)
    for sent in (b"\x16\x03\x01\x00", b"GET / HTTP/1.1\r\n\r\n", b"GET\r\n\r\n", b"\x00" * 70_000):
        with socket.create_connection((address.hostname or "", address.port or 0), 30) as opened:
            opened.sendall(sent)
            opened.shutdown(socket.SHUT_WR)
            answer = opened.recv(100)
            assert answer[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 403"), sent
    assert raw(console, "/")[0] == 200


BODIES = [
    (b"", 400),
    (b"{", 400),
    (b"[]", 400),
    (b"null", 400),
    (b'"text"', 400),
    (b"\xff\xfe", 400),
    (b"[" * 100_000, 400),
    (b'{"text": ' + b"9" * 10_000 + b"}", 400),
    (b'{"thread": ["x"], "text": "x"}', 400),
    (b'{"thread": "x", "text": 1}', 400),
    (b'{"thread": "x", "text": "x", "mentions": "bob"}', 400),
    (b'{"thread": "x", "text": "x", "mentions": [1]}', 400),
    (b'{"thread": "x", "text": "x", "reply_to": true}', 400),
    (b'{"thread": "x", "text": "x", "reply_to": 1.5}', 400),
    (b'{"thread": "x", "text": "x", "reply_to": -1}', 400),
    (b'{"thread": "x", "text": "x", "reply_to": 99999999999999999999}', 400),
    (b'{"thread": "x", "text": "x", "ask": "bob"}', 400),
    (b'{"thread": "x", "text": "x", "priority": "now"}', 400),
    (b'{"thread": "x", "text": "x", "request_id": "\\u0000"}', 400),
    (b'{"thread": "x", "text": "x", "on_behalf_of": "bob"}', 400),
    (b'{"thread": "x", "text": "\\ud800"}', 400),
    (b'{"thread": "../x", "text": "x"}', 400),
    (b'{"thread": "", "text": "x"}', 400),
    (b'{"thread": "none", "text": "x"}', 404),
    (b'{"text": "' + b"x" * 4_200_000 + b'"}', 413),
    (b'{"thread": "none", "text": "' + b"x" * 2_000_000 + b'"}', 413),
]


@pytest.mark.parametrize(("body", "status"), BODIES, ids=range(len(BODIES)))
async def test_a_body_that_is_no_post_is_refused(
    client: httpx.AsyncClient, body: bytes, status: int
) -> None:
    response = await client.post("api/post", content=body, headers=JSON)
    assert response.status_code == status, response.text
    assert response.json()["message"]


@pytest.mark.parametrize(
    "after", ["x", "1", ":1", "x:", "x:-1", "x:1:2", "x:9999999999999999", "x: 1", "x:१", "é:1"]
)
async def test_a_position_that_is_none_is_refused(client: httpx.AsyncClient, after: str) -> None:
    response = await client.get("api/events", params={"thread": "x", "after": after})
    assert response.status_code == 400
    headers = {b"last-event-id": after.encode()}
    response = await client.get("api/events", params={"thread": "x"}, headers=headers)
    assert response.status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        "threads/x?before=-1",
        "threads/x?limit=x",
        "threads/x?around=1e3",
        "threads/x/0x1",
        f"threads/x/{'9' * 5000}",
        "threads/x/1/-1",
        "threads/a%20b",
        "threads/x/export?format=html",
    ],
)
async def test_an_address_that_makes_no_sense_is_refused(
    client: httpx.AsyncClient, path: str
) -> None:
    response = await client.get(f"api/{path}")
    assert response.status_code == 400, response.text
