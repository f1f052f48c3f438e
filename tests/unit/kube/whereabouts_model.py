"""whereabouts v0.9.3 as its sources describe it, for interoperation tests: an independent model.

It shares no code with podnet: not its client, nor its names, nor its arithmetic. It does what
whereabouts does, known defects included (facts: ipam.md section 1): they are what podnet has to
live with. ``Whereabouts`` is one node's CNI plugin, ``reconcile`` the nightly job.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import random
import re
import threading
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from attrs import field, frozen

GROUP = "/apis/whereabouts.cni.cncf.io/v1alpha1"
STATUS = "k8s.v1.cni.cncf.io/network-status"
RETRIES = 100


class ApiError(Exception):
    def __init__(self, code, reason, message):
        super().__init__(f"{code} {reason}: {message}")
        self.code, self.reason = code, reason


class WhereaboutsError(Exception):
    pass


class TemporaryError(WhereaboutsError):
    pass


class Api:
    """A client like client-go: one request after the other, errors by reason."""

    def __init__(self, url, namespace):
        self.host = url.removeprefix("http://")
        self.namespace = namespace
        self.local = threading.local()
        self.connections = []

    def __call__(self, method, path, body=None, media="application/json"):
        connection = getattr(self.local, "connection", None)
        if connection is None:
            connection = self.local.connection = http.client.HTTPConnection(self.host, timeout=30)
            self.connections.append(connection)
        data = None if body is None else json.dumps(body).encode()
        connection.request(method, path, data, {"Content-Type": media})
        answer = connection.getresponse()
        document = json.loads(answer.read() or b"{}")
        if answer.status >= 300:
            raise ApiError(answer.status, document.get("reason", ""), document.get("message", ""))
        return document

    def path(self, plural, name=""):
        return f"{GROUP}/namespaces/{self.namespace}/{plural}" + (f"/{quote(name)}" if name else "")

    def lease_path(self, name=""):
        base = f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases"
        return f"{base}/{name}" if name else base

    def close(self):
        for connection in self.connections:
            connection.close()


# --- iphelpers


def offset_of(ip, base):
    """IPGetOffset: absolute, and of the low 64 bits only."""
    if ip is None or ip.version != base.version:
        raise WhereaboutsError(f"cannot calculate offset between {ip} and {base}")
    return abs(int(ip) - int(base)) & ((1 << 64) - 1)


def add_offset(base, offset):
    """IPAddOffset; no address for what is out of an IPv4 network's numbers."""
    if base.version == 4 and (offset < 0 or offset >= (1 << 32) - 1):
        return None
    value = (int(base) + offset) % (1 << base.max_prefixlen)
    return ipaddress.ip_address(value) if base.version == 4 else ipaddress.IPv6Address(value)


def normalized_range(text):
    return (text + "0" if text.endswith(":") else text).replace(":", "-").replace("/", "-")


def normalized_ip(ip, network_name):
    text = str(ip)
    text = (text + "0" if text.endswith(":") else text).replace(":", "-")
    return f"{network_name}-{text}" if network_name else text


# --- configuration


@frozen
class Range:
    cidr: str
    start: str = ""
    end: str = ""
    exclude: tuple[str, ...] = ()


@frozen
class Conf:
    ranges: tuple[Range, ...]
    network_name: str = ""
    overlapping: bool = True


@frozen
class Timing:
    """Defaults of whereabouts, in seconds; retry period jittered by up to 1.2 times itself."""

    lease: float = 1.5
    renew: float = 1.0
    retry: float = 0.5
    request: float = 10.0
    add: float = 120.0
    delete: float = 60.0


# --- allocate


@frozen
class Reservation:
    ip: Any
    container: str = ""
    podref: str = ""
    ifname: str = ""
    dummy: bool = False


def usable(one):
    network = ipaddress.ip_network(one.cidr, strict=False)
    if network.max_prefixlen - network.prefixlen < 2:
        raise WhereaboutsError(f"net mask is too short, subnet {network} is too small")
    first, last = network.network_address + 1, network.broadcast_address - 1
    start = ipaddress.ip_address(one.start) if one.start else None
    end = ipaddress.ip_address(one.end) if one.end else None
    if start is not None and first <= start <= last:
        first = start
    if end is not None and first <= end <= last:
        last = end
    return first, last


