"""What a delegate said → its result, or the error it tells.

Read as libcni reads it (``pkg/invoke/raw_exec.go``, ``libcni/api.go``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.errors import DecodingError, DelegateError, InvalidConfigError, PodnetError
from podnet.model.attachment import Done
from podnet.model.printing import result_document
from podnet.model.reader import Reader
from podnet.model.result import parse_result, result_version
from podnet.model.versions import family
from podnet.model.wire import load_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from podnet.model.attachment import Call
    from podnet.model.conflist import NetworkConfigList
    from podnet.model.result import Result

# How libcni spells each verb in its messages.
_WORDS = {"ADD": "add", "DEL": "delete", "CHECK": "check", "GC": "gc", "STATUS": "status"}
# A message is read by people in an event or a log line.
_CLIP = 1000


def hear(call: Call, outcome: Done | PodnetError, network: str) -> DelegateError | None:
    """Return the error that a call ended in; None if it ended well.

    Args:
        call: the call.
        outcome: what the plugin said, or why it could not be run.
        network: the network's name, for the message.
    """
    if isinstance(outcome, Done) and outcome.error is not None:
        outcome = outcome.error
    if isinstance(outcome, PodnetError):
        error = _wrapped(call, network, outcome.msg, outcome.details, outcome.code)
        error.fault = outcome.fault
        error.__cause__ = outcome
        return error
    if outcome.exit_code == 0:
        return None
    return _wrapped(call, network, *_told(outcome))


def hear_result(
    call: Call, outcome: Done | PodnetError, config: NetworkConfigList
) -> tuple[Result, dict[str, object]] | DelegateError:
    """Return the result of an ADD, and it as a document of the configuration's version.

    A result without ``cniVersion`` is of the configuration's version; ``null`` is an empty one. A
    document of the right shape is kept as it is, keys unknown to podnet included; one of another
    version's shape is converted. What is no result is an error, as a non-zero exit is.

    Args:
        call: the call.
        outcome: what the plugin said, or why it could not be run.
        config: the network.
    """
    if error := hear(call, outcome, config.name):
        return error
    assert isinstance(outcome, Done)
    version = config.cni_version
    try:
        null = outcome.stdout.strip() == b"null"
        document = {} if null else load_json(outcome.stdout, "result")
        own = result_version(document, version)
        result = parse_result(document, own)
        if own not in family(version):
            return result, result_document(result, version)
    except (DecodingError, InvalidConfigError) as wrong:
        error = _wrapped(call, config.name, wrong.msg, wrong.details, 999)
        error.__cause__ = wrong
        return error
    return result, {**_unversioned(document), "cniVersion": version}


def joined(first: PodnetError, how: str, other: PodnetError) -> DelegateError:
    """Return the first error with the other in its details: never masked, never lost."""
    details = f"{first.details}; {how}: {other}" if first.details else f"{how}: {other}"
    joined = DelegateError(first.msg, details, first.code)
    joined.fault = first.fault
    joined.__cause__ = first.__cause__
    return joined


def _unversioned(document: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in document.items() if key.lower() != "cniversion"}


def _told(done: Done) -> tuple[str, str, int]:
    """Return message, details and code of a failed plugin."""
    ended = f"exit status {done.exit_code}"
    if done.exit_code < 0:
        ended = f"signal {-done.exit_code}"
    if not done.stdout.strip():
        said = _text(done.stderr)
        if said:
            return f"netplugin failed: {said!r}: {ended}", "", 999
        return f"netplugin failed with no error message: {ended}", "", 999
    try:
        reader = Reader(load_json(done.stdout, "error"))
        code = reader.integer("code")
        message, details = reader.string("msg"), reader.string("details")
        reader.finish("invalid error")
    except PodnetError as error:
        what = f"netplugin failed but error parsing its diagnostic message {_text(done.stdout)!r}"
        return what, f"{ended}; {error}", 999
    # 0 is Go's value for an absent code; printed, it would read as no error at all.
    return message or ended, details, code if code > 0 else 999


def _text(output: bytes) -> str:
    text = output.decode(errors="replace").strip()
    return text if len(text) <= _CLIP else f"{text[:_CLIP]}…"


def _wrapped(call: Call, network: str, message: str, details: str, code: int) -> DelegateError:
    where = f'plugin type="{call.plugin}" name="{network}" failed ({_WORDS[call.verb]})'
    return DelegateError(f"{where}: {message}", details, code)
