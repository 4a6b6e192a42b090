"""An nginx with servers of a test's own, on a free port of loopback."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from examples.apps import Address
from tests.envoy.harness import Site
from tests.envoy.harness.http1 import Headers, Response, fetch
from tests.envoy.harness.process import Process
from tests.envoy.harness.tls import Tls, make_certificate
from tests.envoy.harness.waiting import wait_until

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
_PORT_MARK = "generation.test"
_AROUND = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  server_tokens off;
  port_in_redirect off;
  default_type text/html;
  ssl_certificate {folder}/tls.crt;
  ssl_certificate_key {folder}/tls.key;
  {temporary}
{around}
  server {{ listen 127.0.0.1:{port}; listen 127.0.0.1:{tls_port} ssl; return 404; }}
  server {{ listen 127.0.0.1:{port}; server_name generation.test; return 200 "{generation}"; }}
{servers}
}}
"""
_LOCATION = """\
    location {path} {{
      proxy_set_header Host $http_host;
      proxy_http_version 1.1;
      {text}
      proxy_pass http://{backend};
    }}
"""
"""What ingress-nginx writes around a snippet, as far as these tests can see it."""


def location(text: str, backend: Address, path: str = "/") -> str:
    """A location that forwards to a backend, with the text of a snippet in it."""
    return _LOCATION.format(path=path, text=text, backend=f"{backend[0]}:{backend[1]}")


def _name(host: str) -> str:
    """The name of a server: of a wildcard, which is one label, the expression that ingress-nginx writes."""
    return rf"~^(?<subdomain>[\w-]+)\.{re.escape(host[2:])}$" if host.startswith("*.") else host


class Nginx:
    """One nginx; `serve` gives it other servers."""

    def __init__(self, site: Site, folder: Path) -> None:
        self._site = site
        self._folder = folder
        self._process: Process | None = None
        self._generation = 0
        self.address: Address = ("127.0.0.1", site.ports.take())
        self.tls: Address = ("127.0.0.1", site.ports.take())
        certificate = make_certificate(["nginx.test"])
        (folder / "tls.crt").write_bytes(certificate.cert_pem)
        (folder / "tls.key").write_bytes(certificate.key_pem)

    async def serve(self, servers: Mapping[str, str], around: str = "") -> None:
        """Serve these hosts: name → the content of its server; `around` is what stands before all servers. Waits until nginx does."""
        self._generation += 1
        listen = f"listen 127.0.0.1:{self.address[1]}; listen 127.0.0.1:{self.tls[1]} ssl;"
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        text = _AROUND.format(
            folder=self._folder,
            port=self.address[1],
            tls_port=self.tls[1],
            generation=self._generation,
            around=around,
            temporary=" ".join(f"{kind}_temp_path {self._folder}/{kind};" for kind in kinds),
            servers="\n".join(f"  server {{ {listen} server_name {_name(host)};\n{content}  }}" for host, content in servers.items()),
        )
        file = self._folder / "nginx.conf"
        file.write_text(text)
        assert NGINX
        tested = await asyncio.create_subprocess_exec(
            NGINX, "-t", "-c", str(file), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        _, said = await tested.communicate()
        assert tested.returncode == 0, said.decode()
        await self.stop()  # of two generations of workers, either may answer for a while
        self._process = Process(f"nginx-{self._generation}", [NGINX, "-c", str(file)], self._folder)
        self._site.processes[:] = [each for each in self._site.processes if not each.name.startswith("nginx-")]
        self._site.processes.append(self._process)
        await self._process.start()
        await wait_until(self._serves, "nginx to serve")

    async def _serves(self) -> bool:
        try:
            return (await self.get("/", host=_PORT_MARK)).body == str(self._generation).encode()
        except OSError:
            return False

    async def get(self, target: str, *, host: str, method: str = "GET", headers: Headers = (), tls: Tls | None = None) -> Response:
        """Send one request; with `tls` to the port for that."""
        return await fetch(self.tls if tls else self.address, target, host=host, method=method, headers=headers, tls=tls)

    async def stop(self) -> None:
        """End it."""
        if self._process:
            await self._process.stop()
