"""What is held because Envoy rejected it, as far as the tables need to know: what stands in the place of a Unit's value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar, cast

from xds.snapshot import Part
from xds.units.parts import Held, Raw, Value, digest, names_cluster, replaced, stand_in

V = TypeVar("V", bound=Value)


class Holds(dict[Part, Held]):
    """What is held. A hold ends by itself when the content is no longer the one that was refused, or not there any more.

    `ended` are those that have, with what Envoy is to have of them now; the caller that takes note of them empties it.
    """

    def __init__(self, raws: Iterable[Raw] = ()) -> None:
        super().__init__()
        self.ended: dict[Part, Value | None] = {}
        self._raws = tuple(raws)

    def effective(self, part: Part, value: V | None) -> V | None:
        """What Envoy is to have of a Part whose Unit has this value."""
        if self._raws:
            value = cast("V | None", replaced(part, value, self._raws))
        if not self or (held := self.get(part)) is None:
            return value
        if value is not None and (self.is_along(held, value) if held.along else digest(value) == held.refused):
            return cast("V | None", stand_in(held, value))
        del self[part]
        self.ended[part] = value
        return value

    def is_along(self, held: Held, value: Value | None = None) -> bool:
        """Whether one of the clusters with which this is held is left out; with a `value`, one of those that it names."""
        missing = [part for part in held.along if part in self and self[part].instead is None]
        return bool(missing if value is None else names_cluster(value).intersection(missing))

    def free(self) -> list[Part]:
        """What is held along with clusters of which none is left out any longer."""
        return [part for part, held in self.items() if held.along and not self.is_along(held)]
