"""Values that ingress-nginx refuses leave their Ingress out; with --enable-annotation-validation=false they do not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.units.test_any_order import FLAGS, PREFIX, Life, site
from xds.kube.objects import Backend, Ingress, Meta, Path, Rule
from xds.kube.world import ingress
from xds.model import CLOSED, LEFT_OUT
from xds.nginx import registry
from xds.nginx.feature import Unreadable
from xds.translate.configuration import ingress_settings
from xds.units.memo import Recorder

REFUSED = {
    "client-body-buffer-size": "16 kilo",
    "http2-push-preload": "x",
    "fastcgi-index": "a b;",
    "permanent-redirect": "no address",
    "limit-rps": "x",
    "auth-type": "rubbish",
}


def settings_of(annotations: dict[str, str], *, validated: bool) -> dict[str, object]:
    meta = Meta(namespace="one", name="web", annotations={PREFIX + name: text for name, text in annotations.items()})
    web = Ingress(meta=meta, rules=(Rule("a.example.com", (Path("/", "Prefix", Backend("s0", 80)),)),))
    life = Life([*site(1), web], replace(FLAGS, enable_annotation_validation=validated))
    read = Recorder(life.tables.build)
    assert ingress(read, "one", "web") == web
    return dict(read.unit(ingress_settings, "one", "web"))


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_value_leaves_the_ingress_out_also_where_a_good_one_has_no_effect(name: str) -> None:
    assert LEFT_OUT in settings_of({name: REFUSED[name]}, validated=True)


@pytest.mark.parametrize("name", REFUSED)
def test_without_validation_it_has_no_effect_and_one_that_protects_closes(name: str) -> None:
    found = settings_of({name: REFUSED[name]}, validated=False)
    assert LEFT_OUT not in found
    assert (CLOSED in found) is (name == "auth-type")


@pytest.mark.parametrize(
    ("name", "text", "feature"),
    [
        ("permanent-redirect", "https://b.test$request_uri", "redirects"),
        ("temporal-redirect", "https://b.test/#there", "redirects"),
        ("app-root", "/a%20b?c", "app_root"),
    ],
)
def test_without_validation_what_nginx_would_read_has_its_effect(name: str, text: str, feature: str) -> None:
    assert feature in settings_of({name: text}, validated=False)
    assert feature not in settings_of({name: text}, validated=True)


@pytest.mark.parametrize(
    "text", ["https://b.test/a b", "https://b.test/;", 'https://b.test/"', "https://b.test/{", "https://b.test/$no_such"]
)
def test_without_validation_what_nginx_would_not_read_has_none(text: str) -> None:
    found = settings_of({"permanent-redirect": text}, validated=False)
    assert not {"redirects", LEFT_OUT, CLOSED} & found.keys()


@pytest.mark.parametrize("text", ["16k", "1M", "0"])
def test_a_good_size_of_a_buffer_is_taken(text: str) -> None:
    assert LEFT_OUT not in settings_of({"client-body-buffer-size": text}, validated=True)


def test_a_bad_name_of_fastcgi_parameters_closes_the_paths() -> None:
    assert CLOSED in settings_of({"fastcgi-params-configmap": "a b"}, validated=True)
    assert CLOSED not in settings_of({"fastcgi-params-configmap": "one/fcgi"}, validated=True)


def test_of_a_canary_a_refused_value_counts_even_where_the_annotation_would_have_no_effect() -> None:
    canary = {"canary": "true", "canary-weight": "100"}
    assert LEFT_OUT in settings_of({**canary, "limit-rps": "x"}, validated=True)
    _, complaints = registry.read_settings({**canary, "proxy-read-timeout": "x", "denylist-source-range": "x"}, {})
    assert not complaints
    _, complaints = registry.read_settings({**canary, "limit-rps": "x"}, {})
    assert [fault.then for fault in complaints] == [Unreadable.LEAVES_OUT]
