"""Who is to blame when Envoy refuses a response, and what is held until that is mended: the search, without its clocks and streams.

It is told what was published (`published`) and what the Envoys answered (`accepted`, `rejected`), and orders what is to be held from now
on, or (None) held no longer. `xds.units.tables` carries the orders out. The rules:

1. A Part is *unproven* from the moment in which its content changed until one Envoy has accepted a response with it. What one Envoy has
   accepted is good, whoever else refuses it: that is told of that Envoy alone, and holds nothing.
2. Of a rejected response only the unproven Parts are suspects. If Envoy's words accuse one of them, or there is but one, it is the
   culprit: it stays held, at what was last proven or at nothing, and all others are published at once.
3. Otherwise one half of the suspects is held. If the other half is accepted, it is out and good, and the culprit is among the held ones; if
   it is rejected, it holds a culprit, and nothing is known of the held ones any longer. So it goes on by halves until the culprit is
   alone. Then everything else is published, and if that is rejected the next search begins: k culprits among n suspects take at most
   k (log2 n + 1) rounds. Only those who rejected are asked: others may not have seen it.
4. A rejection says nothing new if Parts that are held by now were in it; but of one Part alone it says that this is a culprit.
5. An Envoy that refuses what others have accepted is *odd*: until it accepts something again, its rejections say nothing of what is new.
6. A rejection that comes late may be about a content that has been replaced meanwhile. Then it convicts nobody by elimination, and of the
   half that is held for it nothing is known. One of a response with something that was gone, and that nobody has judged, says nothing: the
   same is said again without it.
7. What is held is tried again when its content changes, never otherwise (`xds.units.tables.Holds`).
8. What names a cluster that is left out, be it for the time of a search, is held *along* with it: it stands at what was accepted before
   it named that cluster. If nothing was, it stays as it is, for it may do more than lead to that cluster.
9. Of a new cluster that one Envoy has accepted and another one refuses, which serves already, all that names it goes back as well, and it
   is left out: for as long as that Envoy is there. Otherwise what was served by that Envoy before would be served no longer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from xds.problem import Ref
from xds.protocol.session import Answer
from xds.quarantine.refusal import accused
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, TYPES, Part
from xds.units.parts import Entry, Held, Host, Move, Value, content, digest, names_cluster, same

Orders = dict[Part, Held | None]
MOST_ROUNDS = 400
"""Rejections after which a search that finds ever more culprits is given up, and all suspects stay held."""
MOST_CAUSES = 16
MOST_DIVIDED = 8
"""Clusters that one Envoy may keep from the others (rule 9). One that refuses more is not well."""
MOST_NEW = 256
"""Clusters in a response beyond which it is no change of what an Envoy serves."""
_SAID_APART = (ENDPOINT, SECRET)
"""Types of which a Session says what was rejected once more, one resource a response: that finds the culprit, too."""
_NAMING = (LISTENER, ROUTE)
"""Types of which some Parts name clusters."""
_WHOLE = (CLUSTER, ENDPOINT, SECRET)
"""Types whose resources have no pieces."""
MOST_REMEMBERED = 64
"""Versions that were rejected, and contents of one Part that were found to be culprits."""
MOST_REPLACED = 4_096
"""Parts of which it is remembered when they had other contents that nobody has accepted, or which of them are culprits."""


@dataclass(frozen=True, slots=True)
class Unproven:
    """A Part that no Envoy has accepted as it is: `since` which generation of its type it is so, what was proven `before`, and which
    objects have changed since then."""

    since: int
    before: Value | None
    causes: tuple[Ref, ...] = ()


@dataclass(frozen=True, slots=True)
class Span:
    """Generations in which a content was published: from `since`, before `until`."""

    since: int
    until: int


@dataclass(slots=True)
class Past:
    """A content (its digest), and when it was published without being accepted; the `value` of what a Part was last before it changed."""

    digest: str
    spans: list[Span] = field(default_factory=list)
    value: Value | None = field(default=None, repr=False)  # it may be a private key


@dataclass(slots=True)
class Search:
    """Looks for the culprits of one type.

    `refusers` are the Envoys that are asked. `testing` (Part → the generation in which it came out) awaits their answer; `tainted` is held,
    and has a culprit if all of `testing` is accepted; of `unknown`, held as well, nothing is known.
    """

    testing: dict[Part, int] = field(default_factory=dict)
    tainted: list[Part] = field(default_factory=list)
    unknown: list[Part] = field(default_factory=list)
    refusers: set[Hashable] = field(default_factory=set)
    words: str = ""
    rounds: int = 0

    def parts(self) -> list[Part]:
        """All that are held for the time of the search."""
        return [*self.tainted, *self.unknown]


class Quarantine:
    """What is proven, what is held, and the searches that are going on.

    `holds` is what is held now, kept by `xds.units.tables.Tables`; `values` gives the contents of Parts that are published, `naming` the
    Parts (with their contents) that name one of these clusters. `serves` says of an Envoy whether it has accepted routes.
    """

    def __init__(
        self,
        holds: Mapping[Part, Held],
        values: Callable[[Collection[Part]], Mapping[Part, Value]],
        naming: Callable[[Collection[Part]], Mapping[Part, Value]],
        serves: Callable[[Any], bool],
    ) -> None:
        self._holds = holds
        self._values = values
        self._naming = naming
        self._serves = serves
        self._unproven: dict[str, dict[Part, Unproven]] = {type_url: {} for type_url in TYPES}
        self._past: dict[Part, Past] = {}  # of what is held, or has been out before, with the same content
        self._replaced: dict[Part, dict[str, Past]] = {}  # other contents that were never accepted, by digest
        self._convicted: dict[Part, dict[str, str]] = {}  # contents (digests) that were found to be culprits, with Envoy's words
        self._rejected: dict[tuple[str, str], tuple[Answer, set[Hashable]]] = {}  # by type and version, and who has said so
        self._odd: set[tuple[Hashable, str]] = set()  # stream and type
        self._latest: dict[tuple[Hashable, str], int] = {}  # the generation that a stream has accepted something of
        self._worked: dict[Part, Value] = {}  # of what has been accepted, or is held along: what it was before it named new clusters
        self._left: dict[Part, Value] = {}  # what was accepted of clusters that are gone
        self._since: dict[Part, int] = {}  # the generation since which a cluster is as it is
        self._refusals: dict[Hashable, deque[Answer]] = {}  # what an Envoy has said last of clusters that it refuses
        self._divided: dict[Part, set[Hashable]] = {}  # held clusters that some Envoys have accepted, and who has refused them
        self._good: dict[Part, str] = {}  # digests of what was held though another Envoy takes it
        self._searches: dict[str, Search] = {}
        self._generations: dict[str, int] = dict.fromkeys(TYPES, 0)
        self._versions: dict[str, str] = dict.fromkeys(TYPES, "")

    @property
    def searching(self) -> bool:
        """Whether a culprit is being looked for."""
        return bool(self._searches)

    @property
    def remembered(self) -> dict[Part, Held]:
        """Those culprits that outlive a restart: not what is held for the sake of an Envoy that is here now."""
        return {p: held for p, held in self.culprits.items() if p not in self._divided and not held.along & self._divided.keys()}

    @property
    def culprits(self) -> dict[Part, Held]:
        """What stays held, by Part; without what is held for the time of a search."""
        return {part: held for part, held in self._holds.items() if held.proven}

    def cares(self, answer: Answer) -> bool:
        """Whether an ACK may tell something new; for those that come by the thousand."""
        type_url = answer.type_url
        return bool(self._unproven[type_url] or self._past or self._odd or self._rejected or type_url in self._searches)

    def knows(self, envoy: Hashable) -> bool:
        """Whether it matters that this Envoy leaves."""
        if any((envoy, type_url) in self._latest or (envoy, type_url) in self._odd for type_url in TYPES):
            return True
        asked = any(envoy in search.refusers for search in self._searches.values())
        asked = asked or envoy in self._refusals
        return asked or any(envoy in envoys for _, envoys in self._rejected.values())

    # What happens

    def published(
        self, moved: Mapping[Part, Move], states: Mapping[str, tuple[int, str]], causes: Iterable[Ref] = (), ordered: Collection[Part] = ()
    ) -> Orders:
        """These Parts moved; each type has this generation and version now.

        `causes` are the objects that changed; `ordered` are the Parts of orders that were carried out. Returns further orders.
        """
        for type_url, (generation, version) in states.items():
            self._generations[type_url], self._versions[type_url] = generation, version
        self._replace({part: move for part, move in moved.items() if part not in ordered})
        named = tuple(sorted(causes))[:MOST_CAUSES]
        for part, move in moved.items():
            self._note(part, move, named)
        orders: Orders = {}
        for type_url in list(self._searches):
            orders |= self._look_around(type_url, moved.keys() - set(ordered))
        bad = self._known_to_be_bad(moved.keys() - set(ordered))
        self._divided = {part: envoys for part, envoys in self._divided.items() if part in self._holds}
        self._note_culprits(ordered)
        for type_url in {part.type_url for part in moved} - {part.type_url for part in bad}:
            orders |= self._remember(type_url, *states[type_url])
        return self._along(orders | self._divide_good(ordered) | bad, moved)

    def _note_culprits(self, ordered: Iterable[Part]) -> None:
        """Orders were carried out by which some are held for good."""
        for part in ordered:
            if part in self._holds and self._holds[part].proven and not self._holds[part].along and part not in self._divided:
                self._convict_content(part, self._holds[part].refused, self._holds[part].words)

    def _note_replaced(self, answer: Answer) -> None:
        """What was rejected all by itself, and has been replaced meanwhile, would not be told again if it came back (xDS rule A5)."""
        part = Part(answer.type_url, *answer.names)
        if answer.type_url in _WHOLE:
            for refused, past in self._replaced.get(part, {}).items():
                if _covers(past, answer.generation):
                    self._convict_content(part, refused, answer.error or "")

    def _convict_content(self, part: Part, refused: str, words: str) -> None:
        """It may come back, also after its object was deleted; a stream on which it was rejected alone is never told it again (A5)."""
        known = self._convicted.pop(part, {}) | {refused: words}
        self._convicted[part] = dict([*known.items()][-MOST_REMEMBERED:])
        if len(self._convicted) > MOST_REPLACED:
            del self._convicted[next(iter(self._convicted))]

    def _known_to_be_bad(self, moved: Iterable[Part]) -> Orders:
        """What was once found to be a culprit, and has come back."""
        suspects = [part for part in moved if part in self._convicted and self.is_unproven(part)]
        values = self._values(suspects) if suspects else {}
        known = {part: self._convicted[part].get(digest(value)) for part, value in values.items()}
        return {part: self._hold(part, values[part], words, proven=True) for part, words in known.items() if words is not None}

    def _remember(self, type_url: str, generation: int, version: str) -> Orders:
        """Where content that was rejected has come back: nobody will be told it again (xDS rule A5), so nobody will reject it again."""
        if (known := self._rejected.get((type_url, version))) is None:
            return {}
        answer, envoys = known
        return self._reject(replace(answer, generation=generation), next(iter(envoys)))

    def accepted(self, answer: Answer, envoy: Hashable) -> Orders:
        """An Envoy has accepted something. `envoy` stands for the stream on which it said so."""
        type_url = answer.type_url
        self._odd.discard((envoy, type_url))
        self._latest[envoy, type_url] = answer.generation
        self._rejected.pop((type_url, answer.version), None)
        self._prove(type_url, self._suspects(answer))
        self._note_accepted_late(answer)
        orders = self._acquit(type_url, [part for part in self._held_in(answer) if not self._holds[part].along])
        search = self._searches.get(type_url)
        if search is None or envoy not in search.refusers:
            return self._along(orders)
        tested = [part for part, since in search.testing.items() if part.resource in answer.names and since <= answer.generation]
        for part in tested:
            del search.testing[part]
        return self._along(orders | self._go_on(type_url))

    def _note_accepted_late(self, answer: Answer) -> None:
        """What has been replaced meanwhile was accepted: that is what there was before."""
        unproven = self._unproven[answer.type_url]
        for part in unproven.keys() & self._replaced.keys():
            for past in self._replaced[part].values() if part.resource in answer.names else ():
                if past.value is not None and _covers(past, answer.generation):
                    unproven[part] = replace(unproven[part], before=past.value)

    def _prove(self, type_url: str, parts: Collection[Part]) -> None:
        """These are accepted as they are. What names clusters that nobody has accepted may have to go back all the same."""
        values = self._values(parts) if type_url in _NAMING else {}
        for part in parts:
            before, now = self._unproven[type_url].pop(part).before, values.get(part)
            if isinstance(before, Host | Entry) and isinstance(now, Host | Entry) and not now.clusters <= before.clusters:
                self._worked[part] = before
        self._forget(parts)
        while len(self._worked) > MOST_REPLACED:
            del self._worked[next(iter(self._worked))]

    def rejected(self, answer: Answer, envoy: Hashable) -> Orders:
        """An Envoy has rejected something. No orders where that says nothing of what nobody else has accepted."""
        return self._along(self._reject(answer, envoy))

    def _reject(self, answer: Answer, envoy: Hashable) -> Orders:
        if answer.besides:
            return {}
        if answer.type_url == CLUSTER:
            self._refusals.setdefault(envoy, deque(maxlen=MOST_DIVIDED)).append(answer)
        type_url, words = answer.type_url, answer.error or ""
        if answer.version == self._versions[type_url]:  # what has been replaced meanwhile has come back: nobody is told it again
            answer = replace(answer, generation=self._generations[type_url])
        search = self._searches.get(type_url)
        suspects, held, late = self._suspects(answer), self._held_in(answer), self._was_replaced(answer)
        if (known := self._rejected.get((type_url, answer.version))) is not None:
            known[1].add(envoy)
        if late and len(answer.names) == 1:
            self._note_replaced(answer)
        if held:
            if search is not None:
                search.refusers.add(envoy)
            return self._confirm(type_url, held[0]) if len(held) == 1 and not suspects and not late else {}
        if not suspects and not late:
            if answer.generation <= self._latest.get((envoy, type_url), -1):
                return self._divide(answer, envoy)  # heard of late: it has accepted something since
            self._odd.add((envoy, type_url))
            return self._without(envoy, (type_url,)) | self._divide(answer, envoy)
        if (envoy, type_url) in self._odd or (type_url in _SAID_APART and len(suspects) > 1):
            return {}
        self._rejected[type_url, answer.version] = answer, known[1] if known is not None else {envoy}
        if len(self._rejected) > MOST_REMEMBERED:
            del self._rejected[next(iter(self._rejected))]
        if not suspects:
            return {}
        search = self._searches.setdefault(type_url, Search())
        search.words, search.refusers = words, {envoy}
        search.rounds += 1
        if search.rounds > MOST_ROUNDS:
            return self._give_up(type_url, suspects)
        return self._narrow(search, type_url, suspects, late=late)

    def _narrow(self, search: Search, type_url: str, suspects: list[Part], *, late: bool) -> Orders:
        """One of the suspects is a culprit; if it is `late`, that may be what has been replaced."""
        values = self._values(suspects)
        found = accused(search.words, {part: content(value) for part, value in values.items()})
        culprits = found.certain or (frozenset(suspects) if len(suspects) == 1 and not late else frozenset())
        if culprits:
            return self._convict(type_url, culprits, suspects, values)
        search.unknown += search.tainted
        search.tainted = []
        likely = found.likely if found.likely and len(found.likely) < len(suspects) else frozenset(suspects[(len(suspects) + 1) // 2 :])
        half = [part for part in suspects if part in likely]
        search.testing = {part: self._unproven[type_url][part].since for part in suspects if part not in likely}
        if late:
            search.unknown += half
        else:
            search.tainted = half
        return {part: self._hold(part, values.get(part), search.words, proven=False) for part in half}

    def left(self, envoy: Hashable) -> Orders:
        """An Envoy has gone: what it refused alone is forgotten, and a search in which nobody else can be asked ends."""
        for type_url in TYPES:
            self._odd.discard((envoy, type_url))
            self._latest.pop((envoy, type_url), None)
        for key, (_, envoys) in list(self._rejected.items()):
            envoys.discard(envoy)
            if not envoys:
                del self._rejected[key]
        self._refusals.pop(envoy, None)
        orders = self._without(envoy, list(self._searches))
        for part, envoys in list(self._divided.items()):
            envoys.discard(envoy)
            if not envoys:
                del self._divided[part]
                orders[part] = None
        return self._along(orders)

    def _without(self, envoy: Hashable, types: Iterable[str]) -> Orders:
        """This Envoy cannot be asked about these types any longer."""
        orders: Orders = {}
        for type_url in types:
            search = self._searches.get(type_url)
            if search is not None and envoy in search.refusers:
                search.refusers.discard(envoy)
                if not search.refusers:
                    orders |= self._release(type_url)
                    del self._searches[type_url]
        return orders

    def learn(self, held: Mapping[Part, Held], good: Mapping[Part, str]) -> Orders:
        """What another replica, or this one before a restart, has found out; as far as it is about what is published now."""
        orders: Orders = {}
        for part, refused in good.items():
            if part in self._holds and self._holds[part].refused == refused:
                orders |= self._acquit(part.type_url, [part])
        values = self._values([part for part in {*held, *good} if part not in self._holds])
        now = {part: digest(value) for part, value in values.items()}
        self._good |= {part: refused for part, refused in good.items() if now.get(part) == refused}
        for part, found in held.items():
            if now.get(part) != found.refused or part in self._good or found.along:
                continue
            if self.is_unproven(part):
                self._end_span(part, found.refused)
                orders[part] = found
            else:
                self._good[part] = found.refused
        missing = self._left_out(orders)
        for part, found in held.items():
            if found.along and part in values and (along := self._held_along(part, values[part], missing, found)) is not None:
                orders[part] = along
        return self._along(orders)

    @property
    def good(self) -> dict[Part, str]:
        """The contents (digests) that one Envoy has refused and another one accepted."""
        return dict(self._good)

    def is_unproven(self, part: Part) -> bool:
        """Whether no Envoy has accepted the Part as it is published."""
        return part in self._unproven[part.type_url]

    # What names what is left out

    def _divide(self, answer: Answer, envoy: Hashable) -> Orders:
        """Leaves out the clusters that this Envoy alone refuses, if all that names them can go back (rule 9)."""
        if answer.type_url != CLUSTER or len(answer.names) > MOST_NEW or not self._serves(envoy):
            return {}
        users = self._naming([Part(CLUSTER, name) for name in answer.names])
        new = {user: names_cluster(now) - names_cluster(before) for user, now in users.items() if (before := self._before(user))}
        said = (Part(CLUSTER, name) for name in answer.names)
        values = self._values([part for part in said if self._since.get(part, answer.generation) <= answer.generation])
        suspects = {part: content(value) for part, value in values.items()}
        found = accused(answer.error or "", suspects).certain or (suspects.keys() if len(suspects) == 1 else ())
        orders: Orders = {}
        for part in sorted(found):
            mine = sum(envoy in envoys for envoys in self._divided.values())
            of = [user for user, now in users.items() if part in names_cluster(now)]
            if of and mine < MOST_DIVIDED and all(part in new.get(user, ()) for user in of):
                self._divided[part] = {envoy}
                orders[part] = Held(digest(values[part]), None, answer.error or "")
        return orders

    def _divide_good(self, ordered: Collection[Part]) -> Orders:
        """What was held, and is out as another Envoy accepts it, is still refused by the first, which will not be asked again."""
        again = {part.resource for part in ordered if part.type_url == CLUSTER and part in self._good and part not in self._holds}
        orders: Orders = {}
        for envoy, answers in self._refusals.items() if again else ():
            for answer in [answer for answer in answers if not again.isdisjoint(answer.names)]:
                orders |= self._divide(replace(answer, names=answer.names & again, generation=self._generations[CLUSTER]), envoy)
        return orders

    def _left_out(self, orders: Orders) -> dict[Part, Held]:
        """The clusters that are not there, once the orders are carried out, because Envoy refuses all there ever was of them."""
        return {p: held for p, held in {**self._holds, **orders}.items() if held and held.instead is None and p.type_url == CLUSTER}

    def _along(self, orders: Orders, moved: Mapping[Part, Move] = MappingProxyType({})) -> Orders:
        """The orders, and those for what names a cluster that they leave out; `moved` may name one that was left out before (rule 8)."""
        if not (orders or moved) or not (missing := self._left_out(orders)):
            return orders
        naming = {part: move.new for part, move in moved.items() if part.type_url in _NAMING and move.new is not None}
        if new := [part for part in missing if part in orders]:
            naming |= self._naming(new)
        found = {part: self._held_along(part, value, missing) for part, value in naming.items() if orders.get(part) is None}
        return orders | {part: held for part, held in found.items() if held is not None and held != self._holds.get(part)}

    def _names_new(self, value: Value | None) -> bool:
        """Whether something names a cluster of which nobody has accepted anything."""
        unproven = self._unproven[CLUSTER]
        return any(part in unproven and unproven[part].before is None for part in names_cluster(value))

    def _before(self, part: Part) -> Value | None:
        """What was accepted of a Part before it named a cluster that nobody has accepted."""
        known = self._unproven[part.type_url].get(part)
        return known.before if known is not None else self._worked.get(part)

    def _held_along(self, part: Part, value: Value, missing: Mapping[Part, Held], found: Held | None = None) -> Held | None:
        """What holds a Part that names some of these clusters; None if it does not, is held itself, or nothing was accepted before.

        `found` is what was remembered of it.
        """
        held, known = self._holds.get(part, found), self._unproven[part.type_url].get(part)
        before = held.instead if held is not None else self._before(part)
        named = names_cluster(value).intersection(missing)
        if before is None or not named or (held is not None and not held.along):
            return None
        if held is None and not names_cluster(before).isdisjoint(missing):
            return None
        if known is not None:
            self._end_span(part, digest(value))
        refusals = [missing[name] for name in sorted(named)]
        words, proven = refusals[0].words, any(refusal.proven for refusal in refusals)
        if held is None:
            held = Held(digest(value), before, "", causes=known.causes if known is not None else ())
        self._worked[part] = before  # without the clusters that it is held with
        return replace(held, words=words, proven=proven, along=named)

    # How the search goes on

    def _acquit(self, type_url: str, innocents: Collection[Part]) -> Orders:
        """These were refused by one Envoy and accepted by another: they are good (rule 1)."""
        for part in innocents:
            self._convicted.pop(part, None)
            self._good[part] = self._holds[part].refused
        search = self._searches.get(type_url)
        if search is not None and innocents:
            search.unknown = [part for part in search.parts() if part not in innocents]
            search.tainted = []
        self._forget(innocents)
        return dict.fromkeys(innocents)

    def _go_on(self, type_url: str) -> Orders:
        """If what was tested is good: the next step."""
        search = self._searches.get(type_url)
        if search is None or search.testing:
            return {}
        if len(search.tainted) == 1:
            culprit = search.tainted.pop()
            return {culprit: replace(self._holds[culprit], proven=True)} | self._release(type_url)
        if search.tainted:
            half = search.tainted[: (len(search.tainted) + 1) // 2]
            search.tainted = search.tainted[len(half) :]
            return self._test(type_url, half)
        if search.unknown:
            return self._release(type_url)
        del self._searches[type_url]
        return {}

    def _convict(self, type_url: str, culprits: Collection[Part], suspects: Iterable[Part], values: Mapping[Part, Value]) -> Orders:
        """These are held from now on; everything else is to be seen."""
        search = self._searches[type_url]
        search.testing = {part: self._unproven[type_url][part].since for part in suspects if part not in culprits}
        orders: Orders = {part: self._hold(part, values.get(part), search.words, proven=True) for part in sorted(culprits, key=_order)}
        return orders | self._release(type_url)

    def _confirm(self, type_url: str, part: Part) -> Orders:
        """What is held for the time of the search was rejected all by itself."""
        search = self._searches.get(type_url)
        if search is None or part not in search.parts():
            return {}
        search.unknown = [other for other in search.parts() if other != part]
        search.tainted = []
        return {part: replace(self._holds[part], proven=True)} | self._go_on(type_url)

    def _release(self, type_url: str) -> Orders:
        """Publish all that is held for the time of the search."""
        search = self._searches[type_url]
        held = search.parts()
        search.tainted, search.unknown = [], []
        return self._test(type_url, held)

    def _test(self, type_url: str, parts: Collection[Part]) -> Orders:
        """Publish these again, from the next generation on."""
        self._searches[type_url].testing |= dict.fromkeys(parts, self._generations[type_url] + 1)
        return dict.fromkeys(parts)

    def _give_up(self, type_url: str, suspects: Iterable[Part]) -> Orders:
        """Too many culprits: all that may be one stays held until its object changes."""
        search = self._searches.pop(type_url)
        values = self._values(list(suspects))
        orders: Orders = {part: replace(self._holds[part], proven=True) for part in search.parts() if part in self._holds}
        return orders | {part: self._hold(part, value, search.words, proven=True) for part, value in values.items()}

    def _look_around(self, type_url: str, moved: Collection[Part]) -> Orders:
        """Objects may have changed in the middle of a search: what was concluded of them holds no longer."""
        search = self._searches[type_url]
        tainted = [part for part in search.tainted if part in self._holds]
        changed = len(tainted) < len(search.tainted) or any(part in search.testing for part in moved)
        search.unknown = [part for part in search.unknown if part in self._holds]
        search.tainted = tainted
        search.testing = {part: since for part, since in search.testing.items() if part not in moved}
        if changed:
            search.unknown += search.tainted
            search.tainted = []
        return self._go_on(type_url)

    # What is known

    def _note(self, part: Part, move: Move, causes: tuple[Ref, ...]) -> None:
        unproven = self._unproven[part.type_url]
        known, worked = unproven.pop(part, None), self._worked.pop(part, None)
        before = known.before if known else move.old
        if part.type_url == CLUSTER:
            before = self._note_cluster(part, move, before)
        if worked is not None and part in self._holds:
            self._worked[part] = worked
        elif worked is not None and known is None and (same(move.old, worked) or self._names_new(move.old)):
            before = worked
        if move.new is None and part not in self._holds:
            self._good.pop(part, None)
        if move.new is None or part in self._holds or same(move.new, before):
            return
        if part in self._good:
            if self._good[part] == digest(move.new):
                return
            del self._good[part]
        if part in self._replaced and (past := self._replaced[part].pop(digest(move.new), None)) is not None:
            self._past[part] = past
        changed = tuple(dict.fromkeys((*(known.causes if known else ()), *causes)))[:MOST_CAUSES]
        unproven[part] = Unproven(self._generations[part.type_url], before, changed)

    def _note_cluster(self, part: Part, move: Move, before: Value | None) -> Value | None:
        """What was accepted of a cluster before: also of one that was gone, and is back as it was, or because something goes back to it."""
        self._since[part] = self._generations[CLUSTER]
        left = self._left.pop(part, None)
        if move.new is None:
            del self._since[part]
            if before is not None and part not in self._holds:
                self._left[part] = before
                if len(self._left) > MOST_REPLACED:
                    del self._left[next(iter(self._left))]
        elif move.old is None and left is not None:
            needed = any(held.along and part in names_cluster(held.instead) for held in self._holds.values())
            return left if needed or same(move.new, left) else before
        return before

    def _hold(self, part: Part, value: Value | None, words: str, *, proven: bool) -> Held:
        known, refused = self._unproven[part.type_url][part], digest(value)
        self._end_span(part, refused)
        return Held(refused, known.before, words, proven, known.causes)

    def _end_span(self, part: Part, refused: str) -> None:
        """The Part is held from the next generation on."""
        since = self._unproven[part.type_url][part].since
        self._past.setdefault(part, Past(refused)).spans.append(Span(since, self._generations[part.type_url] + 1))

    def _forget(self, parts: Iterable[Part]) -> None:
        for part in parts:
            self._past.pop(part, None)

    def _replace(self, moved: Mapping[Part, Move]) -> None:
        """The contents that these had are gone; where they were never accepted, an Envoy may still be about to reject them."""
        for part, move in moved.items():
            past, known = self._past.pop(part, None), self._unproven[part.type_url].get(part)
            if past is None and known is None:
                continue
            past = past or Past(digest(move.old))
            if known is not None:
                past.spans.append(Span(known.since, self._generations[part.type_url]))
            contents = self._replaced.pop(part, {})
            for earlier in contents.values():
                earlier.value = None
            past.value = move.old if known is not None else None
            contents[past.digest] = past
            self._replaced[part] = dict([*contents.items()][-MOST_REMEMBERED:])
            if len(self._replaced) > MOST_REPLACED:
                del self._replaced[next(iter(self._replaced))]

    def _was_replaced(self, answer: Answer) -> bool:
        """Whether something else in the response may be what was wrong with it, but is there no longer."""
        of = (contents for part, contents in self._replaced.items() if part.type_url == answer.type_url and part.resource in answer.names)
        return any(_covers(past, answer.generation) for contents in of for past in contents.values())

    def _suspects(self, answer: Answer) -> list[Part]:
        """The unproven Parts whose present content was in the response, those that have waited longest first."""
        unproven = self._unproven[answer.type_url]
        if len(answer.names) < len(unproven):
            simple = [part for name in answer.names if (part := Part(answer.type_url, name)) in unproven]
            pieces = (
                [part for part in unproven if part.piece is not None and part.resource in answer.names]
                if len(simple) < len(unproven)
                else []
            )
            found = [*simple, *pieces]
        else:
            found = [part for part in unproven if part.resource in answer.names]
        there = [part for part in found if unproven[part].since <= answer.generation or self._was_out(part, answer.generation)]
        return sorted(there, key=lambda part: (unproven[part].since, _order(part)))

    def _held_in(self, answer: Answer) -> list[Part]:
        """The held Parts whose refused content was in the response."""
        held = (part for part in self._past if part.type_url == answer.type_url and part.resource in answer.names and part in self._holds)
        return [part for part in held if self._was_out(part, answer.generation)]

    def _was_out(self, part: Part, generation: int) -> bool:
        return part in self._past and _covers(self._past[part], generation)


def _covers(past: Past, generation: int) -> bool:
    return any(span.since <= generation < span.until for span in past.spans)


def _order(part: Part) -> tuple[str, bool, str]:
    """What holds pieces together comes before them, and is published as long as possible."""
    return part.resource, part.piece is not None, part.piece or ""
