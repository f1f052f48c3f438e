"""Import cost is part of the API: sets of loaded modules, not milliseconds."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import podnet

HEAVY = {"pyroute2", "netaddr", "yaml", "rich", "hypothesis", "pytest", "sqlalchemy", "asyncio"}


def loaded(code: str, *, stdin: str = "") -> set[str]:
    """Modules that running ``code`` in a fresh interpreter adds."""
    script = (
        "import sys; before = set(sys.modules)\n"
        f"{code}\n"
        "added = sorted(set(sys.modules) - before)\n"
        "import json; print('\\n' + json.dumps(added), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], input=stdin, capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stderr.strip().splitlines()[-1]))


def test_import_podnet_adds_nothing_but_itself() -> None:
    assert loaded("import podnet") == {"podnet"}


def test_every_public_name_resolves_and_is_listed() -> None:
    for name in podnet.__all__:
        assert getattr(podnet, name) is not None
        assert name in dir(podnet)
    assert podnet.__version__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'podnet' has no attribute 'Pol'$"):
        _ = podnet.Pol  # type: ignore[attr-defined]


def test_version_verb_loads_nothing_heavy() -> None:
    code = (
        "import os, sys; sys.argv = ['/opt/cni/bin/macvlan']\n"
        "os.environ['CNI_COMMAND'] = 'VERSION'\n"
        "from podnet.cni.main import main; main()"
    )
    modules = {name.partition(".")[0] for name in loaded(code)}
    assert not modules & HEAVY
    assert "subprocess" not in modules


def test_an_ipam_call_needs_no_netlink(tmp_path) -> None:  # type: ignore[no-untyped-def]
    config = {
        "cniVersion": "1.0.0",
        "name": "n",
        "type": "macvlan",
        "ipam": {"type": "whereabouts", "range": "10.1.0.0/24"},
    }
    code = (
        "import os, sys; sys.argv = ['whereabouts']\n"
        "os.environ.update(CNI_COMMAND='ADD', CNI_CONTAINERID='c', CNI_NETNS='/n', CNI_IFNAME='e',"
        f" CNI_PATH='/x', PODNET_STATE_DIR={str(tmp_path)!r})\n"
        "from podnet.cni.main import main; assert main() == 0"
    )
    modules = {name.partition(".")[0] for name in loaded(code, stdin=json.dumps(config))}
    assert not modules & HEAVY
