"""`xds bootstrap`: the bootstrap of an Envoy as YAML, printed or in files. `xds.render.bootstrap` makes it."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from xds.cli.arguments import Parsed
from xds.cli.as_yaml import as_yaml
from xds.config import Failure, Flags
from xds.render.bootstrap import bootstrap, secret_files

_FILE = "envoy.yaml"


def run(parsed: Parsed) -> int:
    """Print the bootstrap, or write it to `--output-dir`. Raises Failure where a file cannot be written."""
    if parsed.settings.output_dir is None:
        sys.stdout.write(bootstrap_text(parsed.settings))
        return 0
    # Envoy starts in another folder than this command.
    folder = parsed.settings.output_dir.absolute()
    settings = dataclasses.replace(parsed.settings, output_dir=folder)
    # The bootstrap comes last: a program that waits for it finds the files that it refers to.
    for name, content in secret_files(settings).items():
        _write(folder / name, as_yaml(content))
    _write(folder / _FILE, bootstrap_text(settings))
    return 0


def bootstrap_text(settings: Flags) -> str:
    """The bootstrap as YAML that Envoy reads with `envoy -c`; the same settings give the same bytes."""
    return (
        f"# Bootstrap of an Envoy whose management server is at {settings.xds_address}.\n"
        "# Every Envoy needs a node id of its own: start it with --service-node, as in\n"
        "#   envoy -c FILE --service-node $(POD_NAME)\n"
    ) + as_yaml(bootstrap(settings))


def _write(path: Path, text: str) -> None:
    """Replace a file in one step, for Envoy may be reading it."""
    draft = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise Failure(f"--output-dir: {path} cannot be written: {error.strerror}.") from error
