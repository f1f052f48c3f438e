"""What ``podnet ipam`` answers to names, addresses and moves that are not as they were meant."""

from __future__ import annotations

import json

import pytest

import podnet
from podnet.cli.main import main

NAD = """\
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: net-c}
spec:
  config: '{"cniVersion": "1.0.0", "name": "net-c", "type": "macvlan",
    "ipam": {"type": "podnet-ipam", "pools": [{"name": "c", "network": "10.2.0.0/24"}]}}'
"""


@pytest.fixture
def people(terminal, monkeypatch):
    """Run a verb on a terminal; status and what it shows."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words):
        terminal.seek(0)
        terminal.truncate()
        monkeypatch.setattr("sys.stdout", terminal)
        return main(["ipam", *words]), terminal.getvalue()

    return run


@pytest.fixture
def networks(tmp_path, state):
    folder = tmp_path / "nets"
    folder.mkdir()
    (folder / "a.yaml").write_text(NAD)
    (tmp_path / "podnet.conf").write_text(json.dumps({"node": "here", "networks": str(folder)}))
    return folder


@pytest.mark.parametrize("more", [["--reason", "x"], ["--remove"]], ids=" ".join)
def test_nothing_is_reserved_in_a_domain_that_nobody_knows(ipam, leases, networks, more):
    status, out, _ = ipam("reserve", "10.0.0.40/30", "--domain", "storge", *more)
    assert status == 2
    assert json.loads(out)["msg"] == "no domain is called 'storge'"
    assert json.loads(out)["details"] == "known are a, b, c"
    for known in "abc":
        assert ipam("reserve", "10.9.0.40/30", "--domain", known, *more)[0] == 0


@pytest.mark.parametrize(
    ("words", "known"),
    [
        (["leases", "--domain", "nix"], "a, b, c"),
        (["leases", "--pool", "nix"], "a, b, c"),
        (["leases", "--network", "nix"], "default/net-c, net-c"),
        (["leases", "--node", "nix"], "here"),
        (["release", "10.0.0.1", "--domain", "nix"], "a, b, c"),
        (["reconcile", "--domain", "nix"], "a, b, c"),
        (["reconcile", "--dead-node", "nix", "--dry-run"], "here"),
        (["reconcile", "--dead-node", "nix", "--yes"], "here"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_a_name_that_nobody_knows_is_told(ipam, leases, networks, words, known):
    status, out, err = ipam(*words)
    assert status == 1
    assert json.loads(out)["details"] == f"known are {known}"
    assert "is called 'nix': known are" in err


def test_a_known_name_without_leases_is_no_error(ipam, leases, networks):
    for option, name in (("pool", "c"), ("domain", "c"), ("network", "net-c"), ("node", "here")):
        words = ["--older-than", "1d"] if name == "here" else []
        assert ipam("leases", f"--{option}", name, *words)[0] == 0
    assert ipam("leases", "--domain", "a", "--pod", "nobody")[0] == 0


@pytest.mark.parametrize(
    "words",
    [
        ["--cidr", "10.0.0.0/24", "--cidr", "10.1.0.0/24"],
        ["--address", "10.0.0.1", "--cidr", "10.1.0.0/24"],
        ["--pool", "a", "--pool", "b"],
    ],
    ids=" ".join,
)
def test_no_filter_is_silently_dropped(ipam, leases, words, capsys):
    with pytest.raises(SystemExit) as end:
        ipam("leases", *words)
    assert end.value.code == 2
    assert "already" in capsys.readouterr().err


def test_addresses_that_nobody_holds_are_named(ipam, leases):
    words = ["release", "10.0.0.1", "10.0.0.99", "--yes", "--all", "--force"]
    status, out, err = ipam(*words)
    assert status == 1
    assert [each["address"] for each in json.loads(out)["released"]] == ["10.0.0.1"]
    assert json.loads(out)["missing"] == ["10.0.0.99"]
    assert "no lease on 10.0.0.99 fits" in err


def test_broken_and_missing_definitions_are_faults(ipam, leases, networks, tmp_path):
    (networks / "b.yaml").write_text("{")
    status, out, err = ipam("show")
    assert status == 0
    assert {each["pool"] for each in json.loads(out)["pools"]} == {"a", "b", "c"}
    assert [each["where"] for each in json.loads(out)["faults"]] == [str(networks / "b.yaml")]
    assert err.count("podnet: error: ") == 1
    (tmp_path / "podnet.conf").write_text(json.dumps({"node": "here", "networks": "/nosuch"}))
    status, out, err = ipam("show")
    assert [each["where"] for each in json.loads(out)["faults"]] == ["/nosuch"]
    assert "/nosuch" in err


@pytest.mark.parametrize("answer", ["y\n", "n\n"])
def test_reconciling_asks_before_it_releases(people, ipam, leases, terminal, monkeypatch, answer):
    from podnet.engine.reconcile_node import NodeWitness

    monkeypatch.setattr(NodeWitness, "_paths", lambda self, missed: iter(()))
    stdin = type(terminal)(answer)
    monkeypatch.setattr("sys.stdin", stdin)
    status, shown = people("reconcile", "--grace", "0", "--without-record", "--domain", "a")
    assert shown.count(" dead ") == 2
    assert (status == 0) == (answer == "y\n")
    assert ("2 released" in shown) == (answer == "y\n")
    assert ("nothing was released" in shown) == (answer == "n\n")
    stdin.seek(0)
    status, shown = people("reconcile", "--domain", "b")
    assert (status, "younger" in shown) == (0, False)
    assert "2 kept" in shown


def test_who_was_kept_for_want_of_sight_is_told_why(people, leases, monkeypatch):
    from podnet.engine.reconcile_node import NodeWitness

    def blind(self, missed):
        missed.append("/proc: Permission denied")
        return iter(())

    monkeypatch.setattr(NodeWitness, "_paths", blind)
    status, shown = people("reconcile", "--grace", "0", "--yes")
    assert status == 0
    assert "4 kept" in shown
    assert "4 of them: there is no record of it, and not all was seen: /proc: Perm" in shown


def test_a_reservation_is_one_row(people, ipam, leases):
    assert ipam("reserve", "10.0.0.16/28", "--domain", "a", "--reason", "printers")[0] == 0
    assert ipam("reserve", "10.0.0.32", "--domain", "a", "--reason", "scanner")[0] == 0
    rows = people("leases", "--domain", "a")[1].splitlines()
    assert [row.split()[0] for row in rows[1:]] == [
        "10.0.0.1/24",
        "10.0.0.2/24",
        "10.0.0.16-10.0.0.31",
        "10.0.0.32/32",
    ]


def test_a_picture_is_told_of(people, leases, tmp_path):
    assert f"wrote {tmp_path}/pool.svg" in people("show", "--svg", f"{tmp_path}/pool.svg")[1]


@pytest.mark.parametrize(
    ("url", "says"),
    [("", "is empty"), ("/var/leases", "did you mean file:/var/leases?")],
)
def test_a_store_that_is_no_url(ipam, leases, url, says):
    for words in (["leases", "--store", url], ["migrate", url, "file:/x", "--all"]):
        status, out, _ = ipam(*words)
        assert status == 2
        assert says in " ".join(map(str, json.loads(out).values()))


def test_who_cannot_be_asked_is_told_the_option(ipam, leases):
    status, _, err = ipam("release", "10.0.0.1", "--force")
    assert status == 2
    assert err.endswith("release 10.0.0.1: not a terminal: confirm with --yes\n")


def both(ipam, *words):
    """Return what a dry run and the real run tell of one domain."""
    found = [ipam("migrate", *words, *more) for more in (["--dry-run"], [])]
    return [(status, json.loads(out)["domains"][0]) for status, out, _ in found]


def test_a_dry_run_tells_what_the_run_would(ipam, leases, tmp_path):
    other, third = f"file:{tmp_path}/other", f"file:{tmp_path}/third"
    pool = podnet.Pool("a", "10.0.0.0/24")
    with podnet.open_ipam(other, node="here") as there:
        for n in range(3):
            there.allocate(pool, podnet.Owner(f"x{n}", "eth1"))
    for target in (leases, other):
        (tried, would), (status, did) = both(ipam, leases, target, "--domain", "a")
        assert (tried, status, would["state"]) == (1, 1, "refused")
        assert would["problem"] == did["problem"]
        assert would["leases"] == 2
    assert "--merge: puts the leases" in did["problem"]
    words = ["migrate", leases, other, "--domain", "a", "--merge", "--dry-run"]
    (told,) = json.loads(ipam(*words)[1])["domains"]
    assert (told["state"], len(told["conflicts"]), "problem" in told) == ("new", 2, False)
    assert ipam("migrate", leases, third, "--domain", "b")[0] == 0
    assert both(ipam, leases, third, "--domain", "b")[0][1]["state"] == "done"
    (tried, would), (status, did) = both(ipam, leases, other, "--domain", "b")
    assert (tried, status, would["state"]) == (1, 1, "refused")
    assert would["problem"] == did["problem"]
    assert "was moved to" in did["problem"]


def test_a_move_by_pool_is_taken_up(ipam, leases, tmp_path):
    words = ["migrate", leases, f"file:{tmp_path}/new", "--pool", "a"]
    assert ipam(*words)[0] == 0
    status, out, _ = ipam(*words)
    assert (status, json.loads(out)["domains"][0]["complete"]) == (0, True)


@pytest.mark.parametrize("option", ["--pool", "--domain"])
def test_who_has_no_such_domain_is_named(ipam, leases, tmp_path, option):
    status, out, _ = ipam("migrate", leases, f"file:{tmp_path}/new", option, "nix")
    assert status == 1
    assert json.loads(out)["msg"].startswith(f"{leases} has no ")


@pytest.mark.parametrize("option", ["--all", "--dry-run"])
def test_a_move_away_from_another_program_has_a_warning(ipam, people, tmp_path, option):
    url = f"host-local:{tmp_path}/networks"
    with podnet.open_ipam(url, node="here") as there:
        there.allocate(podnet.Pool("a", "10.0.0.0/24"), podnet.Owner("x", "eth1"))
    words = ["migrate", url, f"file:{tmp_path}/new", *dict.fromkeys([option, "--all"])]
    assert "host-local knows nothing of the move" in json.loads(ipam(*words)[1])["warning"]
    status, shown = people(*words)
    assert status == 0
    assert "host-local knows nothing" in shown
