"""From words and environment to settings: every spelling, who wins, and a sentence for what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exploring import examples
from xds.cli.arguments import COMMANDS, Parsed, flags_of, parse
from xds.config import Flag, UsageError
from xds.flag_kinds import BOOL

POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
"""An environment in which no folder needs to be named."""

SAMPLES: dict[str, str] = {
    "": "true",
    "N": "7",
    "N,N,…": "1,2.5",
    "PORT": "4711",
    "DURATION": "1m30s",
    "SECONDS": "17",
    "TEXT": "some",
    "URL": "https://10.0.0.1:6443",
    "NAME": "lease",
    "HOST,…": "a.example,*.b.example",
    "NAME,…": "a.example,b.example",
    "NAMESPACE": "team",
    "NAMESPACE/NAME": "team/thing",
    "CIDR,…": "169.254.20.10/32,fd00::/64",
    "PREFIX": "example.com",
    "SELECTOR": "team=web,tier notin (test, dev),!old",
    "ADDRESS": "127.0.0.1:4712",
    "IP": "127.0.0.1",
    "SOCKET": "unix:/run/other.sock",
    "FILE": "some/file",
    "DIR": "some/folder",
    "PATH": "/live",
    "ID": "node-7",
    "text|json": "json",
    "yaml|json": "json",
    "auto|text|json": "json",
    "debug|info|warning|error": "warning",
}


ENVIRONMENT = POD | {"XDS_XDS_TLS_CERT": "c", "XDS_XDS_TLS_KEY": "k", "XDS_XDS_TLS_CA": "a"}
"""Files of TLS go together: any one of them is tried in the company of the others."""

ROWS = [(command, flag) for command in COMMANDS for flag in flags_of(command) if flag.field not in ("help", "version")]


def named(item: object) -> str:
    return item.name if isinstance(item, Flag) else str(item)


def needed(command: str, flag: Flag) -> list[str]:
    """What a command needs before it looks at a flag."""
    if command == "explain":
        return ["http://a.example/"]
    if command == "rehearse":
        other = "--to" if flag.field == "from_" else "--from"
        sides = [other, "https://10.0.0.2"] if flag.field in ("from_", "to") else ["--from", "http://10.0.0.1", "--to", "http://10.0.0.2"]
        return [*sides, *([] if flag.field in ("manifests", "kubeconfig", "apiserver_host") else ["d"])]
    if flag.field == "validating_webhook":
        return ["--validating-webhook-certificate=c", "--validating-webhook-key=k", *(["d"] if command != "serve" else [])]
    return ["d"] if command in ("up", "translate", "check") and flag.field not in ("manifests", "live") else []


def value(parsed: Parsed, flag: Flag) -> Any:
    return getattr(parsed.settings, flag.field)


@pytest.mark.parametrize(("command", "flag"), ROWS, ids=named)
def test_a_flag_is_taken_in_every_spelling_and_from_the_environment(command: str, flag: Flag) -> None:
    sample = SAMPLES[flag.kind_in(command).metavar]
    expected = flag.kind_in(command).parse(sample)
    names = (flag.name, flag.name[1:], "--" + flag.field.rstrip("_"))
    spellings = [[f"{name}={sample}"] for name in names]
    if flag.kind is not BOOL:
        spellings += [[name, sample] for name in names]
    if flag.short:
        spellings += [[f"-{flag.short}", sample], [f"-{flag.short}={sample}"], [f"-{flag.short}{sample}"]]
    for words in spellings:
        assert value(parse(command, [*needed(command, flag), *words], ENVIRONMENT), flag) == expected, words
    assert value(parse(command, needed(command, flag), ENVIRONMENT | {flag.variable: sample}), flag) == expected


@pytest.mark.parametrize(("command", "flag"), [row for row in ROWS if row[1].kind is BOOL], ids=named)
def test_a_boolean_is_set_by_its_name_alone_and_unset_by_a_value(command: str, flag: Flag) -> None:
    words = needed(command, flag)
    assert value(parse(command, [*words, flag.name], POD), flag) is True
    words = ["d"] if flag.field == "live" else words
    assert value(parse(command, [*words, f"{flag.name}=false"], POD), flag) is False
    assert value(parse(command, [*words, f"{flag.name}=F"], POD), flag) is False


@pytest.mark.parametrize("words", [["-v", "2"], ["-v=2"], ["--v=2"], ["--v", "2"], ["-v2"]])
def test_verbosity_is_taken_as_klog_takes_it(words: list[str]) -> None:
    assert parse("serve", words, POD).settings.v == 2


def test_a_flag_wins_over_the_environment() -> None:
    parsed = parse("serve", ["--http-port", "81"], POD | {"XDS_HTTP_PORT": "82", "XDS_HTTPS_PORT": "444"})
    assert (parsed.settings.http_port, parsed.settings.https_port) == (81, 444)


def test_the_environment_is_not_read_where_a_flag_is_given() -> None:
    assert parse("serve", ["--http-port=81"], POD | {"XDS_HTTP_PORT": "nonsense"}).settings.http_port == 81


def test_an_empty_variable_counts_as_none() -> None:
    assert parse("serve", [], POD | {"XDS_HTTP_PORT": ""}).settings.http_port == 80


def test_a_port_that_the_kubelet_sets_for_a_service_is_no_setting() -> None:
    """A Service called xds-http puts XDS_HTTP_PORT=tcp://… into every pod of its namespace."""
    assert parse("serve", [], POD | {"XDS_HTTP_PORT": "tcp://10.3.2.1:80"}).settings.http_port == 80


