"""``podnet ipam migrate``: from one store to another while pods come and go."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

from podnet.cli.ipam_common import counted, lease_document, parse_duration, require_there, whose
from podnet.cli.ipam_progress import progress
from podnet.cli.options import given_store
from podnet.cli.output import Table, UsageError, add_output_option
from podnet.errors import InvalidConfigError, NetworkNotFoundError, PodnetError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from podnet.cli.output import Screen
    from podnet.engine.migration import Found, Migration
    from podnet.engine.migration_move import Moved
    from podnet.ports import Store

_EPILOG = """\
While a pool moves, and after it has moved, nodes whose settings still name FROM are led to TO:
change their settings when this has ended, in any order. A run that was killed is taken up by the
same command; nothing is lost or given twice meanwhile.
What moves is a whole collision domain: all pools that share addresses.

examples:
  podnet ipam migrate file:/var/lib/podnet/leases kubernetes: --all --dry-run
  podnet ipam migrate file:/var/lib/podnet/leases kubernetes: --all
  podnet ipam migrate sqlite:///old.db postgresql://db/podnet --domain storage
  podnet ipam migrate sqlite:///old.db postgresql://db/podnet --domain storage --cancel
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("source", metavar="FROM", help="URL of the store where the pools are")
    parser.add_argument("target", metavar="TO", help="URL of the store where they go")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--domain", metavar="NAME", action="append", help="the domain of that name; repeatable"
    )
    which.add_argument(
        "--pool", metavar="NAME", action="append", help="the domain of the pool; repeatable"
    )
    which.add_argument("--all", action="store_true", help="all domains of FROM")
    parser.add_argument("--dry-run", action="store_true", help="tell what would be moved")
    parser.add_argument(
        "--cancel",
        action="store_true",
        help="end a move that was begun and has moved nothing: TO forgets it",
    )
    parser.add_argument(
        "--merge",
        action="store_true",
        help="TO has addresses of the domain in use: put those of FROM beside them",
    )
    parser.add_argument(
        "--wait",
        metavar="TIME",
        default="1m",
        help="for nodes that have to give blocks back, which --merge needs (1m)",
    )
    add_output_option(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    """Move domains, or tell what would be moved."""
    from podnet.engine import registry
    from podnet.engine.migration import Migration, require_durable

    if args.cancel and (args.dry_run or args.merge):
        raise UsageError("--cancel goes with neither --dry-run nor --merge")
    source_url, target_url = given_store(args.source), given_store(args.target)
    for url in (source_url, target_url):
        require_durable(url)
    require_there(source_url)
    patience = parse_duration(args.wait)
    with ExitStack() as opened:
        source = opened.enter_context(closing(registry.open_store(source_url)))
        target = opened.enter_context(closing(registry.open_store(target_url)))
        migration = Migration(source, target, source_url=source_url, target_url=target_url)
        domains = _domains(args, source, source_url)
        if args.cancel:
            return _cancel(migration, domains, screen)
        warning = _warning(source_url)
        if warning:
            screen.say(warning, "note")
        if args.dry_run:
            return _look(migration, domains, screen, merge=args.merge, warning=warning)
        done: list[tuple[str, Moved | PodnetError]] = []
        for domain in domains:
            try:
                done.append((domain, _move(args, migration, domain, patience)))
            except InvalidConfigError as error:
                done.append((domain, error))  # of this domain only
    return _told(done, screen, warning)


def _warning(url: str) -> str:
    """Tell what has to be off before domains leave a store that others hand out of; or nothing."""
    scheme = url.partition(":")[0]
    if scheme not in ("host-local", "whereabouts"):
        return ""
    return (
        f"{scheme} knows nothing of the move, and would hand out the addresses once more: "
        "nobody may use it for what is moved any longer"
    )


def _domains(args: argparse.Namespace, source: Store, url: str) -> tuple[str, ...]:
    from podnet.engine.migration import domains_of
    from podnet.ipam.migrate import without_password

    there = domains_of(source)
    wanted = list(args.domain or there)
    if args.pool:
        wanted = [domain for pool in args.pool for domain in _of_pool(pool, url)]
    if missing := [name for name in wanted if name not in there]:
        raise NetworkNotFoundError(
            f"{without_password(url)} has no domain {missing[0]!r}",
            f"it has {', '.join(there) or 'none'}",
        )
    return tuple(dict.fromkeys(wanted))


def _of_pool(pool: str, url: str) -> set[str]:
    """Return the domains of a pool's leases, those that have moved already included."""
    from podnet.engine.migration_follow import follow
    from podnet.engine.usage_leases import search
    from podnet.ipam.migrate import without_password
    from podnet.ipam.usage_filter import Filter

    with closing(follow(url)) as store:
        found = {lease.domain for lease in search(store, Filter(pool=pool))}
    if not found:
        raise NetworkNotFoundError(f"{without_password(url)} has no leases of a pool {pool!r}")
    return found


def _move(args: argparse.Namespace, migration: Migration, domain: str, patience: float) -> Moved:
    with progress(f"moving {domain}") as shown:

        def step(moved: Moved) -> None:
            waiting = sorted(set(moved.waiting.values()))
            note = (
                f"waiting for {', '.join(waiting)}" if waiting else counted(moved.leases, "lease")
            )
            shown.step(moved.done, moved.blocks, note)

        return migration.run(domain, merge=args.merge, patience=patience, progress=step)


def _cancel(migration: Migration, domains: Sequence[str], screen: Screen) -> int:
    bad = False
    documents: list[dict[str, Any]] = []
    for domain in domains:
        try:
            cancelled = migration.cancel(domain)
        except InvalidConfigError as error:
            bad = True
            screen.say(f"{domain}: {error}", "bad")
            documents.append({"domain": domain, "cancelled": False, "problem": str(error)})
            continue
        what = "TO has forgotten the move" if cancelled else "TO knows of no move from FROM"
        screen.say(f"{domain}: {what}", "good" if cancelled else "note")
        documents.append({"domain": domain, "cancelled": cancelled})
    screen.document({"domains": documents})
    return 1 if bad else 0


def _told(done: Sequence[tuple[str, Moved | PodnetError]], screen: Screen, warning: str) -> int:
    bad = False
    documents: list[dict[str, Any]] = []
    for domain, moved in done:
        if isinstance(moved, PodnetError):
            bad = True
            screen.say(f"{domain}: {moved}", "bad")
            documents.append({"domain": domain, "complete": False, "problem": str(moved)})
            continue
        bad = bad or not moved.complete
        _say(moved, screen)
        documents.append(_document(moved))
    if not done:
        screen.say("there is nothing to move", "note")
    screen.document(_whole(documents, warning))
    return 1 if bad else 0


def _whole(documents: list[dict[str, Any]], warning: str) -> dict[str, Any]:
    return {"domains": documents, **({"warning": warning} if warning else {})}


def _say(moved: Moved, screen: Screen) -> None:
    if moved.complete:
        what = "nothing was left to move"
        if moved.moved:
            what = f"moved {counted(moved.leases, 'lease')} in {counted(moved.moved, 'block')}"
        screen.say(f"{moved.domain}: {what}", "good")
        return
    for key, node in sorted(moved.waiting.items()):
        screen.say(f"{moved.domain}: node {node} has not given back block {key}", "bad")
    if moved.conflicts:
        _conflicts(moved.domain, moved.conflicts, screen)
    screen.say(
        f"{moved.domain}: moved {counted(moved.leases, 'lease')}; run it again for the rest", "bad"
    )


def _conflicts(domain: str, conflicts: Sequence[tuple[Any, Any]], screen: Screen) -> None:
    screen.table(
        Table(
            ("address", "in from", "in to"),
            [(str(a.ip), whose(a), whose(b)) for a, b in conflicts],
            title=f"{domain}: two owners have one address; delete one of the pods",
        )
    )


def _document(moved: Moved) -> dict[str, Any]:
    return {
        "domain": moved.domain,
        "complete": moved.complete,
        "blocks": moved.blocks,
        "movedBlocks": moved.moved,
        "movedLeases": moved.leases,
        "waitingFor": moved.waiting,
        "conflicts": [_pair(pair) for pair in moved.conflicts],
    }


def _pair(pair: tuple[Any, Any]) -> dict[str, Any]:
    return {"from": lease_document(pair[0]), "to": lease_document(pair[1])}


def _look(
    migration: Migration, domains: Sequence[str], screen: Screen, *, merge: bool, warning: str
) -> int:
    found: list[Found] = []
    refused: dict[str, str] = {}
    for domain in domains:
        try:
            found.append(migration.look(domain, merge=merge))
        except InvalidConfigError as error:
            refused[domain] = str(error)
    refused |= {each.domain: each.problem for each in found if each.problem}
    rows = [
        (
            each.domain,
            each.state,
            str(each.blocks),
            str(each.leases),
            str(each.in_use),
            ", ".join(each.held),
            str(len(each.conflicts)),
        )
        for each in found
    ]
    columns = ("domain", "move", "blocks", "leases", "in use there", "held by", "conflicts")
    if rows:
        screen.table(Table(columns, rows))
    elif not refused:
        screen.say("there is nothing to move", "note")
    for each in found:
        if each.conflicts:
            _conflicts(each.domain, each.conflicts, screen)
    for domain, problem in refused.items():
        screen.say(f"{domain}: {problem}", "bad")
    documents = [_found_document(each) for each in found]
    told = {each.domain for each in found}
    documents += [
        {"domain": domain, "state": "refused", "problem": problem}
        for domain, problem in refused.items()
        if domain not in told
    ]
    screen.document(_whole(documents, warning))
    return 1 if refused or any(each.conflicts for each in found) else 0


def _found_document(found: Found) -> dict[str, Any]:
    return {
        "domain": found.domain,
        "state": found.state,
        "blocks": found.blocks,
        "leases": found.leases,
        "inUse": found.in_use,
        "heldBy": list(found.held),
        "conflicts": [_pair(pair) for pair in found.conflicts],
        **({"problem": found.problem} if found.problem else {}),
    }
