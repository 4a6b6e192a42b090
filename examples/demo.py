"""The demo: two HTTP applications, a TCP and a UDP one, behind the control plane and a real Envoy, from a folder of manifests.

    python examples/demo.py [--once] [--http-port 8080] [--https-port 8443]

It serves a copy of examples/quickstart that may be edited while it runs, prints what to try, tries it itself, changes a manifest and
shows the changed answer. `--once` ends after that.
"""

from __future__ import annotations

import argparse
import base64
import datetime
import http.client
import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

HERE = Path(__file__).parent
APPS = (("http", "apples", 9001), ("http", "pears", 9002), ("tcp", "tcp-echo", 9003), ("udp", "udp-echo", 9004))
STREAM_PORT = 9000
PATIENCE = 30.0
"""Seconds that the first answer may take."""


def main() -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(description="Show the control plane and a real Envoy at work.")
    parser.add_argument("--once", action="store_true", help="end after the demonstration")
    parser.add_argument("--http-port", type=int, default=8080)
    parser.add_argument("--https-port", type=int, default=8443)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ExitStack() as stack:
            return demonstrate(options, stack)
    except KeyboardInterrupt:
        print("\nStopped.")
        return 0


def demonstrate(options: argparse.Namespace, stack: ExitStack) -> int:
    """Start everything, show it, and go on until Ctrl-C."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="xds-demo-")))
    for manifest in (HERE / "quickstart").glob("*.yaml"):
        shutil.copy(manifest, folder)
    (folder / "shop-tls.yaml").write_text(tls_secret("shop-tls", "shop.example.com"))
    for kind, name, port in APPS:
        command = [sys.executable, str(HERE / "apps.py"), kind, "--name", name, "--port", str(port)]
        stack.enter_context(running(command, quiet=True))
    flags = [f"--http-port={options.http_port}", f"--https-port={options.https_port}"]
    flags += ["--tcp-services-configmap=default/tcp-services", "--udp-services-configmap=default/udp-services", "--log-format=text"]
    control_plane = stack.enter_context(running([sys.executable, "-m", "xds", "up", str(folder), *flags], quiet=False))
    tries = list(things_to_try(options))
    await_first_answer(control_plane, tries[0][1])
    print(f"\nServing {folder} (a copy of examples/quickstart). Try:\n")
    for line, ask in tries:
        print(f"  $ {line}\n    {ask()}\n")
    show_a_change(folder, tries[0])
    if options.once:
        return 0
    print(f"Edit the files in {folder} and see the answers change. Ctrl-C stops it all.\n")
    return control_plane.wait()


def things_to_try(options: argparse.Namespace) -> Iterator[tuple[str, Callable[[], str]]]:
    """Lines for a shell, and what does the same from here."""
    plain, tls = options.http_port, options.https_port
    for path in ("apples", "pears"):
        line = f"curl -H 'Host: fruit.example.com' -H 'Accept: text/plain' http://127.0.0.1:{plain}/{path}"
        yield line, lambda path=path: get("fruit.example.com", f"/{path}", plain)
    yield f"curl -i -H 'Host: shop.example.com' http://127.0.0.1:{plain}/buy/now", lambda: get("shop.example.com", "/buy/now", plain)
    line = f"curl -k --resolve shop.example.com:{tls}:127.0.0.1 -H 'Accept: text/plain' https://shop.example.com:{tls}/buy/now"
    yield line, lambda: get("shop.example.com", "/buy/now", tls, secure=True)
    yield f"echo hello | nc -q1 127.0.0.1 {STREAM_PORT}", ask_tcp
    yield f"echo hello | nc -u -w1 127.0.0.1 {STREAM_PORT}", ask_udp


def show_a_change(folder: Path, first: tuple[str, Callable[[], str]]) -> None:
    """Route /apples to the pears, and print how long it took until the answer changed."""
    line, ask = first
    manifest = folder / "fruit.yaml"
    draft = folder / ".fruit.yaml.new"
    draft.write_text(manifest.read_text().replace("name: apples", "name: pears"))
    begun = time.monotonic()
    draft.replace(manifest)
    while "pears" not in (answer := ask()):
        if time.monotonic() > begun + PATIENCE:
            raise SystemExit("The changed manifest had no effect.")
        time.sleep(0.002)  # each look is a line in the access log
    took = (time.monotonic() - begun) * 1000
    print(f"fruit.yaml now sends /apples to the Service pears. {took:.0f} ms later:\n\n  $ {line}\n    {answer}\n")


def get(host: str, path: str, port: int, *, secure: bool = False) -> str:
    """One request to Envoy, and the first words of its answer."""
    if secure:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        raw = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 5), server_hostname=host)
    else:
        raw = socket.create_connection(("127.0.0.1", port), 5)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.sock = raw
    try:
        connection.request("GET", path, headers={"Host": host, "Accept": "text/plain"})
        answer = connection.getresponse()
        location = f", Location: {answer.headers['Location']}" if "Location" in answer.headers else ""
        words = answer.read().decode().splitlines()
        return f"{answer.status} {answer.reason}{location}" + (f" | {words[0]}" if answer.status == 200 and words else "")
    finally:
        connection.close()


def ask_tcp() -> str:
    """One line to the TCP service."""
    with socket.create_connection(("127.0.0.1", STREAM_PORT), 5) as connection:
        connection.sendall(b"hello\n")
        return connection.makefile().readline().strip()


def ask_udp() -> str:
    """One datagram to the UDP service."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.sendto(b"hello", ("127.0.0.1", STREAM_PORT))
        return client.recv(1024).decode().strip()


def await_first_answer(control_plane: subprocess.Popen[bytes], ask: Callable[[], str]) -> None:
    """Until Envoy answers, or the control plane has ended."""
    give_up = time.monotonic() + PATIENCE
    while time.monotonic() < give_up:
        if control_plane.poll() is not None:
            raise SystemExit("`xds up` has ended; its log is above.")
        try:
            if ask().startswith("200"):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"There was no answer within {PATIENCE:.0f} s.")


@contextmanager
def running(command: list[str], *, quiet: bool) -> Iterator[subprocess.Popen[bytes]]:
    """A program for the length of a block. It does not receive the terminal's Ctrl-C, and gets SIGTERM at the end."""
    output = subprocess.DEVNULL if quiet else None
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def tls_secret(name: str, host: str) -> str:
    """A Secret with a self-signed certificate, as JSON (which is YAML)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    data = {"tls.crt": certificate.public_bytes(Encoding.PEM), "tls.key": private}
    encoded = {field: base64.b64encode(value).decode() for field, value in data.items()}
    secret = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": name}, "data": encoded}
    return json.dumps(secret, indent=1)


if __name__ == "__main__":
    sys.exit(main())