def test_the_version_of_an_image_in_the_environment_is_no_flag() -> None:
    assert parse("serve", [], POD | {"XDS_VERSION": "1.2.3", "XDS_HELP": "x"}).settings.version is False


def test_the_last_of_two_values_wins() -> None:
    assert parse("serve", ["--http-port=81", "--http-port", "82"], POD).settings.http_port == 82


def test_folders_are_joined_in_the_order_in_which_they_are_given() -> None:
    parsed = parse("up", ["--manifests", "a", "b", "--manifests=c"], {})
    assert parsed.settings.manifests == (Path("a"), Path("c"), Path("b"))
    assert parsed.positional == ("b",)


def test_folders_in_the_environment_have_colons_between() -> None:
    assert parse("serve", [], {"XDS_MANIFESTS": "a:b"}).settings.manifests == (Path("a"), Path("b"))


def test_a_folder_given_by_words_wins_over_the_environment() -> None:
    assert parse("up", ["a"], {"XDS_MANIFESTS": "b"}).settings.manifests == (Path("a"),)


def test_words_after_two_dashes_are_no_flags() -> None:
    assert parse("up", ["--", "--odd-folder"], {}).settings.manifests == (Path("--odd-folder"),)


def test_explain_takes_a_url_and_folders() -> None:
    parsed = parse("explain", ["http://a.example/", "one", "two"], {})
    assert parsed.positional == ("http://a.example/", "one", "two")
    assert parsed.settings.manifests == (Path("one"), Path("two"))


def test_explain_live_names_no_folder() -> None:
    assert parse("explain", ["http://a.example/", "live"], {}).settings.manifests == ()


@pytest.mark.parametrize(
    ("words", "without_class"), [(["--manifests=d"], True), ([], False), (["--manifests=d", "--watch-ingress-without-class=false"], False)]
)
def test_ingresses_without_class_are_served_from_folders_unless_told_otherwise(words: list[str], without_class: bool) -> None:
    assert parse("serve", words, POD).settings.watch_ingress_without_class is without_class


@pytest.mark.parametrize(
    ("environment", "node"),
    [
        ({"POD_NAME": "pod-1", "HOSTNAME": "host"}, "pod-1"),
        ({"HOSTNAME": "host"}, "host"),
        ({"HOSTNAME": ""}, "envoy"),
        ({}, "envoy"),
        ({"POD_NAME": "pod-1", "XDS_NODE_ID": "mine"}, "mine"),
    ],
)
def test_a_node_is_called_after_its_pod_then_its_host(environment: dict[str, str], node: str) -> None:
    assert parse("bootstrap", [], environment).settings.node_id == node


def test_up_opens_no_port_but_those_that_are_asked_for() -> None:
    settings = parse("up", ["d"], {}).settings
    assert (settings.xds_address, settings.admin_address, settings.debug_address) == ("private",) * 3
    settings = parse("up", ["d", "--debug-address=off", "--admin-address=:9901"], {"XDS_XDS_ADDRESS": "127.0.0.1:18000"}).settings
    assert (settings.xds_address, settings.admin_address, settings.debug_address) == ("127.0.0.1:18000", "[::]:9901", "")


def test_those_who_ask_find_the_server_that_runs() -> None:
    assert {parse(command, [], {}).settings.debug_address for command in ("status", "history")} == {"auto"}
    assert parse("serve", ["--manifests=d"], {}).settings.debug_address == "127.0.0.1:18001"


