"""NACKs that are replayed when what they were about is published again.

A stream never resends a version that its Envoy has rejected (protocol rule A5). If such a version or content comes back, no new NACK will
come: so the old one is remembered here, within bounds, and counts once more.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace

from xds.protocol.discovery import Acknowledgement
from xds.quarantine.ledger import MOST_CONTENTS, MOST_PARTS, remember
from xds.snapshot import Part, State

MOST_VERSIONS = 64
"""Rejected versions that are remembered."""


class Replays:
    """Contents that were found to be culprits, and rejected versions of which the culprit is not found yet."""

    def __init__(self) -> None:
        self._convicted: dict[Part, dict[str, str]] = {}  # by Part and digest of the content: Envoy's words
        self._rejected: dict[tuple[str, str], tuple[Acknowledgement, set[Hashable]]] = {}  # by type and version: the NACK, and who sent it

    def __bool__(self) -> bool:
        """Whether an ACK may take back one of the rejections."""
        return bool(self._rejected)

    def knows(self, envoy: Hashable) -> bool:
        """Whether this Envoy sent one of the rejections."""
        return any(envoy in envoys for _, envoys in self._rejected.values())

    def convict(self, part: Part, refused: str, words: str) -> None:
        """This content (its digest) is a culprit. It may come back, also after its object was deleted."""
        known = self._convicted.get(part, {})
        remember(known, refused, words, MOST_CONTENTS)
        remember(self._convicted, part, known, MOST_PARTS)

    def acquit(self, part: Part) -> None:
        """An Envoy has accepted what was held of this Part."""
        self._convicted.pop(part, None)

    def verdicts(self, part: Part) -> Mapping[str, str]:
        """The contents (digests) of a Part that were found to be culprits, with Envoy's words."""
        return self._convicted.get(part, {})

    def rejected(self, answer: Acknowledgement, envoy: Hashable) -> None:
        """An Envoy has rejected a version, and what is wrong with it is not known yet."""
        _, envoys = self._rejected.get((answer.type_url, answer.version), (answer, {envoy}))
        remember(self._rejected, (answer.type_url, answer.version), (answer, envoys), MOST_VERSIONS)

    def rejected_too(self, answer: Acknowledgement, envoy: Hashable) -> None:
        """Another Envoy has rejected the same version, if it is one of those."""
        if (known := self._rejected.get((answer.type_url, answer.version))) is not None:
            known[1].add(envoy)

    def accepted(self, answer: Acknowledgement) -> None:
        """An Envoy has accepted this version."""
        self._rejected.pop((answer.type_url, answer.version), None)

    def published(self, type_url: str, state: State) -> tuple[Acknowledgement, Hashable] | None:
        """The NACK to replay if a rejected version is published again: as one of this generation, and of an Envoy that sent it."""
        if (known := self._rejected.get((type_url, state.version))) is None:
            return None
        answer, envoys = known
        return replace(answer, generation=state.generation), next(iter(envoys))

    def left(self, envoy: Hashable) -> None:
        """An Envoy has gone; what it alone has rejected is forgotten."""
        for key, (_, envoys) in [*self._rejected.items()]:
            envoys.discard(envoy)
            if not envoys:
                del self._rejected[key]
