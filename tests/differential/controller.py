"""What ingress-nginx 1.15 writes into nginx.conf for Ingresses, as far as paths, rewrites, redirects, limits and headers go.

Debian's nginx lacks two modules of the controller's: its Lua, which answers redirects to https and to www, becomes `return` with the same
Location; `more_set_headers` becomes `add_header … always` with a value that is empty where the controller's block does not apply.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from examples.apps import Address
from tests.envoy.harness.manifests import Manifest, ingress

PREFIX_TYPE, EXACT, ANY = "Prefix", "Exact", "ImplementationSpecific"
NOWHERE = "nowhere.test"
HTTP = """\
  map $request_uri $without_slash { "~^(?<kept>.*?)/?$" $kept; }
  map $scheme $shown_port { http $server_port; https 443; }
  map $http_host $redirect_host { "~^(?<name>[^:]*)" $name; }
"""
"""What stands around all servers."""
_SENT = """\
      proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Scheme $scheme;
      proxy_set_header X-Scheme $scheme;
      proxy_set_header X-Original-Forwarded-For $http_x_forwarded_for;
      proxy_set_header X-Original-Forwarded-Host $http_x_forwarded_host;
      proxy_set_header Proxy "";
      proxy_http_version 1.1;
      proxy_redirect off;"""
_CORS = {
    "cors-allow-origin": "*",
    "cors-allow-methods": "GET, PUT, POST, DELETE, PATCH, OPTIONS",
    "cors-allow-headers": "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization",
    "cors-allow-credentials": "true",
    "cors-expose-headers": "",
    "cors-max-age": "1728000",
}


@dataclass(frozen=True)
class Path:
    """A path of a rule."""

    path: str
    kind: str
    service: str


@dataclass(frozen=True)
class Given:
    """An Ingress of one host; of a list of them the first is the oldest."""

    name: str
    host: str
    paths: tuple[Path, ...]
    notes: Mapping[str, str] = field(default_factory=dict)
    tls: bool = False

    def manifest(self, age: int) -> Manifest:
        """It as Kubernetes has it; a larger `age` is younger."""
        made = ingress(
            self.name,
            self.host,
            {},
            self.notes,
            tls={"absent": [self.host]} if self.tls else None,
            created=f"2026-01-01T{age // 3600:02}:{age // 60 % 60:02}:{age % 60:02}Z",
        )
        paths = [
            {"path": each.path, "pathType": each.kind, "backend": {"service": {"name": each.service, "port": {"number": 80}}}}
            for each in self.paths
        ]
        made["spec"]["rules"] = [{"host": self.host, "http": {"paths": paths}}]
        return made


@dataclass(frozen=True)
class Location:
    """A location of a server; without a `service` it is the default backend's."""

    path: str
    kind: str
    service: str
    owner: Given

    @property
    def target(self) -> str:
        """What the path is rewritten to; empty if it is not."""
        found = self.owner.notes.get("rewrite-target", "")
        return "" if found == self.path else found

    @property
    def for_regex(self) -> bool:
        """Whether it makes all paths of its host regular expressions."""
        return bool(self.target) or self.on("use-regex")

    def on(self, name: str, default: str = "false") -> bool:
        """Whether an annotation says true."""
        return self.owner.notes.get(name, default) == "true"


@dataclass(frozen=True)
class Settings:
    """Where Services are, and what the ConfigMaps say."""

    services: Mapping[str, Address]
    nginx: Address
    code: int = 308
    sent: Mapping[str, str] = field(default_factory=dict)
    added: Mapping[str, str] = field(default_factory=dict)
    custom: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def servers(given: Sequence[Given], settings: Settings) -> dict[str, str]:
    """Name → content of the server, for all hosts. What has no Service is asked for under a name without a server, which is 404."""
    made: dict[str, str] = {}
    hosts = {each.host: None for each in given}
    for host in hosts:
        here = [each for each in given if each.host == host]
        made[host] = "\n".join(_server(here, settings))
        if any(each.notes.get("from-to-www-redirect") == "true" for each in here):
            other = host.removeprefix("www.") if host.startswith("www.") else f"www.{host}"
            if other not in hosts:
                made[other] = f"    return {settings.code} $scheme://{host}:$shown_port$without_slash;"
    return made


def zones(given: Sequence[Given]) -> str:
    """The zones of limits, which stand outside of servers."""
    lines = []
    for each in given:
        for name, unit in (("limit-rps", "s"), ("limit-rpm", "m")):
            if int(each.notes.get(name, "0")):
                lines.append(f"  limit_req_zone $binary_remote_addr zone={each.name}_{unit}:1m rate={each.notes[name]}r/{unit};")
    return "\n".join(lines)


def _server(given: Sequence[Given], settings: Settings) -> Iterator[str]:
    found = [*_split(locations(given))]
    regex = any(each.for_regex for each in found)
    with_tls = any(each.tls for each in given)
    yield "    set $cors_origin ''; set $cors_on ''; set $cors ''; limit_req_status 503;"
    for each in found:
        if root := each.owner.notes.get("app-root"):
            yield f"    if ($uri = /) {{ return 302 $scheme://$http_host{root}; }}"
        yield f"    location {_modifier(each, regex)} {{"
        yield from (f"      {line}" for line in _within(each, settings, with_tls=with_tls))
        yield "    }"


