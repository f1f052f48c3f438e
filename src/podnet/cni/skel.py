"""The CNI plugin protocol: environment and standard input in, output and exit code out.

The process edge is injected. This is the only place that turns exceptions into JSON.

Rules, order and messages are those of the reference's ``pkg/skel/skel.go``, which is stricter than
the specification. podnet differs where the reference does harm: names are checked on every verb,
the namespace is compared before anything is done instead of afterwards, and a result that cannot be
told in the configuration's version is undone instead of left behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve, field, frozen

from podnet.errors import (
    InvalidConfigError,
    InvalidEnvironmentError,
    InvalidNetnsError,
    IOFailureError,
    PodnetError,
)
from podnet.model.attachment import VERBS, Call
from podnet.model.cniargs import parse_cni_args
from podnet.model.conf import network_config, salvage_config, valid_attachments
from podnet.model.names import check_container_id, check_ifname
from podnet.model.printing import print_error, print_result, print_versions
from podnet.model.reader import Reader
from podnet.model.versions import SUPPORTED, check_verb, requires_address
from podnet.model.wire import load_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from podnet.model.conf import NetworkConfig
    from podnet.model.result import Result

    Plugin = Callable[[Call], Result | None]
    Check = Callable[[str], None]


@frozen
class Response:
    """What the process says: exit code, standard output and standard error."""

    exit_code: int
    stdout: bytes = b""
    stderr: bytes = b""


@frozen(kw_only=True)
class Variable:
    """One variable of the environment.

    Attributes:
        name: its name.
        required: verbs that cannot do without it.
        optional: further verbs that read it.
        check: raises if the value is wrong; not called on an empty one.
    """

    name: str
    required: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    check: Check | None = None


_ATTACHMENT = frozenset({"ADD", "CHECK", "DEL"})

# CNI 1.1.0, section 2, "Parameters"; CNI_PATH is required by skel.go, not by the specification.
ENVIRONMENT = (
    Variable(name="CNI_COMMAND", required=frozenset(VERBS)),
    Variable(name="CNI_CONTAINERID", required=_ATTACHMENT, check=check_container_id),
    Variable(name="CNI_NETNS", required=frozenset({"ADD", "CHECK"}), optional=frozenset({"DEL"})),
    Variable(name="CNI_IFNAME", required=_ATTACHMENT, check=check_ifname),
    Variable(name="CNI_ARGS", optional=_ATTACHMENT),
    Variable(name="CNI_PATH", required=_ATTACHMENT | {"GC", "STATUS"}),
    Variable(name="CNI_NETNS_OVERRIDE", optional=_ATTACHMENT),
)


def handle(
    environ: Mapping[str, str],
    stdin: Callable[[], bytes],
    plugin: Plugin,
    *,
    same_netns: Callable[[str], bool],
    about: str,
) -> Response:
    """Answer one call of a CNI plugin.

    Args:
        environ: the process's environment.
        stdin: reads standard input to its end; not called for VERSION. Its OSError has code 5.
        plugin: does the verb; returns a result for ADD. Its ``PodnetError`` is printed as it is,
            anything else as code 999.
        same_netns: tells whether that path is the network namespace of this process; False
            for a path that does not exist.
        about: one line for a person who starts the plugin by hand; empty for none.
    """
    if not environ.get("CNI_COMMAND") and about:
        supported = ", ".join(SUPPORTED)
        return Response(0, b"", f"{about}\nCNI protocol versions supported: {supported}\n".encode())
    try:
        return _Request(environ, stdin, plugin, same_netns).answer()
    except PodnetError as error:
        return Response(1, print_error(error), _trace(environ, error))
    except Exception as error:  # whatever a plugin raises must reach the runtime as JSON
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return Response(1, print_error(PodnetError(text)), _trace(environ, error))


def _trace(environ: Mapping[str, str], error: Exception) -> bytes:
    if not environ.get("PODNET_DEBUG"):
        return b""
    import traceback

    return "".join(traceback.format_exception(error)).encode(errors="backslashreplace")


def read_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the verb's variables by name, as ``ENVIRONMENT`` demands; others are empty.

    Raises:
        InvalidEnvironmentError: variables are missing (all are named), or a value is wrong.
    """
    values = {each.name: environ.get(each.name, "") for each in ENVIRONMENT}
    verb = values["CNI_COMMAND"]
    if verb and verb not in VERBS:
        raise InvalidEnvironmentError(f"unknown CNI_COMMAND: {verb}")
    missing = [
        each.name
        for each in ENVIRONMENT
        if not values[each.name] and (verb in each.required or each.name == "CNI_COMMAND")
    ]
    if missing:
        raise InvalidEnvironmentError(f"required env variables [{','.join(missing)}] missing")
    for each in ENVIRONMENT:
        if verb not in each.required and verb not in each.optional:
            values[each.name] = ""
        value = values[each.name]
        # No process has it in its environment; a caller in the same process may.
        if "\0" in value:
            raise InvalidEnvironmentError(f"{each.name} contains a NUL character")
        if value and each.check:
            each.check(value)
    return values


