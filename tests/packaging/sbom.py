"""What an installation consists of, as CycloneDX: `make sbom` writes build/sbom.cdx.json.

A fresh environment is made, so that nothing is in the list that only tests need. Source: CycloneDX 1.6, cyclonedx-bom.
"""

from __future__ import annotations

import sys
import tempfile
import venv
from pathlib import Path

from tests.packaging.building import ROOT, copied, run, wheel

TOOL = "cyclonedx-bom>=7,<8"
"""Run by pipx in an environment of its own: it brings three dozen packages."""


def written(environment: Path, to: Path) -> Path:
    """Write the list of what is installed in an environment, and return where it is. Equal environments give equal bytes."""
    command = [sys.executable, "-m", "pipx", "run", "--spec", TOOL, "cyclonedx-py", "environment", "--output-reproducible"]
    run(*command, "--pyproject", ROOT / "pyproject.toml", "--mc-type", "application", "--output-file", to, environment / "bin" / "python")
    return to


def main(folder: Path) -> None:
    """Write the list of what `pip install 'xds-ingress[envoy]'` brings into a folder."""
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        venv.create(work / "environment", with_pip=True)
        python = work / "environment" / "bin" / "python"
        built = f"{wheel(work, copied(work))}[envoy]"
        run(python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "requirements.lock", built)
        run(python, "-m", "pip", "uninstall", "--quiet", "--yes", "setuptools", "pip")
        print(f"written to {written(work / 'environment', folder / 'sbom.cdx.json')}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
