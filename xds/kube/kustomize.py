"""Which files of a folder are only parts of what kustomize puts together.

What belongs here: reading kustomization files for the patches that they name. What does not: doing what kustomize does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xds.kube import documents, walk

NAMES = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_PATCHES = ("patches", "patchesStrategicMerge", "patchesJson6902", "replacements", "transformers", "configurations")
"""Fields of a kustomization (kustomize.config.k8s.io/v1beta1) that name files which are no whole objects."""
_MAX_BYTES = 2**20


@dataclass(frozen=True)
class Kustomized:
    """`folders` hold a kustomization file; `parts` are the files that some kustomization takes for patches. Absolute paths."""

    folders: frozenset[str] = frozenset()
    parts: frozenset[str] = frozenset()


def find(roots: Sequence[Path]) -> Kustomized:
    """What kustomization files there are in these folders and below, and which patches they name. What cannot be read names nothing."""
    folders: set[str] = set()
    parts: set[str] = set()
    for folder, name in _kustomizations(roots):
        folders.add(folder)
        parts.update(os.path.normpath(os.path.join(folder, part)) for part in _named(os.path.join(folder, name)))
    return Kustomized(frozenset(folders), frozenset(parts))


def _kustomizations(roots: Sequence[Path]) -> Iterator[tuple[str, str]]:
    shown = {os.path.abspath(root): str(root) for root in roots}
    for folder in walk.walk(shown, str).folders:
        yield from ((folder, name) for name in NAMES if os.path.isfile(os.path.join(folder, name)))


def _named(path: str) -> Iterator[str]:
    try:
        with open(path, "rb") as file:
            found = documents.read(file.read(_MAX_BYTES))
    except (OSError, documents.UnreadableText):
        return
    for document in found:
        if isinstance(document.value, Mapping):
            for field in _PATCHES:
                yield from _paths(document.value.get(field))


def _paths(entries: Any) -> Iterator[str]:
    """`- file.yaml` and `- path: file.yaml`; a patch that is written inline is no file."""
    for entry in entries if isinstance(entries, list) else ():
        path = entry.get("path") if isinstance(entry, Mapping) else entry
        if isinstance(path, str) and "\n" not in path:
            yield path