@frozen
class _Request:
    """One call being answered."""

    environ: Mapping[str, str]
    stdin: Callable[[], bytes]
    plugin: Plugin
    same_netns: Callable[[str], bool]
    notes: list[str] = field(factory=list)

    def answer(self) -> Response:
        variables = read_environment(self.environ)
        verb = variables["CNI_COMMAND"]
        if verb == "VERSION":
            return Response(0, print_versions())
        config = self._read_config(verb)
        self._judge(verb, config, variables)
        call = Call(
            plugin=config.type,
            verb=verb,
            container_id=variables["CNI_CONTAINERID"],
            netns=variables["CNI_NETNS"],
            ifname=variables["CNI_IFNAME"],
            args=variables["CNI_ARGS"],
            path=tuple(each for each in variables["CNI_PATH"].split(":") if each),
            config=config.document,
        )
        result = self.plugin(call)
        stdout = self._printed(call, result, config.cni_version) if verb == "ADD" else b""
        return Response(0, stdout, "".join(f"{note}\n" for note in self.notes).encode())

    def _read_config(self, verb: str) -> NetworkConfig:
        try:
            data = self.stdin()
        except OSError as error:
            raise IOFailureError(f"error reading from stdin: {error}") from error
        document = load_json(data, "network config")
        if verb != "DEL":
            return network_config(document)
        # A DEL that fails is called again for ever, and the pod stays: only what it cannot do
        # without may stop it.
        config = salvage_config(document)
        self.notes.extend(f"DEL passes over {path}: {what}" for path, what in config.faults)
        return config

    def _judge(self, verb: str, config: NetworkConfig, variables: Mapping[str, str]) -> None:
        """Refuse what must not reach the plugin."""
        check_verb(config.cni_version, verb)
        if verb in ("ADD", "CHECK"):
            parse_cni_args(variables["CNI_ARGS"])
        if verb == "CHECK" and config.prev_result is None:
            raise InvalidConfigError(
                "Required prevResult missing", (("prevResult", "is required for CHECK"),)
            )
        if verb == "GC":
            valid_attachments(config.document)
        if verb == "ADD" and requires_address(config.cni_version):
            self._judge_addressless(config)
        if variables["CNI_NETNS"]:
            self._judge_netns(verb, variables)

    @staticmethod
    def _judge_addressless(config: NetworkConfig) -> None:
        """Refuse early what certainly ends without address; the rest shows in its result."""
        reader = Reader(config.document)
        addressless = "ipam" in reader and not reader.section("ipam").string("type")
        if addressless and config.prev_result is None:
            raise InvalidConfigError(
                "cannot convert: no valid IP addresses",
                (
                    ("ipam", "names no plugin, so there will be no IP address"),
                    ("cniVersion", f'a result of "{config.cni_version}" must have one'),
                ),
            )

    def _judge_netns(self, verb: str, variables: Mapping[str, str]) -> None:
        if variables["CNI_NETNS_OVERRIDE"].upper() in ("1", "TRUE"):
            return
        try:
            same = self.same_netns(variables["CNI_NETNS"])
        except InvalidNetnsError:
            # What is left of a namespace, such as an empty mount point, must not stop DEL.
            if verb != "DEL":
                raise
            return
        if same:
            raise InvalidNetnsError(
                "plugin's netns and netns from CNI_NETNS should not be the same",
                f"CNI_NETNS is {variables['CNI_NETNS']}",
            )

    def _printed(self, call: Call, result: Result | None, version: str) -> bytes:
        """Return the result as text; if the version cannot tell it, undo what the plugin did."""
        try:
            if result is None:
                raise PodnetError(f"plugin {call.plugin} returned no result for ADD")
            return print_result(result, version)
        except Exception as error:
            self._undo(call, error)
            raise

    def _undo(self, call: Call, cause: Exception) -> None:
        """End what ADD made; that this fails too is told with the cause."""
        try:
            self.plugin(evolve(call, verb="DEL"))
        except Exception as error:
            told = f"DEL, to undo ADD, failed too: {error}"
            cause.add_note(told)
            if isinstance(cause, PodnetError):
                cause.details = "; ".join(filter(None, (cause.details, told)))
