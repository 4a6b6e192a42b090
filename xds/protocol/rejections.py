"""What a client rejected of one type, and how the rest still reaches it: by smaller and smaller responses, until the culprit is alone.

A NACK is about a whole response, and we cannot know which of its resources the client applied. So all of them are sent again, in as many
responses as may await an answer at the same time; what is rejected again is divided again. A resource that was rejected alone is sent
again only with different content (A5). A state-of-the-world response of clusters or listeners cannot be divided, because what it leaves out
is deleted: it is sent again only when the whole of it is different. Rules A5, A10 and T4 of docs/protocol-rules.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from xds.protocol.discovery import NOTHING
from xds.snapshot import Resource, State

MOST_IN_FLIGHT = 16
"""Responses of one delta type that may await an answer."""
MOST_REJECTED = 64
"""Rejected versions that are remembered of one name, or of the full state, until the client accepts one."""
REMOVAL = ""
"""The version of a name whose removal was sent."""


@dataclass(slots=True)
class SentResponse:
    """A response that awaits an answer, or was rejected.

    `updated` and `deleted` are the names about which it has something new: resources, and removals (in state of the world: by absence).
    `complete`: it had everything that was pending at that generation; otherwise only names that were requested meanwhile, or sent apart.
    `apart`: it had only names that are sent apart from others (`Rejections.limit`). `shares_names`: the set `updated` is one that other
    streams use, too.
    """

    resources: tuple[Resource, ...]
    removed: tuple[str, ...]
    updated: frozenset[str]
    deleted: frozenset[str]
    version: str
    generation: int
    at: float
    complete: bool
    apart: bool
    shares_names: bool = False

    @property
    def names(self) -> frozenset[str]:
        """All names about which it has something new."""
        return self.updated | self.deleted if self.deleted else self.updated

    def concerns(self, name: str) -> bool:
        """Whether it has something new about this name."""
        return name in self.updated or name in self.deleted


@dataclass(slots=True, eq=False)
class Rejections:
    """What the client rejected and has not accepted since.

    `isolates_unproven`: a resource that no client has accepted yet is sent alone from the beginning (T4).
    """

    state: State
    isolates_unproven: bool
    response: SentResponse | None = None
    """The last response, if the client rejected it."""
    error: str | None = None
    """The error of the client about that response (A10)."""
    last_was_ack: bool = True
    limits: dict[str, int] = field(default_factory=dict)
    """Names that were in a rejected response, and were not accepted since → how many of them one response may have."""
    versions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Names that the client rejected alone → in which versions. These are never sent again (A5)."""
    full_states: tuple[str, ...] = ()
    """Versions of the full states that it rejected since it last accepted one (A5)."""

    @property
    def resources(self) -> tuple[Resource, ...]:
        """The resources of the last response, if the client rejected it."""
        return self.response.resources if self.response else ()

    @property
    def sends_apart(self) -> bool:
        """Whether some names may have to be sent apart from the others."""
        return self.isolates_unproven or bool(self.limits)

    def limit(self, name: str) -> int | None:
        """How many names a response with this one may have; None if it need not be sent apart from others."""
        if self.isolates_unproven and name in self.state and name in self.state.unproven:
            return 1
        return self.limits.get(name)

    def has_rejected(self, name: str) -> bool:
        """Whether the client rejected this name alone, with the content that it has now."""
        return name in self.versions and self._version(name) in self.versions[name]

    @property
    def current(self) -> frozenset[str]:
        """The names that the client has rejected alone, and whose content is still the same."""
        return frozenset(filter(self.has_rejected, self.versions)) if self.versions else NOTHING

    def _version(self, name: str) -> str:
        return self.state[name].version if name in self.state else REMOVAL

    def reject_full_state(self, sent: SentResponse, error: str) -> frozenset[str]:
        """A NACK of a response that cannot be divided.

        Returns the deleted resources that stood in it and that no client has accepted or rejected before. One of them may be the culprit.
        They stay in the next full state all the same: the client may have them from before a restart of this server, and still use them.
        """
        self._note(sent, error)
        self.full_states = (*self.full_states, sent.version)[-MOST_REJECTED:]
        gone = self.state.gone
        return frozenset(r.name for r in sent.resources if r.name in gone and r.name in self.state.unproven) if gone else NOTHING

    def reject(self, sent: SentResponse, error: str) -> None:
        """A NACK of a response whose names can be sent in smaller responses."""
        self._note(sent, error)
        names = sent.names
        most = -(-len(names) // MOST_IN_FLIGHT)
        for name in names:
            self.limits[name] = min(most, self.limits.get(name, most))
        if len(names) == 1:
            versions = {**{r.name: r.version for r in sent.resources}, **dict.fromkeys(sent.deleted, REMOVAL)}
            for name, version in versions.items():
                self.versions[name] = (*self.versions.get(name, ()), version)[-MOST_REJECTED:]

    def _note(self, sent: SentResponse, error: str) -> None:
        self.response, self.error, self.last_was_ack = sent, error, False

    def accept(self, names: Iterable[str]) -> None:
        """An ACK of a response about these names."""
        self.last_was_ack = True
        self.forget(names)

    def forget(self, names: Iterable[str]) -> None:
        """These names need not be sent apart any more."""
        if self.limits:
            for name in names:
                self.limits.pop(name, None)
                self.versions.pop(name, None)

    def clear(self) -> None:
        """The client has accepted everything: its last error is history (A10)."""
        self.response, self.error, self.full_states = None, None, ()