def assign(one, reserved, container, podref, ifname):
    first, last = usable(one)
    for index, each in enumerate(reserved):
        if each.podref == podref and each.ifname == ifname:
            if each.container != container:
                reserved[index] = Reservation(each.ip, container, podref, ifname)
            return each.ip, reserved
    taken = {str(each.ip) for each in reserved}
    cuts = [ipaddress.ip_network(text, strict=False) for text in one.exclude]
    ip = first
    while ip <= last:
        cut = next((each for each in cuts if ip in each), None)
        if str(ip) not in taken and cut is None:
            return ip, [*reserved, Reservation(ip, container, podref, ifname)]
        ip = (ip if cut is None else cut.broadcast_address) + 1
    raise WhereaboutsError(f"Could not allocate IP in range: ip: {first} / - {last}")


# --- storage


class IPPool:
    def __init__(self, api, document):
        self.api, self.document = api, document
        text = document["spec"]["range"]
        self.first = ipaddress.ip_interface(text).ip
        self.allocations = document["spec"].get("allocations") or {}

    def reservations(self):
        found = []
        for key, entry in self.allocations.items():
            if not re.fullmatch(r"[+-]?\d+", key) or not -(1 << 63) <= int(key) < 1 << 63:
                continue
            ip = add_offset(self.first, int(key))
            fields = (entry.get(name) or "" for name in ("id", "podref", "ifname"))
            found.append(Reservation(ip, *fields))
        random.shuffle(found)  # Go's maps have no order
        return found

    def update(self, reservations):
        meta = self.document["metadata"]
        new = {
            str(offset_of(each.ip, self.first)): {
                "id": each.container,
                "podref": each.podref,
                "ifname": each.ifname,
            }
            for each in reservations
        }
        patch = []
        for key, entry in new.items():
            path = f"/spec/allocations/{key}"
            if key not in self.allocations:
                patch.append({"op": "add", "path": path, "value": entry})
                continue
            for name, text in entry.items():
                if text != (self.allocations[key].get(name) or ""):
                    patch.append({"op": "replace", "path": f"{path}/{name}", "value": text})
        for key in self.allocations:
            if key not in new:
                patch.append({"op": "remove", "path": f"/spec/allocations/{key}"})
        version = {"op": "test", "path": "/metadata/resourceVersion"}
        operations = [{**version, "value": meta["resourceVersion"]}]
        for each in patch:
            if each["op"] == "add":
                operations.append({"op": "test", "path": each["path"], "value": None})
        path = f"{GROUP}/namespaces/{meta['namespace']}/ippools/{quote(meta['name'])}"
        try:
            self.api("PATCH", path, [*operations, *patch], "application/json-patch+json")
        except ApiError as error:
            if error.reason == "Invalid" or error.code == 422:
                raise TemporaryError(str(error)) from error
            raise WhereaboutsError(str(error)) from error


