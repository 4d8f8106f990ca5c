"""How databases and errors of libpq are shown to people: on one line, and without passwords."""

import re
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import pq

#: What servers say that have no connection left. libpq does not pass their SQLSTATE 53300 on.
EXHAUSTED = re.compile("too many (clients|connections)|connection slots are reserved")

# psycopg lists the failures so if it tried several addresses.
_ALL_FAILURES = "All failures were:\n"
_FAILURE = re.compile(
    r"^- host: (?P<host>None|'.*?'), port: (?P<port>None|'.*?'), hostaddr: \S+: "
    r"(?P<reason>.*?)(?=^- host: |\Z)",
    re.MULTILINE | re.DOTALL,
)
# What precedes the reason of a failure: who tells it, where it happened, and how bad it is.
_PREFIX = re.compile(
    r"(connection (failed|is bad): )?(connection to server (at|on socket) .*? failed: )?"
    r"((FATAL|ERROR):  )?"
)

#: Why a database that is a standby cannot be used, and what can.
STANDBY = (
    "it is a standby, which cannot be written: name the primary, or all servers in any order: "
    "postgresql://USER@HOST1,HOST2/DATABASE"
)


def url(given: Mapping[str, Any]) -> str:
    """Returns where a database is, as a URL without user, password and options.

    `given`: parameters of libpq. Without a service, the environment's complete them.
    """
    if not given.get("service"):
        given = {**_defaults(), **given}
    hosts = str(given.get("host") or given.get("hostaddr") or "").split(",")
    ports = str(given.get("port") or "").split(",")
    query = [f"service={given['service']}"] if given.get("service") else []
    if any(host.startswith(("/", "@")) for host in hosts):  # folders of Unix sockets
        query.append(f"host={','.join(hosts)}")
        query += [f"port={','.join(ports)}"] if any(ports) else []
        place = ""
    else:
        ports = ports * len(hosts) if len(ports) == 1 else ports
        place = ",".join(map(_place, hosts, ports))
    database = given.get("dbname") or ("" if given.get("service") else given.get("user")) or ""
    return f"postgresql://{place}/{database}" + (f"?{'&'.join(query)}" if query else "")


def _defaults() -> dict[str, str]:
    """Returns the parameters that libpq takes from the environment, such as PGHOST."""
    options = pq.Conninfo.get_defaults()
    return {
        option.keyword.decode(): option.val.decode("utf-8", "replace")
        for option in options
        if option.val and option.val != option.compiled
    }


def _place(host: str, port: str) -> str:
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{port}" if port else host


def connect_failure(error: psycopg.Error) -> str:
    """Returns why no connection could be made: each reason once, with the hosts if they differ."""
    text = str(error)
    _, _, failures = text.partition(_ALL_FAILURES)
    places = dict[str, list[str]]()
    for each in _FAILURE.finditer(failures):
        host, port = (each[part].strip("'").replace("None", "") for part in ("host", "port"))
        places.setdefault(_reason(each["reason"]), []).append(_place(host, port))
    if len(places) < 2:
        return next(iter(places), "") or _reason(text)
    return "; ".join(f"{', '.join(dict.fromkeys(at))}: {why}" for why, at in places.items())


def _reason(text: str) -> str:
    # Lines that begin with a tab explain the one before.
    lines = [
        _PREFIX.sub("", line, count=1) for line in text.splitlines() if not line.startswith("\t")
    ]
    reason = "; ".join(dict.fromkeys(" ".join(line.split()) for line in lines if line.strip()))
    # Sessions are read-only on standbys only: Database.connect sets what else makes them so.
    return STANDBY if reason == "session is read-only" else reason


def failure(error: psycopg.Error) -> str:
    """Returns what failed while a connection was in use."""
    return error.diag.message_primary or _reason(str(error))
