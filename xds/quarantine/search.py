"""The search for culprits by halves: a machine of its own, which knows neither resources nor streams.

Among the *suspects* of a rejection is at least one culprit. The search holds one half of them back, and waits for what the Envoy that
rejected them makes of the other half. Each suspect is in one of three places:

    testing   published; the answer is awaited
    tainted   held; has a culprit if all of `testing` is accepted
    unknown   held; nothing is known of it

What happens, and what follows:

    rejected                   what was tainted becomes unknown; half of the suspects becomes tainted, the other half is testing
      the culprits are named   they are convicted, and all that is held is published again and testing
      the answer is late       the half becomes unknown: the culprit may be something that was replaced meanwhile
    all of testing accepted    the first half of what is tainted is published again and testing
      one is tainted           it is convicted, and all that is held is published again and testing
      none is tainted          all that is unknown is published again and testing; where there is none, the search is over
    a suspect changes          what was concluded from it holds no longer: what was tainted becomes unknown

So k culprits among n suspects take at most k (log2 n + 1) Steps, and in the end nothing but culprits is held.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Hashable, Mapping
from typing import Generic, NamedTuple, TypeVar

S = TypeVar("S", bound=Hashable)
MOST_ROUNDS = 400
"""Rejections after which a search that finds ever more culprits is given up, and all suspects stay held."""


class Step(NamedTuple, Generic[S]):
    """What is to be done: hold some for the time of the search, convict some, publish again some that were held. None is in two of them."""

    hold: tuple[S, ...] = ()
    convict: tuple[S, ...] = ()
    publish: tuple[S, ...] = ()


class Search(Generic[S]):
    """Looks for the culprits of one type of resources; true while it does.

    Whoever calls carries out each Step at once, and calls `published` then. Only the answers of `refusers` count: other Envoys may not have
    received what was rejected.
    """

    def __init__(self) -> None:
        self.refusers: set[Hashable] = set()
        self._testing: dict[S, int | None] = {}  # suspect → the generation in which it came out; None while it has not
        self._tainted: list[S] = []
        self._unknown: list[S] = []
        self._rounds = 0

    def __bool__(self) -> bool:
        return bool(self.refusers)

    @property
    def held(self) -> tuple[S, ...]:
        """All that are held for the time of the search."""
        return (*self._tainted, *self._unknown)

    def rejected(self, envoy: Hashable, suspects: Mapping[S, int], certain: Collection[S], likely: Collection[S], *, late: bool) -> Step[S]:
        """An Envoy has rejected these suspects, each of which has been out since a generation; those that were out first stand first.

        According to its words all of `certain` are culprits, and one of `likely` is. `late`: the culprit may have been replaced meanwhile.
        """
        self.refusers = {envoy}
        self._rounds += 1
        if self._rounds > MOST_ROUNDS:
            return self._over(Step(convict=(*suspects, *self.held)))
        if not certain and len(suspects) == 1 and not late:
            certain = suspects.keys()
        order = [*suspects]
        half = certain or (likely if 0 < len(likely) < len(order) else order[(len(order) + 1) // 2 :])
        chosen = frozenset(half)
        held = tuple(suspect for suspect in order if suspect in chosen)
        self._testing = {suspect: since for suspect, since in suspects.items() if suspect not in chosen}
        if certain:
            return Step(convict=held, publish=self._release())
        self._doubt()
        (self._unknown if late else self._tainted).extend(held)
        return Step(hold=held)

    def accepted(self, envoy: Hashable, includes: Callable[[S], bool], generation: int) -> Step[S]:
        """An Envoy has accepted a response of this generation, which includes some of the suspects."""
        if envoy not in self.refusers:
            return Step()
        waiting = self._testing.items()
        self._testing = {s: since for s, since in waiting if since is None or since > generation or not includes(s)}
        return self._go_on()

    def published(self, generation: int, held: Container[S], changed: Collection[S]) -> Step[S]:
        """A generation has been published: what a Step published is out, and these are held now.

        `changed` are others than before, though no Step asked for it: objects change in the middle of a search.
        """
        self._testing = {s: generation if since is None else since for s, since in self._testing.items()}
        tainted = [suspect for suspect in self._tainted if suspect in held]
        concluded = len(tainted) == len(self._tainted) and self._testing.keys().isdisjoint(changed)
        self._tainted = tainted
        self._unknown = [suspect for suspect in self._unknown if suspect in held]
        for suspect in changed:
            self._testing.pop(suspect, None)
        if not concluded:
            self._doubt()
        return self._go_on()

    def confirmed(self, suspect: S) -> Step[S]:
        """Something that is held was rejected alone. Without effect where it is not the search that holds it."""
        if suspect not in self.held:
            return Step()
        self.acquit({suspect})
        then = self._go_on()
        return then._replace(convict=(suspect, *then.convict))

    def acquit(self, innocents: Collection[S]) -> None:
        """Some that are held are so no longer. What is left is not known to have a culprit."""
        self._doubt()
        self._unknown = [suspect for suspect in self._unknown if suspect not in innocents]

    def left(self, envoy: Hashable) -> Step[S]:
        """An Envoy can be asked no longer. Without any the search is over, and everything is published."""
        self.refusers.discard(envoy)
        return Step() if self else self._over(Step(publish=self.held))

    def _go_on(self) -> Step[S]:
        """The next Step, if all of `testing` has been accepted."""
        if self._testing:
            return Step()
        if len(self._tainted) == 1:
            culprit = self._tainted.pop()
            return Step(convict=(culprit,), publish=self._release())
        if self._tainted:
            half = (len(self._tainted) + 1) // 2
            again, self._tainted = self._tainted[:half], self._tainted[half:]
            self._testing |= dict.fromkeys(again)
            return Step(publish=tuple(again))
        if self._unknown:
            return Step(publish=self._release())
        return self._over(Step())

    def _release(self) -> tuple[S, ...]:
        """Everything that is held is published."""
        held = self.held
        self._tainted, self._unknown = [], []
        self._testing |= dict.fromkeys(held)
        return held

    def _doubt(self) -> None:
        """It is no longer known that there is a culprit among what is tainted."""
        self._unknown += self._tainted
        self._tainted = []

    def _over(self, last: Step[S]) -> Step[S]:
        """This is the last Step."""
        self.refusers = set()
        self._testing, self._tainted, self._unknown = {}, [], []
        self._rounds = 0
        return last
