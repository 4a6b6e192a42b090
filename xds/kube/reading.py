"""One reading of folders, single files and standard input: the input of commands that judge manifests and end.

What belongs here: which of the three an argument is, and taking them together. What does not: waiting for changes
(`xds.kube.manifests`), and judging (`xds.offline`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from xds.kube import kustomize, manifests, walk
from xds.kube.kustomize import Kustomized
from xds.kube.objects import Object, ref
from xds.kube.source import Change
from xds.problem import Problem, Ref

STANDARD_INPUT = Path("-")
_SHOWN = "(standard input)"


@dataclass(frozen=True)
class Reading:
    """What was read, and what of the folders belongs to kustomize."""

    change: Change
    kustomized: Kustomized


def read(paths: Sequence[Path], standard_input: Callable[[], bytes]) -> Reading:
    """Everything in these folders and files; "-" is standard input. Raises ManifestsError where one cannot be read, or standard input
    has nothing: the command in front of the pipe has failed then.

    Of two objects with the same Ref the first one counts, those of folders before those of files. Patches of kustomize are left out.
    """
    folders = [path for path in paths if path != STANDARD_INPUT and not path.is_file()]
    for path in folders:
        if not path.exists():
            raise manifests.ManifestsError(f"There is no folder or file {path}.")
    kustomized = kustomize.find(folders)
    change = manifests.Folder(folders, left_out=kustomized.parts).read() if folders else Change()
    objects = {ref(item): item for item in change.put}
    problems = dict(change.problems)
    for path in dict.fromkeys(path for path in paths if path not in folders):
        name, raw = (_SHOWN, standard_input()) if path == STANDARD_INPUT else (str(path), _bytes(path))
        if path == STANDARD_INPUT and not raw.strip():
            raise manifests.ManifestsError("Standard input is empty.")
        found, faults = manifests.of_text(name, raw)
        problems[name] = (*faults, *_added(objects, found))
    return Reading(Change(tuple(objects.values()), (), problems), kustomized)


def _added(objects: dict[Ref, Object], found: Sequence[Object]) -> list[Problem]:
    """Add new objects. One that is defined already becomes a Problem."""
    twice = []
    for item in found:
        first = objects.setdefault(ref(item), item)
        if first is not item:
            twice.append(manifests.duplicate(item, first))
    return twice


def _bytes(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            raw = file.read(walk.MAX_BYTES + 1)
    except OSError as error:
        raise manifests.ManifestsError(f"The file {path} cannot be read: {walk.reason(error)}.") from None
    if len(raw) > walk.MAX_BYTES:
        raise manifests.ManifestsError(f"The file {path} is bigger than {walk.MAX_BYTES:,} bytes.")
    return raw