def locations(given: Sequence[Given]) -> list[Location]:
    """The locations of one host, in the order in which regular expressions are compared."""
    found = {("/", PREFIX_TYPE): Location("/", PREFIX_TYPE, "", given[0])}
    for each in given:
        for path in each.paths:
            kind = PREFIX_TYPE if path.kind == ANY else path.kind
            key = (path.path, kind)
            if key not in found or not found[key].service:
                found[key] = Location(path.path, kind, path.service, each)
    by_path = sorted(found.values(), key=lambda each: each.path, reverse=True)
    return sorted(by_path, key=lambda each: len(each.path), reverse=True)


def _split(found: Sequence[Location]) -> Iterator[Location]:
    """A Prefix becomes one location with a slash at its end and one for the path itself, unless an Exact path has that."""
    exact = {each.path for each in found if each.kind == EXACT}
    for each in found:
        if each.path == "/" or each.kind == EXACT or each.for_regex:
            yield each
            continue
        yield replace(each, path=each.path.rstrip("/") + "/" if not each.path.endswith("/") else each.path)
        if each.path not in exact:
            yield replace(each, kind=EXACT)


def _modifier(location: Location, regex: bool) -> str:
    if regex:
        return f'~* "^{location.path}"'
    return f'= "{location.path}"' if location.kind == EXACT else f'"{location.path}"'


def _within(location: Location, settings: Settings, *, with_tls: bool) -> Iterator[str]:
    notes = location.owner.notes
    yield f"port_in_redirect {'on' if location.on('use-port-in-redirects') else 'off'};"
    if location.on("relative-redirects"):
        yield "absolute_redirect off;"
    yield from _returns(notes)
    if location.on("enable-cors"):
        yield from _cors({**_CORS, **notes})
    if location.on("force-ssl-redirect") or (with_tls and location.on("ssl-redirect", "true")):
        port = ":443" if location.on("use-port-in-redirects") else ""
        path = "$request_uri" if location.on("preserve-trailing-slash") else "$without_slash"
        yield f"if ($scheme = http) {{ return {settings.code} https://$redirect_host{port}{path}; }}"
    yield from _limits(location.owner)
    yield from _headers(location, settings)
    address = settings.services.get(location.service)
    if location.target:
        yield f'rewrite "(?i){location.path}" {location.target} break;'
        if prefix := notes.get("x-forwarded-prefix"):
            yield f'proxy_set_header X-Forwarded-Prefix "{prefix}";'
    if address is None:
        yield f"proxy_set_header Host {NOWHERE};"
        yield f"proxy_pass http://{settings.nginx[0]}:{settings.nginx[1]};"
        return
    vhost = notes.get("upstream-vhost", "$http_host")
    yield f'proxy_set_header Host "{vhost}";'
    yield f"proxy_pass http://{address[0]}:{address[1]};"


def _returns(notes: Mapping[str, str]) -> Iterator[str]:
    for name, last, default in (("temporal-redirect", 307, 302), ("permanent-redirect", 308, 301)):
        if address := notes.get(name):
            code = int(notes.get(f"{name}-code", default))
            yield f"return {code if 300 <= code <= last else default} {address};"
            return


def _limits(owner: Given) -> Iterator[str]:
    times = int(owner.notes.get("limit-burst-multiplier", "5"))
    for name, unit in (("limit-rps", "s"), ("limit-rpm", "m")):
        if rate := int(owner.notes.get(name, "0")):
            yield f"limit_req zone={owner.name}_{unit} burst={rate * times} nodelay;"


def _headers(location: Location, settings: Settings) -> Iterator[str]:
    yield _SENT
    yield f'proxy_set_header Connection "{location.owner.notes.get("connection-proxy-header", "")}";'
    for name, value in settings.sent.items():
        yield f'proxy_set_header {name} "{value}";'
    custom = settings.custom.get(location.owner.notes.get("custom-headers", "").partition("/")[2], {})
    for name, value in {**settings.added, **custom}.items():
        yield f'add_header {name} "{value}" always;'


def _cors(notes: Mapping[str, str]) -> Iterator[str]:
    """The headers have variables for values: `add_header` leaves one out that is empty."""
    origins = [each.strip() for each in notes["cors-allow-origin"].split(",") if each.strip()]
    if "*" in origins:
        yield "set $cors_origin *; set $cors true;"
    else:
        forms = "|".join("(" + re.escape(each).replace(r"\*", r"[A-Za-z0-9\-]+", 1) + ")" for each in origins)
        yield f'if ($http_origin ~* "^({forms})$") {{ set $cors_origin $http_origin; set $cors true; }}'
    values = {
        "Credentials": "true" if notes["cors-allow-credentials"] == "true" else "",
        "Methods": notes["cors-allow-methods"],
        "Headers": notes["cors-allow-headers"],
    }
    said = {f"Access-Control-Allow-{name}": value for name, value in values.items()}
    said |= {"Access-Control-Expose-Headers": notes["cors-expose-headers"], "Access-Control-Max-Age": notes["cors-max-age"]}
    said = {name: value for name, value in said.items() if value}
    for number, value in enumerate(said.values()):
        yield f"set $cors_{number} ''; if ($cors = true) {{ set $cors_{number} '{value}'; }}"
    yield "add_header Access-Control-Allow-Origin $cors_origin always;"
    for number, name in enumerate(said):
        yield f"add_header {name} $cors_{number} always;"
    yield "if ($request_method = OPTIONS) { set $cors ${cors}options; }"
    yield "if ($cors = trueoptions) { return 204; }"