def test_output_of_translate_is_yaml_where_others_print_text() -> None:
    assert parse("translate", ["d"], {}).settings.output == "yaml"
    assert parse("check", ["d"], {}).settings.output == "text"


def test_the_status_is_updated_every_five_seconds_at_most() -> None:
    assert parse("serve", ["--status-update-interval=1"], POD).settings.status_update_interval == 5


@pytest.mark.parametrize("word", ["--help", "-h", "--version"])
def test_help_and_version_need_nothing_else(word: str) -> None:
    settings = parse("explain", [word], {}).settings
    assert settings.help or settings.version


@pytest.mark.parametrize(
    ("command", "words", "sentence"),
    [
        ("serve", "--htp-port 80", "unknown flag '--htp-port'; did you mean --http-port?"),
        ("serve", "--zzzzzz", "unknown flag '--zzzzzz'; `xds serve --help` lists its flags."),
        ("serve", "--v2", "unknown flag '--v2'; did you mean --v?"),
        ("certgen", "", "name an API server with --kubeconfig; this process does not run in a pod."),
        ("certgen", "--xds-server-names=", "--xds-server-names: '' is not a list of DNS names with commas between."),
        ("certgen", "--xds-client-names=a,B", "--xds-client-names: 'a,B' is not a list of DNS names with commas between."),
        ("certgen", "--server-secret=a/b", "--server-secret: 'a/b' is not the name of a Secret."),
        ("bootstrap", "--probe-address=:9901", "--admin-address and --probe-address are both 9901; each needs its own."),
        ("serve", "--=x", "unknown flag '--'; `xds serve --help` lists its flags."),
        ("status", "--node-id=x", "--node-id is no flag of xds status; it belongs to xds up, xds bootstrap, xds authz."),
        ("serve", "--http-port 99999", "--http-port: '99999' is not a port number from 1 to 65535."),
        ("serve", "--http-port 0", "--http-port: '0' is not a port number from 1 to 65535."),
        ("serve", "-http-port=x", "-http-port: 'x' is not a port number from 1 to 65535."),
        ("serve", "--http-port", "--http-port needs a value: a port number from 1 to 65535."),
        ("serve", "--update-status=yes", "--update-status: 'yes' is not true or false."),
        ("serve", "--configmap config", "--configmap: 'config' is not a namespace and name such as ingress-nginx/controller."),
        ("serve", "--configmap a/b/c", "--configmap: 'a/b/c' is not a namespace and name such as ingress-nginx/controller."),
        ("serve", "--election-ttl 30", "--election-ttl: '30' is not a duration such as 500ms, 30s or 1m30s."),
        (
            "serve",
            "--watch-namespace-selector a=(",
            "--watch-namespace-selector: 'a=(' is not a label selector such as team=web,tier!=test.",
        ),
        ("serve", "--listen-address all", "--listen-address: 'all' is not an IP address."),
        ("serve", "--xds-address 18000", "--xds-address: '18000' is not host:port, [IPv6]:port or unix:/path."),
        ("serve", "--publish-service= --v", "--v needs a value: a whole number."),
        ("translate", "d -o text", "-o: 'text' is not one of yaml, json."),
        ("status", "-o yaml", "-o: 'yaml' is not one of text, json."),
        (
            "serve",
            "--watch-namespace a --watch-namespace-selector b",
            "--watch-namespace and --watch-namespace-selector exclude each other.",
        ),
        (
            "serve",
            "--publish-service a/b --publish-status-address 1.2.3.4",
            "--publish-service and --publish-status-address exclude each other.",
        ),
        ("serve", "--manifests d --kubeconfig f", "--manifests and --kubeconfig exclude each other."),
        ("up", "d --kubeconfig f", "--kubeconfig is no flag of xds up; it belongs to xds serve, xds certgen, xds rehearse."),
        ("up", "", "name a folder of manifests, as in `xds up ./manifests`; the objects of an API server are served by `xds serve`."),
        ("check", "", "name a folder or a file of manifests, as in `xds check ./manifests`, or - for standard input."),
        ("serve", "d", "'d' is no argument of xds serve; folders are named with --manifests."),
        ("status", "d", "'d' is no argument of xds status; `xds status --help` lists its flags."),
        (
            "serve",
            "--update-status false",
            "'false' is no argument of xds serve; true and false are joined to their flag by =, as in --update-status=false.",
        ),
        ("bootstrap", "--node-id=\udcff", "--node-id: '\\udcff' is not UTF-8."),
        ("serve", "--xds-address unix:xds.sock", "--xds-address: 'unix:xds.sock' is not host:port, [IPv6]:port or unix:/path."),
        (
            "serve",
            f"--manifests d --xds-address unix:/{'a' * 107}",
            "--xds-address: the path has 108 bytes, and that of a Unix socket may have 107.",
        ),
        ("explain", "", "name a URL, as in `xds explain http://example.com/ ./manifests`."),
        (
            "serve",
            "",
            "name a folder of manifests, as in `xds serve --manifests ./manifests`, or an API server with --kubeconfig.",
        ),
        ("serve", "--manifests d --http-port 443", "--http-port and --https-port are both 443; each needs its own."),
        ("serve", "--manifests d --healthz-port 18000", "--healthz-port and --xds-address are both 18000; each needs its own."),
        (
            "up",
            "d --http-port 9901 --admin-address 127.0.0.1:9901",
            "--http-port and --admin-address are both 9901; each needs its own.",
        ),
        ("serve", "--manifests d --xds-address private", "--xds-address: 'private' is not host:port, [IPv6]:port or unix:/path."),
        ("up", "d --debug-address 1", "--debug-address: '1' is not host:port, [IPv6]:port or unix:/path, private or off."),
        ("up", "d --xds-address unix:/a --debug-address unix:/a", "--xds-address and --debug-address are both /a; each needs its own."),
        (
            "up",
            "d --xds-address :1",
            "--xds-address: [::]:1 reaches beyond this machine, and xds up serves its own Envoy only; see xds serve.",
        ),
        (
            "serve",
            "--manifests d --xds-address 0.0.0.0:1",
            "--xds-address: 0.0.0.0:1 reaches beyond this machine; that needs --xds-tls-cert, --xds-tls-key and --xds-tls-ca.",
        ),
        (
            "serve",
            "--manifests d --xds-tls-cert c",
            "--xds-tls-cert, --xds-tls-key and --xds-tls-ca go together: give all three or none.",
        ),
        ("bootstrap", "--xds-address :1", "--xds-address: [::]:1 is not where an Envoy can find a server; name its host and port."),
        ("bootstrap", "--xds-address h:0", "--xds-address: h:0 is not where an Envoy can find a server; name its host and port."),
        (
            "bootstrap",
            "--xds-address unix:/a --xds-tls-cert c --xds-tls-key k --xds-tls-ca a",
            "--xds-server-name is needed: an --xds-address that is a Unix socket has no host to compare with a certificate.",
        ),
    ],
)
def test_what_cannot_be_is_answered_by_one_sentence(command: str, words: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(command, words.split(), {})
    assert str(caught.value) == sentence


def test_a_wrong_value_in_the_environment_is_blamed_on_the_variable() -> None:
    with pytest.raises(UsageError, match=r"^XDS_HTTP_PORT: '99999' is not a port number from 1 to 65535\.$"):
        parse("serve", [], POD | {"XDS_HTTP_PORT": "99999"})


@pytest.mark.parametrize("reference", [f"{'n' * 64}/name", f"namespace/{'n' * 254}"])
def test_a_reference_to_what_kubernetes_would_not_name_so_is_refused(reference: str) -> None:
    with pytest.raises(UsageError, match="is not a namespace and name"):
        parse("serve", [f"--configmap={reference}"], POD)


def test_a_very_long_value_is_cut_in_the_sentence() -> None:
    with pytest.raises(UsageError) as caught:
        parse("serve", ["--http-port", "9" * 5000], POD)
    assert len(str(caught.value)) < 200


def test_an_empty_folder_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^the name of a folder is empty\.$"):
        parse("up", [""], {})


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("serve", "--manifests d --http-port 10254"),
        ("serve", "--manifests d --http-port 18000"),
        ("serve", "--manifests d --xds-address 127.0.0.1:0 --debug-address 127.0.0.1:0"),
        ("serve", "--manifests d --xds-address 127.0.0.1:5 --debug-address 127.0.0.2:5"),
        ("serve", "--manifests d --xds-address 0.0.0.0:1 --xds-tls-cert c --xds-tls-key k --xds-tls-ca a"),
        ("translate", "d --http-port 443"),
        ("status", ""),
        ("bootstrap", "--xds-address unix:/run/xds.sock"),
        ("serve", "--apiserver-host https://10.0.0.1:6443"),
        ("serve", "--manifests d --configmap= --watch-namespace= --publish-service a/b --publish-status-address="),
    ],
)
def test_what_does_no_harm_is_taken(command: str, words: str) -> None:
    parse(command, words.split(), {})


