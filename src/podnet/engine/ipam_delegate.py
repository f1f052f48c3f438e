"""The IPAM plugin of an interface plugin: found in its configuration, run with its call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from podnet.delegation.verdict import hear
from podnet.errors import DecodingError, DelegateError, InvalidConfigError, PodnetError
from podnet.model.names import plugin_type_fault
from podnet.model.reader import Reader
from podnet.model.result import parse_result, result_version
from podnet.model.wire import load_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from podnet.model.attachment import Call, Done
    from podnet.model.result import Result
    from podnet.ports import Executor

NO_VERSION = "0.1.0"
"""What a configuration without ``cniVersion`` is in (reference: types/create, DecodeVersion)."""


def ipam_type(config: Mapping[str, object]) -> str:
    """Return the IPAM plugin's type; empty if the configuration names none that can be run."""
    plugin = Reader(config).section("ipam").string("type")
    return "" if plugin_type_fault(plugin) else plugin


def run_ipam(executor: Executor, call: Call, verb: str) -> Done | None:
    """Run a verb of the call's IPAM plugin with the same configuration and parameters.

    Returns:
        What it said; None if the configuration names no IPAM plugin.

    Raises:
        DelegateError: it failed; with its own code.
    """
    plugin = ipam_type(call.config)
    if not plugin:
        return None
    delegated = evolve(call, plugin=plugin, verb=verb)
    name = Reader(call.config).string("name")
    try:
        done = executor.run(delegated)
    except PodnetError as error:
        failure = hear(delegated, error, name)
        assert failure
        raise failure from error
    if failure := hear(delegated, done, name):
        raise failure
    return done


def add_ipam(executor: Executor, call: Call) -> Result:
    """Return what the IPAM plugin of an ADD gave.

    Raises:
        DelegateError: it failed, or what it printed is no result.
    """
    done = run_ipam(executor, call, "ADD")
    assert done is not None, "called for configurations with an IPAM plugin"
    version = Reader(call.config).string("cniVersion") or NO_VERSION
    try:
        document = load_json(done.stdout, "IPAM result")
        return parse_result(document, result_version(document, version))
    except (DecodingError, InvalidConfigError) as error:
        plugin = ipam_type(call.config)
        raise DelegateError(f"IPAM plugin {plugin!r} gave no result", str(error)) from error
