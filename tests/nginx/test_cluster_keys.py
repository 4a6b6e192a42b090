"""What stands for a setting in the name of a cluster. A red test here means that clusters of running Envoys would be renamed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from enum import Enum, StrEnum
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xds.model import Settings
from xds.nginx.feature import as_written
from xds.nginx.registry import cluster_features, cluster_key, features

from .drawing import settings

KEYS = """
affinity: cookie                                                            → affinity: balanced
affinity: cookie + affinity-mode: persistent                                → affinity: persistent
backend-protocol: HTTP                                                      → backend_protocol: HTTP
backend-protocol: https                                                     → backend_protocol: HTTPS
backend-protocol: GRPC                                                      → backend_protocol: GRPC
backend-protocol: GRPCS                                                     → backend_protocol: GRPCS
backend-protocol: AUTO_HTTP                                                 → backend_protocol: AUTO_HTTP
load-balance: round_robin                                                   → load_balance: round_robin
load-balance: ewma                                                          → load_balance: ewma
load-balance: least_conn                                                    → load_balance: least_conn
load-balance: IP_HASH                                                       → load_balance: ip_hash
proxy-buffer-size: 4k                                                       → proxy_buffer_size: 256k
proxy-buffer-size: 512k                                                     → proxy_buffer_size: 512k
proxy-buffer-size: 524289                                                   → proxy_buffer_size: 513k
proxy-buffer-size: 1m                                                       → proxy_buffer_size: 1024k
proxy-buffer-size: 1g                                                       → proxy_buffer_size: 8192k
proxy-connect-timeout: 5                                                    → proxy_connect_timeout: 5
proxy-connect-timeout: +0600                                                → proxy_connect_timeout: 600
proxy-next-upstream: error timeout                                          → next_upstream: error timeout 3
proxy-next-upstream: timeout error timeout                                  → next_upstream: error timeout 3
proxy-next-upstream: http_429 http_404 http_403 http_504 http_503           → next_upstream: http_503 http_504 http_403 http_404 http_429 3
proxy-next-upstream: http_500 http_502 invalid_header                       → next_upstream: invalid_header http_500 http_502 3
proxy-next-upstream: non_idempotent error                                   → next_upstream: error non_idempotent 3
proxy-next-upstream: error off                                              → next_upstream: off
proxy-next-upstream: error non_idempotent + proxy-request-buffering: off    → next_upstream: error non_idempotent 3 unbuffered
proxy-next-upstream: http_500 error + proxy-request-buffering: off          → next_upstream: error http_500 3
proxy-next-upstream-tries: 0                                                → next_upstream: error timeout 32
proxy-next-upstream-tries: 1                                                → next_upstream: off
proxy-next-upstream-tries: 5                                                → next_upstream: error timeout 5
proxy-cookie-domain: a.b c.d                                                → proxy_rewrites: ["", "", "a.b", "c.d", "", "", "false"]
proxy-cookie-path: /a /                                                     → proxy_rewrites: ["", "", "", "", "/a", "/", "false"]
proxy-redirect-from: http://a/ + proxy-redirect-to: /                       → proxy_rewrites: ["http://a/", "/", "", "", "", "", "false"]
proxy-ssl-secret: a/b                                                       → proxy_ssl: a/b off 0 - off DEFAULT TLSv1.2
proxy-ssl-secret: a/b + proxy-ssl-verify: on                                → proxy_ssl: a/b on 1 upstream_balancer off DEFAULT TLSv1.2
proxy-ssl-secret: a/b + proxy-ssl-verify: on + proxy-ssl-verify-depth: 2    → proxy_ssl: a/b on 2 upstream_balancer off DEFAULT TLSv1.2
proxy-ssl-secret: a/b + proxy-ssl-name: c + proxy-ssl-server-name: on       → proxy_ssl: a/b off 0 c on DEFAULT TLSv1.2
proxy-ssl-secret: a/b + proxy-ssl-protocols: TLSv1.3 SSLv3 TLSv1.2          → proxy_ssl: a/b off 0 - off DEFAULT TLSv1.2 TLSv1.3
proxy-ssl-secret: a/b + proxy-ssl-ciphers: AES128-SHA                       → proxy_ssl: a/b off 0 - off AES128-SHA TLSv1.2
service-upstream: true                                                      → service_upstream: true
service-upstream: F                                                         → service_upstream: false
configuration-snippet: proxy_ssl_server_name on;proxy_ssl_name a.b; + backend-protocol: HTTPS → snippet_tls: a.b -
configuration-snippet: grpc_ssl_ciphers AES128-SHA; + backend-protocol: GRPCS → snippet_tls: - AES128-SHA
upstream-hash-by: abc                                                       → upstream_hash_by: -
upstream-hash-by: $host + upstream-hash-by-subset: true                     → upstream_hash_by: ${host}
upstream-hash-by: $host + upstream-hash-by-subset-size: 2                   → upstream_hash_by: ${host}
upstream-hash-by: $request_uri                                              → upstream_hash_by: ${request_uri}
upstream-hash-by: ${host}-$arg_id$host                                      → upstream_hash_by: ${host}${arg_id}
upstream-hash-by: $http_X_User$cookie_sid$remote_addr                       → upstream_hash_by: ${http_X_User}${cookie_sid}${remote_addr}
"""
"""What is written, and the key that it has for good: lines are added, none is changed."""


def pinned() -> Iterator[tuple[dict[str, str], str, str]]:
    """Annotations, feature, key."""
    for line in KEYS.strip().splitlines():
        written, told = line.split("→")
        feature, key = told.strip().split(": ", 1)
        sides = [part.strip().split(": ", 1) for part in written.split(" + ")]
        yield dict(sides), feature, key


@pytest.mark.parametrize(("annotations", "feature", "key"), list(pinned()), ids=lambda value: value if isinstance(value, str) else "")
def test_the_key_of_a_setting_is_pinned(annotations: dict[str, str], feature: str, key: str) -> None:
    assert cluster_key(feature, settings(annotations)[feature]) == key


def test_what_the_config_map_adds_is_in_the_key() -> None:
    assert (
        cluster_key("next_upstream", settings(keys={"retry-non-idempotent": "true"})["next_upstream"]) == "error timeout non_idempotent 3"
    )


def test_every_feature_of_clusters_has_a_key_that_is_pinned_for_each_of_its_annotations() -> None:
    assert {feature for _, feature, _ in pinned()} == cluster_features()
    declared = {a.name for feature in cluster_features() for a in features()[feature].annotations}
    assert {name for annotations, _, _ in pinned() for name in annotations} == declared | {
        "configuration-snippet",
        "proxy-request-buffering",
    }


def test_a_feature_without_a_setting_has_no_key() -> None:
    assert cluster_key("upstream_hash_by", None) is None


VARIABLES = st.sampled_from(
    ("request_uri", "host", "uri", "remote_addr", "content_type", "arg_a", "arg_b", "arg_a_b", "cookie_a", "http_a")
)
TEXTS: Mapping[str, st.SearchStrategy[str]] = {
    "proxy-redirect-from": st.sampled_from(("off", "default", "/a", "~/a.")),
    "proxy-redirect-to": st.sampled_from(("off", "/a", "/b")),
    "proxy-cookie-domain": st.sampled_from(("off", "a b", "a .b", "~a b")),
    "proxy-cookie-path": st.sampled_from(("off", "/a /b", "/a /c")),
    "proxy-ssl-secret": st.sampled_from(("a/b", "a/c")),
    "proxy-ssl-verify": st.sampled_from(("on", "off")),
    "proxy-ssl-verify-depth": st.sampled_from(("0", "1", "2")),
    "proxy-ssl-name": st.sampled_from(("c", "d")),
    "proxy-ssl-server-name": st.sampled_from(("on", "off")),
    "proxy-ssl-ciphers": st.sampled_from(("DEFAULT", "HIGH", "AES128-SHA", "AES256-SHA")),
    "proxy-ssl-protocols": st.sampled_from(("TLSv1.2", "TLSv1.3", "TLSv1.3 TLSv1.2", "TLSv1 TLSv1.2")),
    "affinity": st.just("cookie"),
    "affinity-mode": st.sampled_from(("balanced", "persistent")),
    "backend-protocol": st.sampled_from(("HTTP", "http", "HTTPS", "GRPC", "grpc", "GRPCS", "AUTO_HTTP")),
    "load-balance": st.sampled_from(("round_robin", "ewma", "least_conn", "LEAST_CONN", "ip_hash")),
    "proxy-buffer-size": st.builds("{}{}".format, st.integers(0, 2048) | st.integers(0, 2**33), st.sampled_from(("", "k", "K", "m"))),
    "proxy-connect-timeout": st.builds("{}{}".format, st.sampled_from(("", "+", "0")), st.integers(1, 12) | st.integers(1, 2_147_483)),
    "proxy-next-upstream": st.lists(
        st.sampled_from(("error", "timeout", "invalid_header", "http_500", "http_404", "http_429", "non_idempotent", "off")),
        min_size=1,
        max_size=4,
    ).map(" ".join),
    "proxy-next-upstream-tries": st.integers(0, 4).map(str) | st.integers(0, 1000).map(str),
    "service-upstream": st.sampled_from(("true", "T", "1", "false", "0")),
    "upstream-hash-by-subset": st.sampled_from(("true", "false")),
    "upstream-hash-by-subset-size": st.integers(1, 4).map(str),
    "upstream-hash-by": st.lists(VARIABLES.map("${}".format) | VARIABLES.map("${{{}}}".format), min_size=1, max_size=3).map("-".join),
}
"""What users write for the settings of clusters: few values, so that two are equal now and then, and any value."""
ANNOTATIONS = st.fixed_dictionaries({}, optional=dict(TEXTS))


def test_no_annotation_of_clusters_is_missing_here() -> None:
    assert TEXTS.keys() == {a.name for feature in cluster_features() for a in features()[feature].annotations}


@given(ANNOTATIONS, ANNOTATIONS)
@example({"proxy-buffer-size": "1m"}, {"proxy-buffer-size": "1024K"})
@example({"proxy-next-upstream": "timeout error"}, {"proxy-next-upstream": "error timeout", "proxy-next-upstream-tries": "3"})
@example({"proxy-next-upstream": "off"}, {"proxy-next-upstream-tries": "1"})
@example({"upstream-hash-by": "$arg_a$arg_b"}, {"upstream-hash-by": "$arg_a_b"})
@example({"upstream-hash-by": "$host-$uri"}, {"upstream-hash-by": "${host}${uri}"})
def test_keys_are_equal_where_settings_are_equal_and_nowhere_else(ones: dict[str, str], others: dict[str, str]) -> None:
    one, other = settings(ones), settings(others)
    for feature in cluster_features():
        same = one.get(feature) == other.get(feature)
        assert (cluster_key(feature, one.get(feature)) == cluster_key(feature, other.get(feature))) is same, feature


def as_annotations(feature: str, key: str) -> dict[str, str]:
    """What a user would write for this key. next_upstream has two annotations, and its key a word for each; affinity has two as well."""
    if feature == "next_upstream":
        conditions, _, tries = key.rpartition(" ")
        return {"proxy-next-upstream": conditions, "proxy-next-upstream-tries": tries} if conditions else {"proxy-next-upstream": key}
    if feature == "affinity":
        return {"affinity": "cookie", "affinity-mode": key}
    if feature == "upstream_hash_by":
        return {"upstream-hash-by": key}
    if feature == "proxy_ssl":
        secret, verify, depth, name, sends_name, ciphers, *versions = key.split(" ")
        told = {"secret": secret, "verify": verify, "verify-depth": depth, "name": name.removeprefix("-"), "server-name": sends_name}
        told |= {"ciphers": ciphers, "protocols": " ".join(versions)}
        return {f"proxy-ssl-{last}": text for last, text in told.items()}
    if feature == "proxy_rewrites":
        before, after, *cookies, relative = json.loads(key)
        told = {"proxy-redirect-from": before, "proxy-redirect-to": after, "relative-redirects": relative}
        return told | {"proxy-cookie-domain": " ".join(cookies[:2]), "proxy-cookie-path": " ".join(cookies[2:])}
    [annotation] = features()[feature].annotations
    return {annotation.name: key}


def keys_of(found: Settings) -> dict[str, str]:
    return {feature: key for feature in cluster_features() if (key := cluster_key(feature, found.get(feature))) is not None}


@given(ANNOTATIONS)
def test_a_key_is_text_that_a_user_could_have_written_for_the_same_setting(annotations: dict[str, str]) -> None:
    found = settings(annotations)
    for feature, key in keys_of(found).items():
        assert settings(as_annotations(feature, key))[feature] == found[feature]


def names_in_code(value: Any) -> Iterator[str]:
    """The names of a value's class and fields, and those within it; what Python and users named does not count."""
    if isinstance(value, tuple):
        for part in value:
            yield from names_in_code(part)
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield field.name
            yield from names_in_code(getattr(value, field.name))
    if isinstance(value, Enum) or dataclasses.is_dataclass(value):
        yield type(value).__name__