@pytest.mark.parametrize("flag", [flag for flag in flags_of("serve") if flag.no_effect], ids=lambda flag: flag.name)
def test_a_flag_without_effect_says_so_in_one_line(flag: Flag) -> None:
    parsed = parse("serve", [f"{flag.name}={SAMPLES[flag.kind.metavar]}"], POD)
    assert parsed.notices == (f"{flag.name} has no effect: {flag.no_effect}",)
    assert "\n" not in parsed.notices[0]


def test_a_name_of_no_metric_is_a_notice() -> None:
    names = "--exclude-socket-metrics=request_size,nginx_ingress_controller_requests,request_sise"
    for command, words in (("serve", ["--manifests=d"]), ("up", ["d"])):
        (notice,) = parse(command, [*words, names], {}).notices
        assert notice == "--exclude-socket-metrics: there is no request metric named 'request_sise'; docs/metrics.md has their names."


def test_without_such_flags_there_are_no_notices() -> None:
    assert parse("serve", ["--manifests=d", "--http-port=81"], {}).notices == ()


def test_a_flag_about_writing_to_an_api_server_has_no_effect_on_folders() -> None:
    words = ["--publish-service=a/b"]
    assert parse("serve", words, POD).notices == ()
    notices = parse("serve", [*words, "--manifests=d"], {}).notices
    assert notices == ("--publish-service has no effect with --manifests: there is no API server to write to.",)


