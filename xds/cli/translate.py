"""`xds translate`: the Envoy resources that manifests become; with `--static` a whole configuration for an Envoy that runs alone."""

from __future__ import annotations

import json
import sys
from collections import Counter

from xds.certificates import default_certificate
from xds.cli.arguments import Parsed
from xds.cli.as_yaml import as_yaml
from xds.config import Flags
from xds.offline import Loaded, load
from xds.problem import Severity
from xds.render.bootstrap import bootstrap
from xds.render.static import Json, as_json, shown_secret, static_resources
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, Snapshot

VERSION = 1
"""Of the JSON form; docs/schemas/translate.schema.json describes it."""
_ORDER = (LISTENER, ROUTE, CLUSTER, ENDPOINT, SECRET)
"""From what a request meets first to what it meets last."""


def run(parsed: Parsed) -> int:
    """Print the resources. Raises Failure where a folder cannot be read."""
    settings = parsed.settings
    loaded = load(settings, certificate=default_certificate.make()) if settings.static else load(settings)
    if settings.static:
        made = static_bootstrap(settings, loaded.snapshot)
        _write(made if settings.output == "json" else as_yaml(made))
        _warn("the output holds private keys; keep it as safe as the Secrets that they are from.")
    elif settings.output == "json":
        _write({"version": VERSION, "responses": responses(loaded.snapshot)})
    else:
        _write("".join(f"---\n{as_yaml(response)}" for response in responses(loaded.snapshot)))
    _sum_up(loaded)
    return 0


def responses(snapshot: Snapshot) -> list[Json]:
    """A DiscoveryResponse for each type, its resources sorted by name. Private keys are left out."""
    return [
        {
            "version_info": snapshot[type_url].version,
            "resources": [{"@type": type_url, **resource} for _, resource in sorted(_resources(snapshot, type_url).items())],
            "type_url": type_url,
        }
        for type_url in _ORDER
    ]


def static_bootstrap(settings: Flags, snapshot: Snapshot) -> Json:
    """A bootstrap with all resources in it, for an Envoy that has no management server. It holds private keys."""
    base = bootstrap(settings)
    del base["dynamic_resources"]
    found = [{name: as_json(t, r.body) for name, r in snapshot[t].items()} for t in _ORDER]
    return base | {"static_resources": static_resources(*found)}


def _resources(snapshot: Snapshot, type_url: str) -> Json:
    found = {name: as_json(type_url, resource.body) for name, resource in snapshot[type_url].items()}
    return {name: shown_secret(secret) for name, secret in found.items()} if type_url == SECRET else found


def _write(made: Json | str) -> None:
    sys.stdout.write(made if isinstance(made, str) else json.dumps(made, indent=2, ensure_ascii=False) + "\n")


def _sum_up(loaded: Loaded) -> None:
    """What went wrong is not this command's to explain, nor to keep quiet about."""
    for fault in loaded.faults:
        _warn(fault)
    count = Counter(p.severity for p in loaded.problems)
    if count[Severity.ERROR] or count[Severity.WARNING]:
        _warn(f"errors: {count[Severity.ERROR]}, warnings: {count[Severity.WARNING]}; `xds check` shows them.")


def _warn(sentence: str) -> None:
    print(f"xds translate: {sentence}", file=sys.stderr)