@frozen(eq=False)
class Whereabouts:
    """The plugin on one node."""

    api: Api
    timing: Timing = field(factory=Timing)

    def add(self, conf, container, podref, ifname):
        return self._manage("add", conf, container, podref, ifname, self.timing.add)

    def delete(self, conf, container, podref, ifname):
        """cmdDel swallows every error of the storage; returned here, for tests to look at."""
        try:
            self._manage("del", conf, container, podref, ifname, self.timing.delete)
        except (WhereaboutsError, ApiError) as error:
            return error
        return None

    def _manage(self, mode, conf, container, podref, ifname, limit):
        elector = Elector(self.api, podref, self.timing)
        elector.acquire(time.monotonic() + limit)
        try:
            return self._update(mode, conf, container, podref, ifname, elector)
        finally:
            elector.release()

    def _update(self, mode, conf, container, podref, ifname, elector):  # noqa: C901 - as there
        ends = time.monotonic() + self.timing.request
        self.api("GET", self.api.path("ippools"))  # "connectivity check"
        found, dummies, skip, error = [], [], False, None
        for one in conf.ranges:
            ip = reserve = None
            for _ in range(RETRIES):
                elector.renew()
                if time.monotonic() > ends:
                    raise WhereaboutsError("context deadline exceeded")
                try:
                    pool = self._pool(one, conf.network_name)
                except TemporaryError:
                    continue
                reserved = [*pool.reservations(), *dummies]
                if mode == "add":
                    ip, reserved = assign(one, reserved, container, podref, ifname)
                    if conf.overlapping:
                        other = self._reservation(ip, conf.network_name)
                        if other is not None and other["spec"].get("podref") != podref:
                            dummies.append(Reservation(ip, dummy=True))
                            continue
                        skip = skip or other is not None
                        reserve = ip
                else:
                    mine = [
                        each
                        for each in reserved
                        if each.container == container and each.ifname == ifname
                    ]
                    if not mine:
                        return []  # later ranges leak
                    reserve = mine[0].ip
                    reserved.remove(mine[0])
                try:
                    pool.update([each for each in reserved if not each.dummy])
                except TemporaryError as failure:
                    error = failure
                    continue
                except WhereaboutsError as failure:
                    error = failure
                    break
                error = None
                break
            if conf.overlapping and not skip:
                # Its outcome replaces that of the update.
                error = None
                if reserve is None:
                    raise WhereaboutsError('metadata.name: Invalid value: "<nil>"')
                self._reserve(mode, reserve, podref, ifname, conf.network_name)
            found.append(str(ip))
        if error is not None:
            raise error
        return found

    def _pool(self, one, network_name):
        network = str(ipaddress.ip_network(one.cidr, strict=False))
        name = normalized_range(network)
        name = f"{network_name}-{name}" if network_name else name
        try:
            return IPPool(self.api, self.api("GET", self.api.path("ippools", name)))
        except ApiError as error:
            if error.code != 404:
                raise WhereaboutsError(f"k8s get error: {error}") from error
        body = {
            "apiVersion": "whereabouts.cni.cncf.io/v1alpha1",
            "kind": "IPPool",
            "metadata": {"name": name},
            "spec": {"range": network, "allocations": {}},
        }
        try:
            self.api("POST", self.api.path("ippools"), body)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise WhereaboutsError(f"k8s create error: {error}") from error
        raise TemporaryError("k8s pool initialized")

    def _reservation(self, ip, network_name):
        path = self.api.path("overlappingrangeipreservations", normalized_ip(ip, network_name))
        try:
            return self.api("GET", path)
        except ApiError as error:
            if error.code == 404:
                return None
            raise WhereaboutsError(str(error)) from error

    def _reserve(self, mode, ip, podref, ifname, network_name):
        name = normalized_ip(ip, network_name)
        plural = "overlappingrangeipreservations"
        try:
            if mode == "del":
                self.api("DELETE", self.api.path(plural, name))
                return
            body = {
                "apiVersion": "whereabouts.cni.cncf.io/v1alpha1",
                "kind": "OverlappingRangeIPReservation",
                "metadata": {"name": name},
                "spec": {"podref": podref, "ifname": ifname},
            }
            self.api("POST", self.api.path(plural), body)
        except ApiError as error:
            raise WhereaboutsError(str(error)) from error


