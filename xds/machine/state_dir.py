"""The folder of `--state-dir`: what outlives a restart where no cluster keeps it. Files hold private keys, and are mode 0600."""

from __future__ import annotations

import os
from pathlib import Path

_HELD = "held.json"


def write(path: Path, content: bytes) -> None:
    """Replace a file, whole or not at all. The folder is made with mode 0700. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    draft.replace(path)


def remember(folder: Path, body: bytes) -> None:
    """What Envoy rejects (`xds.units.record`). Raises OSError."""
    write(folder / _HELD, body)


def recall(folder: Path) -> bytes:
    """What was remembered last; nothing if nothing was. Raises OSError."""
    path = folder / _HELD
    return path.read_bytes() if path.exists() else b""
