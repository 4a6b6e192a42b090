"""What can go wrong when something is written: which of it passes, how long to wait for that, and how it is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from kubernetes.aio.config import ConfigException

from xds.config import Failure
from xds.kube.apiserver.api import Api
from xds.kube.apiserver.writes import Refused
from xds.problem import Problem, Ref

Tell = Callable[[str, tuple[Problem, ...]], None]
"""Takes a place and all Problems there now, as `Change.problems` has them; () where there are none any more."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Pauses in seconds: before another attempt about the first and the longest one, and the least after 429; before a term begins anew
    that a fault of ours has ended; in which Problems gather before Events are made of them, and changes of nodes before addresses are;
    and how long an API server must go on saying 403 before it is believed.
    """

    first: float = 0.2
    longest: float = 5.0
    busy: float = 1.0
    anew: float = 5.0
    gather: float = 0.5
    firm: float = 5.0


class Doubted(Exception):
    """A 403 that is not believed yet (`xds.kube.apiserver.denials`)."""


PASSING = (aiohttp.ClientError, OSError, TimeoutError, ValueError, ConfigException, Failure)
"""No answer, or no credentials just now."""


class Told:
    """Passes on Problems where they differ from what was told of a place."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._places: dict[str, list[str]] = {}

    def __call__(self, place: str, problems: tuple[Problem, ...]) -> None:
        """All Problems in a place now."""
        sentences = [str(problem) for problem in problems]
        if self._places.get(place, []) != sentences:
            self._places[place] = sentences
            self._tell(place, problems)

    def withdraw(self) -> None:
        """None of it matters any more."""
        for place in list(self._places):
            self(place, ())


def passes(wrong: BaseException) -> bool:
    """Whether the same may go better next time: somebody else was faster, or the API server is busy, away, or has just started."""
    if isinstance(wrong, Refused):
        return wrong.status in (401, 409, 429) or wrong.status >= 500
    return isinstance(wrong, (Doubted, *PASSING))


def in_words(api: Api, wrong: BaseException) -> str:
    """A sentence."""
    if isinstance(wrong, (Refused, Failure)):
        return str(wrong)
    return f"{api.host} does not answer ({str(wrong) or type(wrong).__name__})."


def forbidden(verb: str, resource: str, about: Ref, without: str) -> Problem:
    """The role lacks a verb on a resource, in the namespace of `about`; `without` says what does not work, without a dot at the end."""
    where = about.name if about.kind == "Namespace" else about.namespace
    where = f" in namespace {where}" if where else ""
    return Problem(about, "", "forbidden", f'The role does not allow "{verb}" on {resource}{where}: {without}.')
