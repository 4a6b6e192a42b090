"""The API-server Source: one Reflector for each kind, and a task for each that performs its actions.

What belongs here: which kinds are watched, and how their Changes are joined. What does not: the decisions of a Reflector
(`xds.kube.apiserver.reflector`) and its requests (`xds.kube.apiserver.follow`), which objects Ingresses refer to
(`xds.kube.apiserver.referred`), and connections (`xds.kube.apiserver.api`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from functools import partial

from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from xds.config import Flags
from xds.kube import parse
from xds.kube.apiserver.api import Api, Patience
from xds.kube.apiserver.denials import Denials
from xds.kube.apiserver.follow import follow, renew, why_not
from xds.kube.apiserver.referred import Referred, config_maps_of, secrets_of
from xds.kube.apiserver.reflector import CONFIRMATIONS, Backoff, Reflector, Watched
from xds.kube.objects import ConfigMap, Secret
from xds.kube.shapes import SERVICE_NAME
from xds.kube.source import Batch, Change
from xds.problem import Problem, Ref

_log = logging.getLogger("xds")

INGRESSES = Watched("Ingress", "networking.k8s.io/v1", "ingresses", "no Ingress is served")
SERVICES = Watched("Service", "v1", "services", "no backend is known")
SLICES = Watched("EndpointSlice", "discovery.k8s.io/v1", "endpointslices", "no endpoint is known")
CLASSES = Watched(
    "IngressClass",
    "networking.k8s.io/v1",
    "ingressclasses",
    "Ingresses are selected by the annotation kubernetes.io/ingress.class alone, and ingressClassName has no effect",
    namespaced=False,
)
NAMESPACES = Watched("Namespace", "v1", "namespaces", "--watch-namespace-selector selects nothing", namespaced=False)
_NO_SECRETS = "hosts have no certificate but the default one, and what else refers to a Secret does not work"
TLS_SECRETS = Watched("Secret", "v1", "secrets", _NO_SECRETS, selector="type=kubernetes.io/tls")
OTHER_SECRETS = Watched(
    "Secret",
    "v1",
    "secrets",
    _NO_SECRETS,
    selector="type!=kubernetes.io/tls,type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token",
    only_metadata=True,
)
"""The two excluded types are many and big, and nothing refers to them."""
_NO_CONFIG_MAPS = "paths whose annotations name a ConfigMap, such as custom-headers, answer 503"
CONFIG_MAPS = Watched("ConfigMap", "v1", "configmaps", _NO_CONFIG_MAPS, selector="metadata.name!=kube-root-ca.crt", only_metadata=True)
"""Each namespace has one of that name, and nothing refers to it."""
_WITHOUT = {"Secret": _NO_SECRETS, "ConfigMap": _NO_CONFIG_MAPS}

ESSENTIAL = frozenset({"Ingress", "Service", "EndpointSlice", "Namespace"})
"""Kinds without which nothing would be served. While one is forbidden from the start, there is no first Change: an Envoy that receives
nothing keeps its configuration. If another kind is forbidden, or only objects that a flag names, that is a Problem, and the rest works."""

FETCHES = 8
"""Objects that are fetched concurrently."""
_COMPLAIN_EVERY = 30.0


def resources(settings: Flags) -> list[Watched]:
    """What is watched: the kinds, within `--watch-namespace` if that is set, and single objects that flags name, in any namespace."""
    found = [_scoped(kind, settings) for kind in (INGRESSES, SERVICES, SLICES, TLS_SECRETS, OTHER_SECRETS, CONFIG_MAPS)]
    found.append(CLASSES)
    if settings.watch_namespace_selector:
        found.append(NAMESPACES)
    maps = {"--configmap": settings.configmap, "--tcp-services-configmap": settings.tcp_services_configmap}
    maps["--udp-services-configmap"] = settings.udp_services_configmap
    for name in dict.fromkeys(name for name in maps.values() if name):
        flags = " and ".join(flag for flag, value in maps.items() if value == name)
        found.append(_by_name(Watched("ConfigMap", "v1", "configmaps", f"{flags} cannot have an effect"), name))
    certificate = settings.default_ssl_certificate
    if certificate and not _is_watched(certificate, settings):
        without = "--default-ssl-certificate cannot have an effect"
        found.append(_by_name(Watched("Secret", "v1", "secrets", without), certificate))
    return found + _elsewhere(settings)


def _elsewhere(settings: Flags) -> list[Watched]:
    """The Services that flags name outside of `--watch-namespace`, and the endpoints of the default backend."""
    backend, published = settings.default_backend_service, settings.publish_service if settings.update_status else ""
    names = {"--default-backend-service": backend, "--publish-service": published}
    names = {flag: name for flag, name in names.items() if name and not _is_watched(name, settings)}
    found = []
    for name in dict.fromkeys(names.values()):
        flags = " and ".join(flag for flag, value in names.items() if value == name)
        found.append(_by_name(replace(SERVICES, without=f"{flags} cannot have an effect"), name))
    if backend in names.values():
        namespace, _, name = backend.partition("/")
        without = "--default-backend-service cannot have an effect"
        found.append(replace(SLICES, namespace=namespace, labels=f"{SERVICE_NAME}={name}", without=without))
    return found


def _scoped(resource: Watched, settings: Flags) -> Watched:
    return replace(resource, namespace=settings.watch_namespace)


def _by_name(resource: Watched, which: str) -> Watched:
    namespace, _, name = which.partition("/")
    return replace(resource, namespace=namespace, selector=f"metadata.name={name}")


def _is_watched(which: str, settings: Flags) -> bool:
    return settings.watch_namespace in ("", which.partition("/")[0])


class _Unanswered(Exception):
    """An object could not be fetched now."""


class ApiServer:
    """All objects of an API server that matter here.

    The first Change has everything, once each kind was listed or is known to be forbidden. After that each event is a Change at once.
    Events that arrive while the caller is busy become one Change. Tests pass a shorter `patience` and `backoff`.
    """

    def __init__(self, settings: Flags, *, patience: Patience | None = None, backoff: Backoff | None = None) -> None:
        self._api = Api(settings, patience)
        self._backoff = backoff or Backoff()
        self._reflectors = {each: Reflector(each, time.monotonic(), random.random, self._backoff) for each in resources(settings)}
        flagged = settings.default_ssl_certificate if _is_watched(settings.default_ssl_certificate, settings) else ""
        secrets = Referred(
            partial(secrets_of, prefix=settings.annotations_prefix),
            self._reflectors[_scoped(TLS_SECRETS, settings)],
            frozenset({Ref("Secret", *flagged.split("/", 1))} if flagged else ()),
        )
        maps = (settings.configmap, settings.tcp_services_configmap, settings.udp_services_configmap)
        config_maps = Referred(
            partial(config_maps_of, prefix=settings.annotations_prefix), {Ref("ConfigMap", *name.split("/", 1)) for name in maps if name}
        )
        self._referred: Mapping[str, Referred] = {"Secret": secrets, "ConfigMap": config_maps}
        self._through: Mapping[Watched, Callable[[Change], Change]] = {
            _scoped(INGRESSES, settings): lambda change: config_maps.ingresses(secrets.ingresses(change)),
            _scoped(TLS_SECRETS, settings): secrets.whole,
            _scoped(OTHER_SECRETS, settings): secrets.metadata,
            _scoped(CONFIG_MAPS, settings): config_maps.metadata,
            **{each: config_maps.keys for each in self._reflectors if each.kind == "ConfigMap" and not each.only_metadata},
        }
        self._following: list[asyncio.Task[None]] = []
        self._fetching: dict[Ref, asyncio.Task[None]] = {}
        self._fetches = asyncio.Semaphore(FETCHES)
        self._denials = {kind: Denials(CONFIRMATIONS * self._backoff.first) for kind in self._referred}
        self._may_not_fetch: set[str] = set()
        self._batch = Batch()
        self._wakeup = asyncio.Event()
        self._settled: set[Watched] = set()
        self._is_complete = False
        self._complained = -math.inf
        self._away_since: float | None = None

    async def changes(self) -> AsyncGenerator[Change]:
        """First everything, then each change. Raises Failure where there is no usable configuration."""
        await self._api.open()
        self._following = [
            asyncio.create_task(follow(self._api, each, partial(self._take, each), partial(self._complain, each)), name=f"watch {which}")
            for which, each in self._reflectors.items()
        ]
        for task in self._following:
            task.add_done_callback(lambda _: self._wakeup.set())
        is_first = True
        self._emit(Change())  # start the fetches that an earlier call of this method left behind
        self._wakeup.set()
        try:
            while True:
                await self._wakeup.wait()
                self._wakeup.clear()
                if over := next((task for task in self._following if task.done()), None):
                    if not over.cancelled():
                        over.result()
                    return
                if not self._is_complete and self.waiting():
                    continue
                change = self._batch.take()
                if change or is_first:
                    self._is_complete, is_first = True, False
                    yield change
        finally:
            await self.close()

    def waiting(self) -> list[str]:
        """The kinds that were not listed yet, with reasons. None after the first Change."""
        if self._is_complete:
            return []
        reasons = []
        for which in self._reflectors.keys() - self._settled:
            where = f" in namespace {which.namespace}" if which.namespace else ""
            fault = self._reflectors[which].fault
            reasons.append(f"waiting for the first list of {which}{where}" + (f": {fault}" if fault else ""))
        reasons += [f"waiting for {which}" for which in self.due | self._fetching.keys() if which.kind not in self._may_not_fetch]
        return sorted(reasons)

    def staleness(self, now: float) -> Mapping[str, float]:
        """Kind → seconds since the last response about it. `now` is a time of time.monotonic.

        For a quiet kind this rises up to Backoff.watch, when its watch is renewed.
        """
        found: dict[str, float] = {}
        for each in self._reflectors.values():
            kind = each.resource.kind
            found[kind] = max(found.get(kind, 0.0), now - each.last_response)
        return found

    async def close(self) -> None:
        """End all watches and connections."""
        tasks = [*self._following, *self._fetching.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._api.close()

    def _take(self, reflector: Reflector, change: Change) -> None:
        self._recover()
        which = reflector.resource
        if reflector.has_listed if which.kind in ESSENTIAL and not which.is_selected else reflector.is_settled:
            self._settled.add(which)
        through = self._through.get(which)
        self._emit(through(change) if through else change)

    def _emit(self, change: Change) -> None:
        self._batch.add(change)
        if change or not self._is_complete:
            self._wakeup.set()
        for which in self.due - self._fetching.keys():
            self._fetching[which] = asyncio.create_task(self._fetch(which), name=f"fetch {which}")

    @property
    def pending(self) -> int:
        """How many objects have changed since the last Change was yielded."""
        return len(self._batch)

    @property
    def due(self) -> frozenset[Ref]:
        """The objects that must be fetched one by one, because a watch does not carry them whole."""
        return frozenset().union(*(each.due for each in self._referred.values()))

    async def _fetch(self, which: Ref) -> None:
        """Get an object by name, with retries until there is a response, or no object refers to it any more."""
        pauses = wait_random_exponential(multiplier=self._backoff.first, max=self._backoff.longest)
        try:
            async for attempt in AsyncRetrying(wait=pauses, retry=retry_if_exception_type(Exception)):
                with attempt:
                    async with self._fetches:
                        await self._fetch_if_due(which)
        finally:
            del self._fetching[which]
        self._emit(Change())

    async def _fetch_if_due(self, which: Ref) -> None:
        if not self._referred[which.kind].begin(which):
            return
        try:
            await self._fetch_once(which)
        except BaseException:
            self._referred[which.kind].again(which)
            raise

    async def _fetch_once(self, which: Ref) -> None:
        renewals = self._api.renewals
        try:
            async with self._api.get(f"/api/v1/namespaces/{which.namespace}/{which.kind.lower()}s/{which.name}", {}) as answer:
                status, body = answer.status, await answer.read()
        except Exception as error:  # noqa: BLE001 - a retry is right for any exception
            raise _Unanswered(why_not(self._api, error)) from None
        if status not in (200, 404):
            if status == 401:
                await renew(self._api, renewals)
            self._emit(self._may_fetch(which.kind, status))
            raise _Unanswered(f"The API server answered {status}.")
        found = parse.from_json(body, kind=which.kind, api_version="v1") if status == 200 else None
        self._emit(self._may_fetch(which.kind, status))
        self._emit(self._referred[which.kind].fetched(which, found if isinstance(found, Secret | ConfigMap) else None))

    def _may_fetch(self, kind: str, status: int) -> Change:
        """Record whether the role allows "get" on a kind. Returns a Change where that is new."""
        denied, what = status == 403, f"{kind.lower()}s"
        if not denied:
            self._denials[kind].allowed("")
        elif not self._denials[kind].denied("", time.monotonic()):
            return Change()
        if denied is (kind in self._may_not_fetch):
            return Change()
        self._may_not_fetch ^= {kind}
        sentence = f'The role does not allow "get" on {what}: {_WITHOUT[kind]}.'
        problem = Problem(Ref(kind, "", ""), "", "forbidden", sentence)
        return Change(problems={f"get {what}": (problem,) if denied else ()})

    def _complain(self, reflector: Reflector) -> None:
        """Log that the API server is away, at most every 30 s."""
        now = time.monotonic()
        if self._is_away(reflector) and reflector.faults > 1 and now - self._complained >= _COMPLAIN_EVERY:
            self._away_since = self._away_since or reflector.last_response
            self._complained = now
            kept = "; Envoys keep their configuration" if self._is_complete else ""
            _log.warning("%s: %s No response for %.0f s%s.", reflector.resource, reflector.fault, now - reflector.last_response, kept)

    def _recover(self) -> None:
        if self._away_since is not None and not any(map(self._is_away, self._reflectors.values())):
            _log.info("the API server answers again, after %.0f s", time.monotonic() - self._away_since)
            self._away_since = None

    def _is_away(self, reflector: Reflector) -> bool:
        """Whether requests for a kind fail. A forbidden kind does not count: after the first Change it is a Problem already."""
        return bool(reflector.fault) and not (reflector.is_denied and self._is_complete)
