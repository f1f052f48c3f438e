"""The test kit: contracts, Hypothesis machines and strategies, and fakes for every seam.

Names are loaded from their modules on first use, so that one contract does not import them all.
"""

_DOORS = {
    "StoreContract": "podnet.testing.store_contract",
    "PickerContract": "podnet.testing.picker_contract",
    "NetworkSourceContract": "podnet.testing.source_contract",
    "FakeSource": "podnet.testing.source_contract",
    "ExecutorContract": "podnet.testing.executor_contract",
    "FakeExecutor": "podnet.testing.executor_contract",
    "DriverContract": "podnet.testing.driver_contract",
    "FakeKernel": "podnet.testing.fake_kernel",
    "FreeList": "podnet.testing.free_list",
    "FaultyStore": "podnet.testing.faults",
    "StoreMachine": "podnet.testing.machines",
    "IpamMachine": "podnet.testing.ipam_machine",
    "NodesMachine": "podnet.testing.nodes_machine",
    "Simulation": "podnet.testing.simulation",
    "Site": "podnet.testing.sites",
    "World": "podnet.testing.simulation",
    "run_machine": "podnet.testing.machines",
    "NotLinearizableError": "podnet.testing.linearizability",
    "Operation": "podnet.testing.linearizability",
    "UNKNOWN": "podnet.testing.linearizability",
    "Recorder": "podnet.testing.linearizability",
    "RecordedIpam": "podnet.testing.ipam_history",
    "RecordedStore": "podnet.testing.store_history",
    "check_history": "podnet.testing.linearizability",
    "check_ipam": "podnet.testing.ipam_history",
    "check_store": "podnet.testing.store_history",
    "is_linearizable": "podnet.testing.linearizability",
    "in_processes": "podnet.testing.together",
    "in_threads": "podnet.testing.together",
    "blocks": "podnet.testing.strategies",
    "ipam_configs": "podnet.testing.strategies_ipam",
    "leases": "podnet.testing.strategies",
    "networks": "podnet.testing.strategies",
    "owners": "podnet.testing.strategies",
    "pools": "podnet.testing.strategies",
    "requests": "podnet.testing.strategies",
}

__all__ = sorted(_DOORS)  # noqa: PLE0605 - names resolved by __getattr__


def __getattr__(name: str) -> object:
    try:
        module = _DOORS[name]
    except KeyError:
        raise AttributeError(f"module 'podnet.testing' has no attribute {name!r}") from None
    from importlib import import_module

    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return __all__
