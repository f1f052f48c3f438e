"""The configuration of the delegating plugin, type ``podnet`` or ``multus``.

Keys and defaults are Multus' (``pkg/types/conf.go``); ``networks`` is podnet's own, for runtimes
that know no pods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import frozen

from podnet.errors import UnsupportedFieldError
from podnet.model.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Mapping


@frozen(kw_only=True)
class DelegationConfig:
    """What a delegating plugin is configured to do.

    Attributes:
        name: the plugin's own CNI network name.
        networks: text of a networks annotation for every container; None takes the pod's own.
        delegates: inline configurations: the first is the default network, the others go to
            every pod.
        cluster_network: the default network by name or path; empty if ``delegates`` has it.
        default_networks: further networks, by name, for every pod outside ``system_namespaces``.
        namespace_isolation: refuse networks of other namespaces than the pod's and
            ``global_namespaces``.
        global_namespaces: namespaces whose networks every pod may use.
        system_namespaces: namespaces whose pods get no ``default_networks``.
        multus_namespace: where networks named by the configuration are looked up.
        conf_dir: folder of on-disk configurations; empty for the installation's.
        bin_dir: folder of delegates' executables, searched first; empty for none.
        runtime_config: what the runtime passed by capability, for the default network only
            (NPWG 1.3, 7.5).
        readiness_file: file that has to exist before ADD is served; empty for none.
    """

    name: str
    networks: str | None
    delegates: tuple[Mapping[str, Any], ...]
    cluster_network: str
    default_networks: tuple[str, ...]
    namespace_isolation: bool
    global_namespaces: tuple[str, ...]
    system_namespaces: tuple[str, ...]
    multus_namespace: str
    conf_dir: str
    bin_dir: str
    runtime_config: Mapping[str, Any]
    readiness_file: str


def read_config(document: Mapping[str, Any]) -> DelegationConfig:
    """Return the plugin's configuration.

    Raises:
        InvalidConfigError: all mistakes in it.
        UnsupportedFieldError: it asks for what podnet cannot do.
    """
    reader = Reader(document)
    delegates = tuple(reader.sections("delegates"))
    for delegate in delegates:
        if "plugins" not in delegate:
            delegate.string("type", required=True)
    cluster = reader.string("clusterNetwork")
    if cluster and delegates:
        reader.mistake("clusterNetwork", "excludes delegates: give one of them")
    names = reader.string("globalNamespaces", "default")
    config = DelegationConfig(
        name=reader.string("name", required=True),
        networks=reader.string("networks", None),
        delegates=tuple(delegate.document for delegate in delegates),
        cluster_network=cluster,
        default_networks=reader.strings("defaultNetworks"),
        namespace_isolation=reader.boolean("namespaceIsolation"),
        global_namespaces=tuple(each.strip() for each in names.split(",") if each.strip()),
        system_namespaces=reader.strings("systemNamespaces") or ("kube-system",),
        multus_namespace=reader.string("multusNamespace", "kube-system"),
        conf_dir=reader.file_path("confDir"),
        bin_dir=reader.file_path("binDir"),
        runtime_config=reader.section("runtimeConfig").document,
        readiness_file=reader.file_path("readinessindicatorfile"),
    )
    chain = reader.string("auxiliaryCNIChainName")
    kubeconfig = reader.string("kubeconfig")
    reader.finish()
    if chain:
        raise UnsupportedFieldError(f"unsupported field auxiliaryCNIChainName: {chain!r}")
    if kubeconfig and config.networks is None:
        # Going on would give the pod fewer interfaces than its annotation asks for, in silence.
        raise UnsupportedFieldError(
            f"unsupported field kubeconfig: {kubeconfig!r}",
            "pods and networks come from manifests (setting `networks` of podnet.conf)",
        )
    return config