class Elector:
    """client-go's leaderelection with a LeaseLock, as whereabouts uses it: one for each call."""

    def __init__(self, api, identity, timing):
        self.api, self.identity, self.timing = api, identity, timing
        self.document = None
        self.record = None
        self.observed = 0.0
        self.renewed = 0.0

    def acquire(self, ends):
        while not self.try_it():
            period = self.timing.retry
            time.sleep(period + random.random() * 1.2 * period)
            if time.monotonic() > ends:
                raise WhereaboutsError("time limit exceeded while waiting to become leader")
        self.renewed = 0.0
        self.renew()  # the renew loop begins with one

    def leads(self):
        return bool(self.record) and self.record.get("holderIdentity") == self.identity

    def valid(self):
        duration = float(self.record.get("leaseDurationSeconds") or 0)
        return self.observed + duration > time.monotonic()

    def see(self, document):
        self.document = document
        if document.get("spec") != self.record:
            self.record, self.observed = document.get("spec") or {}, time.monotonic()

    def try_it(self):
        wanted = self.wanted()
        if self.leads() and self.valid() and self.put(wanted):
            return True
        try:
            self.see(self.api("GET", self.api.lease_path("whereabouts")))
        except ApiError as error:
            if error.code != 404:
                return False
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": "whereabouts"},
                "spec": wanted,
            }
            try:
                self.see(self.api("POST", self.api.lease_path(), body))
            except ApiError:
                return False
            return True
        if self.record.get("holderIdentity") and self.valid() and not self.leads():
            return False
        transitions = int(self.record.get("leaseTransitions") or 0)
        if self.leads():
            wanted["acquireTime"] = self.record.get("acquireTime")
        else:
            transitions += 1
        return self.put({**wanted, "leaseTransitions": transitions})

    def wanted(self):
        now = datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, int(self.timing.lease)),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": 0,
        }

    def put(self, spec):
        try:
            path = self.api.lease_path("whereabouts")
            self.see(self.api("PUT", path, {**self.document, "spec": spec}))
        except ApiError:
            return False
        return True

    def renew(self):
        """The renew loop runs beside the update, which it does not end when it fails."""
        if time.monotonic() - self.renewed > self.timing.retry:
            self.renewed = time.monotonic()
            self.try_it()

    def release(self):
        if self.leads():
            keep = {"leaseTransitions": self.record.get("leaseTransitions")}
            self.put({**self.wanted(), **keep, "holderIdentity": "", "leaseDurationSeconds": 1})


# --- reconciler


def reconcile(api, *, rereads=3, pause=0.25):  # noqa: C901 - as there
    """The nightly job: return what it removed, pools' addresses and reservations."""
    pods = {}
    for pod in api("GET", "/api/v1/pods")["items"]:
        meta = pod["metadata"]
        pods[f"{meta['namespace']}/{meta['name']}"] = pod
    pools = []
    for document in api("GET", f"{GROUP}/ippools")["items"]:
        try:
            pools.append(IPPool(api, document))
        except ValueError as error:
            raise WhereaboutsError(f"error parsing range: {error}") from error

    def alive(podref, ip):
        pod = pods.get(podref)
        if pod is None:
            return False
        for condition in pod.get("status", {}).get("conditions") or ():
            told = (condition.get("type"), condition.get("status"), condition.get("reason"))
            if told == ("DisruptionTarget", "True", "DeletionByTaintManager"):
                return False
        for _ in range(1 + rereads):
            if ip in status_ips(pod):
                return True
            if pod.get("status", {}).get("phase") != "Pending":
                return False
            time.sleep(pause)
            namespace, _, name = podref.partition("/")
            try:
                pod = api("GET", f"/api/v1/namespaces/{namespace}/pods/{name}")
            except ApiError:
                return False
        return False

    removed = []
    orphans = [
        (pool, [r for r in pool.reservations() if r.podref and not alive(r.podref, str(r.ip))])
        for pool in pools
    ]
    lost = [
        each["metadata"]
        for each in api("GET", f"{GROUP}/overlappingrangeipreservations")["items"]
        if not alive(each["spec"].get("podref"), each["metadata"]["name"].replace("-", ":"))
    ]
    for pool, gone in orphans:
        if gone:
            left = pool.reservations()
            for each in gone:
                left = [r for r in left if (r.podref, r.ip) != (each.podref, each.ip)]
            pool.update(left)
            removed += [str(each.ip) for each in gone]
    for meta in lost:
        path = f"{GROUP}/namespaces/{meta['namespace']}/overlappingrangeipreservations"
        try:
            api("DELETE", f"{path}/{meta['name']}")
        except ApiError:
            continue
        removed.append(meta["name"])
    return removed


def status_ips(pod):
    text = (pod["metadata"].get("annotations") or {}).get(STATUS)
    return {
        str(ipaddress.ip_address(ip))
        for each in (json.loads(text) if text else ())
        if not each.get("default")
        for ip in each.get("ips") or ()
    }
