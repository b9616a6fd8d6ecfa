"""Where the model is served: headers with secrets in them, and what a run writes down of them."""

import json
from pathlib import Path

import pytest
from test_run import FAST, carry_out, records

from loadgen import endpoint
from loadgen import plan as plans
from loadgen.endpoint import Endpoint, Tls
from loadgen.errors import PlanError

HEADERS = {"authorization": "Bearer abc", "x-api-key": "$A_KEY", "x-run": "7"}


def test_secrets_are_not_written_down() -> None:
    """A value that is a variable is no secret; a plain one under a secret-looking name is."""
    kept = endpoint.masked(Endpoint("h:1", "m", headers=HEADERS)).headers
    assert kept == {"authorization": "***", "x-api-key": "$A_KEY", "x-run": "7"}


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["sweep", "-H", "authorization: Bearer abc"], ["sweep", "-H", "authorization: ***"]),
        (["--header", "X-Api-Key:abc", "-u", "token:8001"], ["--header", "X-Api-Key:***", "-u", "token:8001"]),
        (["--prometheus-header=Authorization: a:b"], ["--prometheus-header=Authorization: ***"]),
        (["--metrics-header", "cookie: a\nb"], ["--metrics-header", "cookie: ***"]),
        (["-Hauthorization:abc", "-qH", "x-token: c"], ["-Hauthorization:***", "-qH", "x-token: ***"]),
        (["-H", "authorization: Bearer $TOKEN"], ["-H", "authorization: Bearer $TOKEN"]),
        (["-H", "x-run: 7", "token.json", "--name", "key: 1"], ["-H", "x-run: 7", "token.json", "--name", "key: 1"]),
    ],
)
def test_a_command_line_is_kept_without_secrets(words: list[str], kept: list[str]) -> None:
    """Every way to write an option for headers; where a secret comes from, and whatever is no header, stays."""
    assert endpoint.masked_words(words) == kept


def test_a_page_with_a_password_in_its_address_is_refused() -> None:
    """It would be in the plan."""
    with pytest.raises(PlanError, match="send --metrics-header instead"):
        endpoint.check(Endpoint("h:1", "m", metrics_urls=("https://me:abc@h/metrics",)))


def test_variables_are_replaced_when_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """With or without braces, anywhere in the value."""
    monkeypatch.setenv("A", "one")
    target = Endpoint("h:1", "m", headers={"x": "$A-${A}!", "y": "plain"})
    assert endpoint.metadata(target) == (("x", "one-one!"), ("y", "plain"))


def test_files_and_commands_give_secrets(tmp_path: Path) -> None:
    """`$(<FILE)` and `$(COMMAND)`, without the newline at their end; what is written down is how to get them."""
    (tmp_path / "token").write_text("s3cret\n")
    headers = {"authorization": f"Bearer $(<{tmp_path}/token)", "x-token": "$(printf '%s-x' made)"}
    target = Endpoint("h:1", "m", headers=headers)
    assert endpoint.metadata(target) == (("authorization", "Bearer s3cret"), ("x-token", "made-x"))
    assert endpoint.masked(target).headers == headers
    assert endpoint.changing(target)
    assert not endpoint.changing(Endpoint("h:1", "m", headers=HEADERS))


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"x": "$NOT_SET_ANYWHERE"}, "the variable NOT_SET_ANYWHERE is not set"),
        ({"authorization": "***"}, "was not written down; give it again"),
        ({"Bad Name": "x"}, "is no name for a header"),
        ({"grpc-timeout": "1S"}, "is no name for a header"),
        ({"x": "line\nbreak"}, "not printable ASCII"),
        ({"x": "$(</no/such/file)"}, "cannot read the file /no/such/file"),
        ({"x": "$(false --password abc)"}, "the command false ended with 1$"),
        ({"x": "$(no-such-program abc)"}, "the command no-such-program did not run$"),
    ],
)
def test_wrong_headers_are_refused(headers: dict[str, str], words: str) -> None:
    """One line names the header, never its value."""
    with pytest.raises(PlanError, match=words):
        endpoint.metadata(Endpoint("h:1", "m", headers=headers))


@pytest.mark.parametrize("text", ["", "x", ":v"])
def test_a_header_option_needs_a_name_and_a_value(text: str) -> None:
    """One line says what to write."""
    with pytest.raises(PlanError, match="write NAME:VALUE"):
        endpoint.header_option(text)


def test_a_header_option_is_read() -> None:
    """Names become lower case, as HTTP/2 wants them; the value may hold colons."""
    assert endpoint.header_option("X-Where: a:b") == ("x-where", "a:b")


@pytest.mark.parametrize(("asked", "used"), [("auto", "direct"), ("direct", "direct"), ("grpcio", "grpcio")])
def test_the_plan_of_a_run_says_what_carried_it(tmp_path: Path, asked: str, used: str) -> None:
    """`auto` is written as what it stood for; secrets are not written; every transport tells the same story."""
    directory, stub = carry_out(FAST, tmp_path, 2, transport=asked, connections=2)
    plan = json.loads(directory.plan.read_bytes())
    assert plan["transport"] == used
    rows = records(directory)
    assert (rows["outcome"] == "ok").sum() == stub.counters.success
    assert set(rows["connection"]) == {0, 1}
    known = rows["flushed_ns"].is_not_null().all()
    assert known == (used == "direct")


def test_a_plan_with_a_masked_secret_says_so_when_it_is_run_again(tmp_path: Path) -> None:
    """Nothing is sent with a wrong secret."""
    path = tmp_path / "plan.json"
    plan = plans.Plan(Endpoint("h:1", "m", headers=HEADERS), plans.PerfJson(("a.json",)), (plans.ClosedLoop(1),))
    path.write_bytes(plans.to_json(plans.written(plan)))
    with pytest.raises(PlanError, match="headers: authorization: was not written down"):
        plans.read_plan(path)


def test_pings_are_for_grpc() -> None:
    """HTTP/1.1 has none: asked for, they are refused in a line."""
    endpoint.check(Endpoint("h:1", "m", keepalive_s=30.0))
    with pytest.raises(PlanError, match="keepalive_s: is for gRPC"):
        endpoint.check(Endpoint("", "m", http="h:1", keepalive_s=30.0))


def test_tls_survives_the_plan(tmp_path: Path) -> None:
    """A run over TLS can be run again from its plan."""
    plan = plans.Plan(Endpoint("h:1", "m", tls=Tls(server_name="x")), plans.PerfJson(("a",)), (plans.ClosedLoop(1),))
    path = tmp_path / "plan.json"
    path.write_bytes(plans.to_json(plan))
    assert plans.read_plan(path).endpoint.tls == Tls(server_name="x")


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_compressed_messages_go_by_grpcio(tmp_path: Path, compression: str) -> None:
    """`auto` knows; the server answers as ever."""
    directory, stub = carry_out(FAST, tmp_path, 2, compression=compression)
    assert json.loads(directory.plan.read_bytes())["transport"] == "grpcio"
    assert (records(directory)["outcome"] == "ok").sum() == stub.counters.success


def test_direct_refuses_to_compress(tmp_path: Path) -> None:
    """One line that says what can."""
    with pytest.raises(PlanError, match="messages are to be compressed; write grpcio, or auto"):
        carry_out(FAST, tmp_path, 2, compression="gzip", transport="direct")
