"""YAML that every reader takes for the same strings: the one way in which commands print it.

Readers differ in what a word without quotes is. YAML 1.1 takes `y`, `off` and `12:30:00` for no strings, YAML 1.2 `1e3` and `0o17`,
and Envoy's reader is neither. So a string has no quotes only where no parser can take it for anything else.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_PLAIN = re.compile(r"[A-Za-z_/]")
"""How a string without quotes begins: no number, no date, no `~`, `=` or `<<` does so."""
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"})
"""What some reader takes for a boolean, for null or for a number, in any mixture of cases."""

_WIDEST = 2**31 - 1


class _Dumper(yaml.CSafeDumper):
    """Strings as this module has them. A repeated object, such as the route table of all listeners, is written once."""


def _string(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """`style` is a wish: the library falls back to double quotes for what the style cannot hold."""
    lines = text.removesuffix("\n")
    if not lines.replace("\n", "").isprintable():
        style = '"'  # breaks that not every reader takes for one, and what no style but this can hold
    elif "\n" in text:
        style = "|" if lines.strip() == lines else '"'
    else:
        style = "" if _PLAIN.match(text) and text.lower() not in _WORDS else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _string)


def as_yaml(value: Any) -> str:
    """A document of strings, numbers, booleans, lists and dictionaries; these keep their order. No line is ever folded."""
    made: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=_WIDEST, allow_unicode=True)
    return made
