"""What the pages promise apart from their code blocks: links, and the reference's completeness."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = [
        target for target in LINK.findall(page.read_text()) if not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_public_name_is_in_the_reference() -> None:
    import podnet

    text = "".join(page.read_text() for page in (ROOT / "docs/reference").glob("*.md"))
    missing = [name for name in podnet.__all__ if name != "__version__" and f"`{name}" not in text]
    assert missing == []


def test_every_error_class_is_in_the_reference() -> None:
    from podnet import errors

    text = (ROOT / "docs/reference/errors.md").read_text()
    classes = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.PodnetError)
    ]
    missing = [
        c.__name__
        for c in classes
        if f"| `{c.__name__}` | {c.code} | {c.fault.value} | " not in text
    ]
    assert missing == []


def test_the_command_line_reference_names_every_command() -> None:
    from podnet.cli.main import COMMANDS

    text = (ROOT / "docs/reference/command-line.md").read_text()
    assert [name for name in COMMANDS if f"podnet {name}" not in text] == []


def test_the_command_line_reference_names_every_option() -> None:
    import argparse

    from podnet.cli.main import COMMANDS, _parser

    text = (ROOT / "docs/reference/command-line.md").read_text()

    def options(parser: argparse.ArgumentParser) -> set[str]:
        found = set()
        for action in parser._actions:
            found.update(o for o in action.option_strings if o not in ("-h", "--help"))
            if isinstance(action, argparse._SubParsersAction):
                for child in action.choices.values():
                    found |= options(child)
        return found

    named = {o for command in COMMANDS for o in options(_parser(command))}
    assert {"--netns", "--bin-dir", "--output"} <= named
    assert [option for option in sorted(named) if f"`{option}" not in text] == []


def section(page: str, heading: str) -> str:
    """Return the part of a reference page below a heading, to the next one of its level."""
    text = (ROOT / "docs/reference" / page).read_text()
    level = heading.partition(" ")[0]
    after = text.split(f"\n{heading}\n", 1)[1]
    return re.split(rf"^#{{1,{len(level)}}} ", after, maxsplit=1, flags=re.MULTILINE)[0]


def signatures() -> list[tuple[str, str, list[str]]]:
    """Public callables: the section of the reference, the name, its parameters."""
    import inspect

    import podnet

    found = []
    for name in podnet.__all__:
        value = getattr(podnet, name)
        if not callable(value):
            continue
        found.append((name, name, list(inspect.signature(value).parameters)))
        if inspect.isclass(value) and not issubclass(value, Exception):
            for method, function in vars(value).items():
                if inspect.isfunction(function) and not method.startswith("_"):
                    given = [p for p in inspect.signature(function).parameters if p != "self"]
                    found.append((name, method, given))
    return found


@pytest.mark.parametrize(
    ("heading", "name", "parameters"), signatures(), ids=lambda v: v if isinstance(v, str) else ""
)
def test_signatures_are_those_of_the_code(heading: str, name: str, parameters: list[str]) -> None:
    text = section("python-api.md", f"## `{heading}`")
    told = re.search(rf"\b{name}\(([^`]*?)\)(?:`| -> |$)", text, re.MULTILINE)
    assert told, f"{name}() is not told"
    names = [part.partition("=")[0].strip() for part in re.split(r",(?![^()]*\))", told[1])]
    assert [each for each in names if each and each != "*"] == parameters


def test_every_setting_is_in_the_reference() -> None:
    from podnet.engine import settings

    text = section("configuration.md", "## podnet.conf")
    keys = {*settings._TEXTS, *settings._LISTS, "timeout", "strictCapabilities"}
    assert [key for key in sorted(keys) if f"| `{key}` |" not in text] == []


def test_every_variable_is_in_the_reference() -> None:
    text = section("configuration.md", "## Environment")
    code = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    named = set(re.findall(r"\bPODNET_[A-Z_]+\b", code)) - {"PODNET_TEST_KUBECONFIG"}
    assert {"PODNET_CONFIG", "PODNET_DEBUG"} <= named
    assert [name for name in sorted(named) if f"| `{name}` |" not in text] == []


BASE = {"cniVersion": "1.0.0", "name": "n"}
ADDRESSES = {"addresses": [{"address": "10.9.0.2/24"}], "routes": [{"dst": "0.0.0.0/0"}]}


def keys_read(kind: str, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Let podnet read a configuration of that type, and return the keys it looked at."""
    from podnet.delegation.conf import read_config
    from podnet.interface import macvlan, ptp
    from podnet.ipam.conf import read_want
    from podnet.model.attachment import Call
    from podnet.model.conf import network_config
    from podnet.model.reader import Reader

    seen: set[str] = set()
    look = Reader.value

    def value(self: Reader, key: str) -> object:
        seen.add(f"{self.path}.{key}".lstrip("."))
        return look(self, key)

    def interface(driver: object) -> None:
        config = {**BASE, "type": kind, "ipam": {"type": "static"}}
        driver.read(Call(plugin=kind, verb="ADD", ifname="eth1", config=config))  # type: ignore[attr-defined]

    def ipam(**keys: object) -> None:
        config = network_config({**BASE, "type": "macvlan", "ipam": {"type": kind, **keys}})
        seen.clear()
        read_want(kind, config, {})

    one = {"range": "10.0.0.0/24"}
    readers = {
        "podnet, multus": lambda: read_config(
            {**BASE, "type": "podnet", "delegates": [{"type": "a"}]}
        ),
        "macvlan": lambda: interface(macvlan),
        "ptp": lambda: interface(ptp),
        "whereabouts": lambda: ipam(**one, ipRanges=[one], **ADDRESSES),
        "podnet-ipam": lambda: ipam(pools=[{"network": "10.0.0.0/24"}], **ADDRESSES),
        "static": lambda: ipam(**ADDRESSES),
        "host-local": lambda: ipam(subnet="10.0.0.0/24", ranges=[[{"subnet": "10.1.0.0/24"}]]),
    }
    with monkeypatch.context() as patch:
        patch.setattr(Reader, "value", value)
        readers[kind]()
    return seen


