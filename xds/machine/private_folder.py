"""Folders that only their user can open, each for the sockets and files of one running program.

What belongs here: their location, locking one, and removing those of dead programs. What does not: their content.

The owner of a folder holds a lock on it (flock). The system releases it when the program ends, for any reason. So a folder
whose lock is free has no owner any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from xds.addresses import LONGEST_SOCKET_PATH
from xds.config import Failure

_LONGEST_NAME = len("/up-65535-99/debug.sock")
"""What paths of sockets have beyond the folder of the user."""
_TRIES = 100


@contextlib.contextmanager
def private_folder(name: str, environment: Mapping[str, str]) -> Iterator[Path]:
    """A folder with mode 0700 and this name, or `name-2` where that one is taken; it goes at the end. Those of dead programs go first.

    Raises Failure where none can be made.
    """
    home = next((folder for folder in homes(environment) if _is_ours(folder, make=True)), None)
    if home is None:
        tried = ", ".join(map(str, homes(environment)))
        raise Failure(f"no folder can be made that only this user can open (tried {tried}): name one of yours in XDG_RUNTIME_DIR.")
    _remove_dead(home)
    folder, lock = _take(home, name)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def homes(environment: Mapping[str, str]) -> list[Path]:
    """Where the folders of a user may be, the best place first. A path of a socket fits in there."""
    shared = f"xds-{os.geteuid()}"
    places = [Path("/tmp") / shared]  # noqa: S108 - anybody may write there: `_is_ours` looks
    if temporary := environment.get("TMPDIR"):
        places.insert(0, Path(temporary) / shared)
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        places.insert(0, Path(runtime) / "xds")
    fitting = (place for place in places if place.is_absolute() and len(os.fsencode(place)) + _LONGEST_NAME <= LONGEST_SOCKET_PATH)
    return list(dict.fromkeys(fitting))


def sockets(name: str, environment: Mapping[str, str]) -> list[Path]:
    """The sockets with this name in the folders of this user and environment, sorted. A program may listen there, or not any more."""
    home = next((folder for folder in homes(environment) if _is_ours(folder, make=False)), None)
    return sorted(path for path in home.glob(f"*/{name}") if path.is_socket()) if home else []


def _is_ours(folder: Path, *, make: bool) -> bool:
    """Whether it is a folder, no link, that only this user can access. In /tmp another user may have created it first."""
    try:
        if make:
            folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            return False
        if make and stat.S_IMODE(found.st_mode) != 0o700:
            folder.chmod(0o700)
    except OSError:
        return False
    return True


def _take(home: Path, name: str) -> tuple[Path, int]:
    """A folder of our own, and the open file that holds its lock."""
    for number in itertools.islice(itertools.count(1), _TRIES):
        folder = home / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            continue
        except OSError as error:
            raise Failure(f"the folder {folder} cannot be made: {error.strerror}.") from None
        if (lock := _lock(folder)) is not None:
            return folder, lock
    raise Failure(f"no folder {name} is free in {home}; remove those that are not needed.")


def _lock(folder: Path) -> int | None:
    """An open file that holds the folder's lock. None where another program holds it, or where the folder was deleted or replaced."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), folder.lstat()):
            return lock
    except OSError:
        pass
    os.close(lock)
    return None


def _remove_dead(home: Path) -> None:
    """Take away what programs that were killed have left."""
    for folder in home.iterdir():
        if (lock := _lock(folder)) is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
