"""The macvlan interface: a MAC address of its own on another link (the reference's ``macvlan``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve, field, frozen

from podnet.errors import InterfaceExistsError, InvalidConfigError, LinkNotFoundError
from podnet.interface import identity, layer3, settings
from podnet.model.addresses import parse_mac
from podnet.model.facts import LinkFact, Probe
from podnet.model.names import ifname_fault
from podnet.model.ops import CreateLink, LinkName, Place, SetLink
from podnet.model.reader import INVALID, Reader
from podnet.model.result import DNS, Interface, Result, read_dns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from podnet.interface.identity import Owned
    from podnet.model.attachment import Call
    from podnet.model.facts import Have
    from podnet.model.ops import Op

KIND = "macvlan"

# include/uapi/linux/if_link.h. "source" needs a list of addresses; the reference lacks it too.
MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
_UINT32 = (1 << 32) - 1


@frozen(kw_only=True)
class Want:
    """A macvlan interface as asked for.

    Attributes:
        link: place and name it shall have.
        sandbox: path of the sandbox, for the result.
        place: where the master is: the host, or with ``linkInContainer`` the sandbox.
        master: the master's name; empty for the interface of the default route.
        mode: a value of ``MODES``.
        mtu: bytes; 0 for the master's.
        mac: the MAC address asked for; empty for none.
        own_mac: the MAC address it gets if none is asked for.
        bcqueuelen: broadcast queue length; 0 for the kernel's (1000).
        ipam: IPAM plugin's type; empty for an interface without addresses.
        dns: resolver settings of the configuration.
        enabledad: detect duplicate IPv6 addresses and wait for it.
        answer: what IPAM said; None until it did.
        present: whether the interface shall exist.
        index: the kernel index it gets, where its MAC address is no proof of whose it is; else 0.
    """

    link: LinkName
    sandbox: str
    place: Place
    master: str
    mode: int
    mtu: int
    mac: str
    own_mac: str
    bcqueuelen: int
    ipam: str
    dns: DNS = field(factory=DNS)
    enabledad: bool = False
    answer: Result | None = None
    present: bool = True
    index: int = 0


def read(call: Call, *, node: str = "") -> Want:
    """Return what a configuration asks for.

    Args:
        call: ADD, CHECK or STATUS of this plugin.
        node: this node's name, part of the MAC address or index that is chosen.

    Raises:
        InvalidConfigError: with every mistake.
        InvalidEnvironmentError: ``CNI_ARGS`` is wrong.
    """
    reader = Reader(call.config)
    mode = MODES[reader.choice("mode", MODES, "bridge")]
    ipam = settings.read_ipam(reader)
    key = (node, call.container_id, reader.string("name"), call.ifname)
    want = Want(
        link=LinkName(Place.SANDBOX, call.ifname),
        sandbox=call.netns,
        place=Place.SANDBOX if reader.boolean("linkInContainer") else Place.HOST,
        master=reader.checked("master", lambda text: ifname_fault(text) if text else ""),
        mode=mode,
        mtu=reader.integer("mtu", minimum=0, maximum=settings.MAX_MTU),
        mac=settings.read_mac(reader, call),
        own_mac=identity.chosen_mac(*key),
        bcqueuelen=reader.integer("bcqueuelen", minimum=0, maximum=_UINT32),
        ipam=ipam,
        dns=read_dns(reader),
        enabledad=reader.boolean("enabledad"),
        answer=None if ipam else Result(),
    )
    reader.finish()
    if want.mac or mode == MODES["passthru"]:
        want = evolve(want, index=identity.chosen_index(*key))
    return want


def configured(want: Want, answer: Result) -> Want:
    """Return the want with the IPAM plugin's answer.

    Raises:
        DelegateError: the answer has no address.
    """
    layer3.require_addresses(answer)
    return evolve(want, answer=answer)


def parents(want: Want) -> Probe:
    """Name the facts that creating it needs: its master."""
    if want.master:
        return Probe(links=frozenset({LinkName(want.place, want.master)}))
    return Probe(default_routes=frozenset({want.place}))


def ask(want: Want) -> Probe:
    """Name all facts that ``plan`` compares with."""
    own = frozenset({want.link})
    return parents(want) | Probe(links=own, addresses=own, routes=own)


def master(want: Want, have: Have) -> LinkFact:
    """Return the master.

    Raises:
        LinkNotFoundError: it does not exist, or no default route tells which it is.
    """
    if want.master:
        if fact := have.link(LinkName(want.place, want.master)):
            return fact
        raise LinkNotFoundError(f"master {LinkName(want.place, want.master)} does not exist")
    for route in have.routes:
        fact = have.link(route.link)
        if fact and route.link.place is want.place and route.dst in ("0.0.0.0/0", "::/0"):
            return fact
    raise LinkNotFoundError(
        "no default route interface found",
        f"key master is not given and the {want.place} has no default route in its main table",
    )


def mac(want: Want, have: Have) -> str:
    """Return the MAC address that the interface gets.

    In passthru mode the kernel gives it the master's, whatever it is created with
    (drivers/net/macvlan.c, macvlan_common_newlink).
    """
    if want.mac or want.mode != MODES["passthru"]:
        return want.mac or want.own_mac
    return master(want, have).mac


def owned(want: Want, have: Have) -> tuple[Owned, ...]:
    """Return the links it makes."""
    return (_owned(want, mac(want, have)),)


def expected(want: Want) -> tuple[Owned, ...]:
    """Return what ``owned`` does, as far as that is known without facts."""
    is_masters = want.mode == MODES["passthru"] and not want.mac
    return (_owned(want, "" if is_masters else want.mac or want.own_mac),)


def _owned(want: Want, mac: str) -> Owned:
    return identity.Owned(want.link, KIND, mac, chosen=not want.index, index=want.index)


def memory(want: Want, have: Have) -> dict[str, str]:
    """Return what ``recalled`` needs later: the default route may change meanwhile."""
    return {"master": master(want, have).link.name}


def recalled(
    want: Want, previous: Result, at: int, answer: Result, memory: Mapping[str, str]
) -> Want:
    """Return what CHECK compares with.

    Args:
        want: as read from the configuration.
        previous: the result of ADD, or of what is chained after it.
        at: which of its interfaces is this one.
        answer: its addresses and routes.
        memory: what ADD remembered; empty if the interface is another program's.
    """
    mac = previous.interfaces[at].mac
    master = want.master or memory.get("master", "")
    return evolve(want, answer=answer, mac=parse_mac(mac) if mac else want.mac, master=master)


def plan(want: Want, have: Have) -> tuple[Op, ...]:
    """Return the ops from ``have`` to ``want``; empty means that nothing differs.

    Before IPAM has answered, the link is created and left down.

    Raises:
        LinkNotFoundError: there is no master.
        InvalidConfigError: the MTU is above the master's.
        InterfaceExistsError: an interface of that name is something else.
    """
    if not want.present:
        links = (identity.Owned(want.link, KIND, ""),)
        return identity.plan_absent(links, have, certain=True)
    parent = master(want, have)
    fact = have.link(want.link)
    if fact is None:
        _check_mtu(want, parent)
        create = _create(want, have, parent)
        if not want.answer or not want.answer.ips:
            return (create,)
        # What the kernel drops with a link that is gone cannot be there either.
        there = evolve(have, addresses=(), routes=()).created(create)
        return (create, *_configure(want, there))
    return (*_change(want, have, fact, parent), *_configure(want, have))


def _create(want: Want, have: Have, parent: LinkFact) -> CreateLink:
    options = [("mode", want.mode)]
    options += [("bcqueuelen", want.bcqueuelen)] if want.bcqueuelen else []
    return CreateLink(
        link=want.link,
        kind=KIND,
        parent=parent.link,
        mac=mac(want, have),
        mtu=want.mtu,
        up=want.answer is not None and not want.answer.ips,
        index=want.index,
        options=tuple(options),
    )


def _configure(want: Want, have: Have) -> tuple[Op, ...]:
    if want.answer is None:
        return ()
    return layer3.configure(want.link, want.answer, have, enabledad=want.enabledad)


def _change(want: Want, have: Have, fact: LinkFact, parent: LinkFact) -> tuple[Op, ...]:
    """Return what an existing link needs. Its MTU is left: chained tuning may have set it."""
    place = "the host" if fact.parent_elsewhere else "the sandbox"
    elsewhere = fact.link.place is not want.place
    if fact.kind != KIND:
        raise InterfaceExistsError(
            f"interface {want.link} exists but is not a macvlan", f"its kind is {fact.kind!r}"
        )
    if (fact.parent_index, fact.parent_elsewhere) != (parent.index, elsewhere):
        raise InterfaceExistsError(
            f"interface {want.link} is a macvlan of another master than {parent.link}",
            f"its master is link {fact.parent_index} of {place}",
        )
    options = [("mode", want.mode)] if fact.option("mode") != want.mode else []
    if want.bcqueuelen and fact.option("bcqueuelen") not in (want.bcqueuelen, None):
        options.append(("bcqueuelen", want.bcqueuelen))
    address = mac(want, have) if fact.mac != mac(want, have) else ""
    if not options and not address:
        return ()
    kind = KIND if options else ""
    return (SetLink(link=want.link, mac=address, kind=kind, options=tuple(options)),)


def _check_mtu(want: Want, parent: LinkFact) -> None:
    if want.mtu > parent.mtu:
        what = f"invalid MTU {want.mtu}, must be [0, master MTU({parent.mtu})]"
        raise InvalidConfigError(INVALID, (("mtu", what),))


def result(want: Want, have: Have) -> Result:
    """Return the result of ADD. As in the reference, resolver settings are the configuration's."""
    answer = want.answer or Result()
    return Result(
        interfaces=(Interface(want.link.name, mac(want, have), want.sandbox),),
        ips=tuple(evolve(ip, interface=0) for ip in answer.ips),
        routes=answer.routes,
        dns=want.dns,
    )
