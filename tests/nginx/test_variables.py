"""nginx's variables as Envoy's formats: what a text may hold, and that nothing of it leaves its place in an expression."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds import model
from xds.nginx.variables import MOST, as_format, extracted, known
from xds.patterns import regex
from xds.problem import Ref

ROUTE = model.Route(
    model.PathMatch(model.PathKind.PREFIX, "/"), model.Forward(model.Cluster("shop", "web", 8080)), Ref("Ingress", "shop", "front")
)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("plain.test", "plain.test"),
        ("100%", "100%%"),
        ("$namespace/$ingress_name", "shop/front"),
        ("${service_name}-x.$namespace.svc:$service_port", "web-x.shop.svc:8080"),
        ("$proxy_upstream_name", "shop-web-8080"),
        ("$http_host", "%REQ(:authority)%"),
        ("$http_x_want", "%CEL('x-want' in request.headers ? request.headers['x-want'] : '')%"),
        ("${scheme}x", "%REQ(x-forwarded-proto)%x"),
    ],
)
def test_a_variable_becomes_what_it_stands_for(text: str, made: str) -> None:
    assert as_format(known(text), ROUTE) == made


@pytest.mark.parametrize(
    "text", ["$", "$$host", "a$", "${host", "{host}", "$no_such", "$1", "$http_", "$hostx", "$HOST", "$scheme" * (MOST + 1)]
)
def test_what_is_no_variable_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^is "):
        known(text)


@given(st.text(st.sampled_from("()'\"\\%*:/ab1é\U0001f600{}$ ")), st.text(st.sampled_from("\\12/ab%')")))
def test_an_expression_holds_its_pattern_and_nothing_of_it_ends_the_expression(pattern: str, text: str) -> None:
    found = re.fullmatch(r"%CEL\(re\.extract\(request\.url_path, '([A-Za-z0-9\\]*)', '([A-Za-z0-9\\]*)'\)\)%", extracted(pattern, text))
    assert found
    assert [unquoted(found[1]), unquoted(found[2])] == [pattern, text]


def unquoted(text: str) -> str:
    r"""What CEL reads in a string: `\xhh` and `\Uhhhhhhhh` are characters by number."""
    return re.sub(r"\\(?:x([0-9a-f]{2})|U([0-9a-f]{8}))", lambda found: chr(int(found[1] or found[2], 16)), text)


def test_a_text_with_the_groups_of_a_path_is_extracted_once() -> None:
    made = extracted(regex.nginx_rewrite("/(a|b)/(.*)"), r"/\1/\2")
    assert made.count("re.extract") == 1