# Read because they are every plugin's, or a whole that is told elsewhere.
COMMON = {"cniVersion", "name", "type", "dns", "ipam", "args", "runtimeConfig", "prevResult"}
ELSEWHERE = {"delegates[0].type", "delegates[0].plugins", "ipam.cniVersion", "ipam.ips"}
ELSEWHERE |= {"ipam.interfaces", "args.cni", "ipam.type"}


@pytest.mark.parametrize(
    ("kind", "heading"),
    [
        ("podnet, multus", "### podnet, multus"),
        ("macvlan", "### macvlan"),
        ("ptp", "### ptp"),
        ("whereabouts", "### ipam: whereabouts"),
        ("podnet-ipam", "### ipam: podnet-ipam"),
        ("static", "### ipam: static"),
        ("host-local", "### ipam: host-local"),
    ],
)
def test_every_key_of_a_type_is_in_the_reference(
    kind: str, heading: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = section("configuration.md", heading)
    routes, common = section("configuration.md", "### Routes"), "nameservers domain search options"
    missing = []
    for path in sorted(keys_read(kind, monkeypatch) - COMMON - ELSEWHERE):
        key = path.rpartition(".")[2]
        if ".routes[0]." in path:
            found = f"`{key}`" in routes
        elif ".dns." in f".{path}":
            found = key in common
        elif "runtimeConfig." in path or "args.cni." in path:
            found = f"`{path}`" in text
        else:
            found = re.search(rf"[`{{ ]{key}[`,}}]", text) is not None
        if not found:
            missing.append(path)
    assert missing == []


def test_every_name_of_the_test_kit_is_in_the_reference() -> None:
    from podnet import testing

    text = (ROOT / "docs/reference/testing.md").read_text()
    assert [name for name in testing.__all__ if f"`{name}" not in text] == []


def test_the_verbs_of_each_version_are_in_the_reference() -> None:
    from podnet.model.versions import SINCE, SUPPORTED, allows

    text = (ROOT / "docs/reference/cni.md").read_text()
    for verb in SINCE:
        marks = " | ".join("yes" if allows(version, verb) else "no" for version in SUPPORTED)
        # VERSION has no configuration, and so no version of one.
        assert f"| {verb} | {marks} |" in text


def test_every_built_in_type_is_in_the_reference() -> None:
    from podnet.engine.registry import PLUGINS

    text = (ROOT / "docs/reference/configuration.md").read_text()
    headings = " ".join(line for line in text.splitlines() if line.startswith("### "))
    assert [name for name in PLUGINS if name not in re.findall(r"[\w-]+", headings)] == []
