"""What can go wrong when an object is written: which faults are transient, how long to wait, and the sentences about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from kubernetes.aio.config import ConfigException

from xds.config import Failure
from xds.kube.apiserver.api import Api
from xds.kube.apiserver.writes import ApiError
from xds.problem import Problem, Ref

ProblemSink = Callable[[str, tuple[Problem, ...]], None]
"""Takes a place and all of its Problems, as `Change.problems` has them. An empty tuple withdraws them."""


@dataclass(frozen=True, slots=True)
class WritePauses:
    """How long what writes to an API server waits, in seconds."""

    first: float = 0.2
    """About the wait after the first fault. It doubles from there."""
    longest: float = 5.0
    """The limit of the doubling."""
    throttled: float = 1.0
    """The least after 429 Too Many Requests."""
    restart: float = 5.0
    """Before a term of leadership starts again, after an internal error ended it."""
    debounce: float = 0.5
    """In which Problems are collected before Events are made of them, and changes of nodes before addresses are."""
    confirm_denial: float = 5.0
    """For which an API server must respond with 403 before that is believed."""


class UnconfirmedDenial(Exception):
    """A 403 that is not believed yet (`xds.kube.apiserver.denials`)."""


TRANSIENT = (aiohttp.ClientError, OSError, TimeoutError, ValueError, ConfigException, Failure)
"""Exceptions where there is no response, or no usable credentials at the moment."""


class ChangedProblems:
    """Passes Problems of a place to a ProblemSink, if they differ from the last ones of that place."""

    def __init__(self, sink: ProblemSink) -> None:
        self._sink = sink
        self._places: dict[str, list[str]] = {}

    def __call__(self, place: str, problems: tuple[Problem, ...]) -> None:
        """All Problems of a place."""
        sentences = [str(problem) for problem in problems]
        if self._places.get(place, []) != sentences:
            self._places[place] = sentences
            self._sink(place, problems)

    def withdraw(self) -> None:
        """Withdraw all of them."""
        for place in list(self._places):
            self(place, ())


def is_transient(fault: BaseException) -> bool:
    """Whether a retry may succeed: another writer was first, or the API server is busy, away, or starting."""
    if isinstance(fault, ApiError):
        return fault.status in (401, 409, 429) or fault.status >= 500
    return isinstance(fault, (UnconfirmedDenial, *TRANSIENT))


def sentence_of(api: Api, fault: BaseException) -> str:
    """The fault as a sentence, for the log."""
    if isinstance(fault, (ApiError, Failure)):
        return str(fault)
    return f"{api.host} does not answer ({str(fault) or type(fault).__name__})."


def forbidden(verb: str, resource: str, about: Ref, without: str) -> Problem:
    """The role lacks a verb on a resource, in the namespace of `about`. `without` ends the sentence: what does not work, without a dot."""
    where = about.name if about.kind == "Namespace" else about.namespace
    where = f" in namespace {where}" if where else ""
    return Problem(about, "", "forbidden", f'The role does not allow "{verb}" on {resource}{where}: {without}.')
