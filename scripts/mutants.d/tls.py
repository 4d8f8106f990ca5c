"""Mutants: TLS."""

from sabotage import Edit, Sabotage

SABOTAGES = [
    Sabotage(
        "new certificates are never used",
        [
            Edit(
                "bus_server/tls.py",
                "        fresh, self._fresh = self._fresh, None\n",
                "        fresh = None\n",
            )
        ],
        ["tests/test_tls_renewal.py::test_a_certificate_of_another_ca_is_taken_up_too"],
    ),
    Sabotage(
        "a certificate that has expired is used",
        [Edit("bus_server/tls.py", "    if now > expires:\n", "    if False:\n")],
        [
            "tests/test_tls_files.py::test_a_certificate_that_cannot_be_used_is_refused",
            "tests/test_tls_renewal.py::test_a_certificate_that_has_expired_is_not_taken_up",
        ],
    ),
    Sabotage(
        "what is wrong with a certificate is logged at each look",
        [
            Edit(
                "bus_server/tls.py",
                "if failure == self._failure != self._warned:",
                "if failure == self._failure:",
            )
        ],
        ["tests/test_tls_renewal.py::test_what_is_wrong_is_logged_once_however_often_it_is_seen"],
    ),
    Sabotage(
        "what is wrong with a certificate is never logged",
        [
            Edit(
                "bus_server/tls.py",
                "if state == self._state and not self._failure:",
                "if state == self._state:",
            )
        ],
        [
            "tests/test_tls_renewal.py::test_a_certificate_that_cannot_be_used_is_not_taken_up_and_logged_once"
        ],
    ),
    Sabotage(
        "client certificates are optional",
        [
            Edit(
                "bus_server/tls.py",
                "require_client_authentication=self._loaded.client_ca is not None",
                "require_client_authentication=False",
            )
        ],
        ["tests/test_tls_serving.py::test_with_a_client_ca_clients_need_a_certificate_from_it"],
    ),
    Sabotage(
        "with TLS, no token is required beyond loopback",
        [
            Edit(
                "bus_server/listening.py",
                'reach = "tls" if tls and auth == "required" else "insecure"',
                'reach = "tls" if tls else "insecure"',
            )
        ],
        ["tests/test_tls_serving.py::test_beyond_loopback_tls_without_tokens_is_refused"],
    ),
    Sabotage(
        "clients use no TLS to other machines",
        [
            Edit(
                "bus_client/address.py",
                "return scheme == _TLS or (not scheme and not is_local(address))",
                "return scheme == _TLS",
            )
        ],
        ["tests/test_addresses.py::test_an_address_says_whether_it_is_encrypted"],
    ),
    Sabotage(
        "a token that was stored for TLS is sent without it",
        [
            Edit(
                "bus_client/credentials.py",
                'scheme, port = server.removesuffix(where), where.rpartition(":")[2]',
                'scheme, port = "", where.rpartition(":")[2]',
            )
        ],
        ["tests/test_tls_clients.py::test_a_token_for_tls_is_never_that_of_the_address_without_it"],
    ),
    Sabotage(
        "localhost is verified as 127.0.0.1",
        [
            Edit(
                "bus_client/channel.py",
                '        options.append(("grpc.ssl_target_name_override", "localhost"))\n',
                "        pass\n",
            )
        ],
        ["tests/test_tls_clients.py::test_localhost_is_verified_by_that_name"],
    ),
    Sabotage(
        "clients do not find out that TLS prevents connections",
        [
            Edit(
                "bus_client/tls_faults.py",
                '    if address.startswith("unix:"):\n',
                "    if address:\n",
            )
        ],
        ["tests/test_tls_faults.py::test_an_expired_certificate_is_told"],
    ),
    Sabotage(
        "open waits go on when TLS prevents connections",
        [
            Edit(
                "bus_client/stream.py",
                "await calls.raise_tls_fault(max(0.0, min(left, _SEARCH_TIMEOUT)))",
                "await asyncio.sleep(min(left, 0))",
            )
        ],
        [
            "tests/test_tls_faults.py::test_waits_and_posts_end_when_the_servers_certificate_is_no_longer_trusted"
        ],
        timeout=60,
    ),
    Sabotage(
        "a proxy that closes connections is taken for a server that requires a certificate",
        [
            Edit(
                "bus_client/tls_faults.py",
                "if not await _asks_for_certificate(address, context):",
                "if False:",
            )
        ],
        ["tests/test_tls_faults.py::test_a_proxy_whose_server_is_away_is_unreachable_and_retried"],
    ),
]