@given(ANNOTATIONS)
def test_no_key_holds_the_name_of_a_class_or_of_a_field(annotations: dict[str, str]) -> None:
    found = settings(annotations)
    for feature, key in keys_of(found).items():
        assert [name for name in names_in_code(found[feature]) if name in key] == []


TUPLES = st.lists(st.text('ab ,"\\[]', max_size=3), max_size=3).map(tuple)


@given(TUPLES, TUPLES)
@example(("a", "b"), ("a, b",))
@example(("a", "b"), ('a", "b',))
@example((), ("",))
def test_differing_tuples_have_differing_keys(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert (as_written(one) == as_written(other)) is (one == other)
    assert json.loads(as_written(one)) == list(one)


@pytest.mark.parametrize(
    ("value", "key"), [("a b", "a b"), (True, "true"), (False, "false"), (10, "10"), ((), "[]"), (("a", "é", 1), '["a", "\\u00e9", "1"]')]
)
def test_a_plain_value_is_its_own_key(value: Any, key: str) -> None:
    assert as_written(value) == key


class Colour(StrEnum):
    """A class that could be taken for text."""

    RED = "red"


@dataclasses.dataclass(frozen=True)
class Setting:
    """A setting of one field."""

    seconds: int


@pytest.mark.parametrize("value", [Colour.RED, Setting(1), (1, Setting(1)), 1.5, None, frozenset("a")])
def test_what_python_words_is_no_key(value: Any) -> None:
    with pytest.raises(TypeError, match="is no plain value; its Feature needs a cluster_key"):
        as_written(value)


def test_the_names_in_code_are_found_where_there_are_some() -> None:
    assert set(names_in_code((Setting(1), (Colour.RED, "text")))) == {"Setting", "seconds", "Colour"}