def test_exceptions_from_a_rule_that_does_not_hold_have_no_effect() -> None:
    words = ["--allowed-endpoints=127.0.0.0/8"]
    assert parse("serve", words, POD).notices == ()
    (notice,) = parse("serve", [*words, "--manifests=d"], {}).notices
    assert notice.startswith("--allowed-endpoints has no effect with --manifests: ")


TLS = ["--xds-tls-cert=c", "--xds-tls-key=k", "--xds-tls-ca=a"]


@pytest.mark.parametrize(
    ("words", "beginnings"),
    [
        (["--xds-address=xds.example:1"], ["--xds-address: without --xds-tls flags keys are sent to xds.example:1 in plaintext"]),
        (["--xds-address=xds.example:1", *TLS], ["Envoy reads the files of the --xds-tls flags once"]),
        (["--xds-address=xds.example:1", "--output-dir=d", *TLS], []),
        ([], []),
    ],
)
def test_a_bootstrap_that_is_unsafe_or_grows_old_says_so(words: list[str], beginnings: list[str]) -> None:
    notices = parse("bootstrap", words, {}).notices
    assert [notice.startswith(beginning) for notice, beginning in zip(notices, beginnings, strict=True)] == [True] * len(beginnings)


WORDS = st.one_of(
    st.sampled_from([flag.name for flag in flags_of("serve")] + [f"-{flag.field}" for flag in flags_of("up")] + ["--", "-", "-o", "-h"]),
    st.sampled_from([*SAMPLES.values(), "0", "-1", "[::]:1", "unix:x", "tcp://1.2.3.4:5", "live", "false"]),
    st.builds(
        "{}={}".format, st.sampled_from([flag.name for flag in flags_of("up")]), st.text(max_size=12) | st.sampled_from([*SAMPLES.values()])
    ),
    st.text(max_size=12),
)
VARIABLES = st.dictionaries(
    st.sampled_from([flag.variable for flag in flags_of("serve")] + [*POD, "HOSTNAME", "POD_NAME"]), st.text(max_size=12), max_size=3
)


@settings(max_examples=examples(400), deadline=None)
@given(st.sampled_from(sorted(COMMANDS)), st.lists(WORDS, max_size=8), VARIABLES)
def test_random_words_are_either_understood_or_answered_by_one_sentence(
    command: str, words: list[str], environment: dict[str, str]
) -> None:
    try:
        parsed = parse(command, words, environment)
    except UsageError as error:
        sentence = str(error)
        assert sentence.endswith((".", "?"))
        assert "\n" not in sentence
    else:
        assert all("\n" not in notice for notice in parsed.notices)


def test_a_webhook_needs_its_certificate() -> None:
    with pytest.raises(UsageError, match=r"^--validating-webhook needs --validating-webhook-certificate and --validating-webhook-key\.$"):
        parse("serve", ["--validating-webhook", ":8443", "--validating-webhook-key=k"], POD)
