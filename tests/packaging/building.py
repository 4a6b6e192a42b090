"""The wheel of this tree, or of another version of it, built away from the checkout."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
NEEDED = ("pyproject.toml", "README.md", "LICENSE", "docs/xds.1")


def run(*command: str | Path, code: int = 0, **variables: str) -> str:
    """Run a command away from the checkout, and return its output; `code` is the exit code that it must have."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd="/", timeout=500, env={**os.environ, **variables})
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def wheel(work: Path, source: Path) -> Path:
    """Build the wheel of a tree into a folder, and return its path."""
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", work, source)
    (found,) = work.glob("*.whl")
    return found


def copied(work: Path, version: str = "") -> Path:
    """A copy of what the wheel is built from, for setuptools writes beside it; `version` replaces that of the tree."""
    source = work / "source"
    shutil.copytree(ROOT / "xds", source / "xds", ignore=shutil.ignore_patterns("__pycache__"))
    for name in NEEDED:
        (source / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    if version:
        module = source / "xds" / "__init__.py"
        text, count = re.subn(r'(?m)^__version__ = ".*"$', f'__version__ = "{version}"', module.read_text())
        assert count == 1
        module.write_text(text)
    return source


def last_release(work: Path) -> Path:
    """The tree of the last tag. Without a tag, as before the first release and in a shallow clone, this tree under an older version."""
    found = subprocess.run(["git", "describe", "--tags", "--abbrev=0"], check=False, capture_output=True, text=True, cwd=ROOT, timeout=60)
    if found.returncode:
        return copied(work, "0.0.1")
    archive = subprocess.run(["git", "archive", found.stdout.strip()], check=True, capture_output=True, cwd=ROOT, timeout=60)
    source = work / "source"
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tree:
        tree.extractall(source, filter="data")
    return source
