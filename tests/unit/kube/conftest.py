"""An emulator and a way to ask it that knows nothing of podnet's own client."""

from __future__ import annotations

import http.client
import json
import sys
from pathlib import Path
from urllib.parse import urlencode

import pytest

from podnet.testing.kube.emulator import Emulator

sys.path.insert(0, str(Path(__file__).parent))  # the model of whereabouts, beside these tests

WIDGET = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.test.podnet.dev"},
    "spec": {
        "group": "test.podnet.dev",
        "scope": "Namespaced",
        "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "shortNames": ["w"]},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "additionalPrinterColumns": [
                    {"name": "Size", "type": "integer", "jsonPath": ".spec.size"}
                ],
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "required": ["spec"],
                        "properties": {
                            "spec": {
                                "type": "object",
                                "required": ["size"],
                                "properties": {
                                    "size": {"type": "integer", "minimum": 1, "maximum": 9},
                                    "color": {"type": "string", "enum": ["red", "blue"]},
                                    "code": {
                                        "type": "string",
                                        "pattern": "^[a-z]+$",
                                        "maxLength": 5,
                                    },
                                    "mode": {"type": "string", "default": "plain"},
                                    "note": {"type": "string", "nullable": True},
                                    "port": {"x-kubernetes-int-or-string": True},
                                    "tags": {
                                        "type": "object",
                                        "additionalProperties": {"type": "string"},
                                    },
                                    "fixed": {
                                        "type": "object",
                                        "x-kubernetes-map-type": "atomic",
                                        "additionalProperties": {"type": "string"},
                                    },
                                    "free": {
                                        "type": "object",
                                        "x-kubernetes-preserve-unknown-fields": True,
                                    },
                                    "parts": {
                                        "type": "array",
                                        "x-kubernetes-list-type": "map",
                                        "x-kubernetes-list-map-keys": ["name"],
                                        "items": {
                                            "type": "object",
                                            "properties": {
                                                "name": {"type": "string"},
                                                "count": {"type": "integer"},
                                            },
                                        },
                                    },
                                },
                            },
                            "status": {
                                "type": "object",
                                "properties": {"done": {"type": "boolean"}},
                            },
                        },
                    }
                },
            }
        ],
    },
}


class Asker:
    """Sends requests on one connection and shows code and JSON."""

    def __init__(self, kube):
        self.kube = kube
        self.host = kube.url.removeprefix("http://")
        self.connection = http.client.HTTPConnection(self.host, timeout=10)

    def __call__(self, method, path, body=None, query=None, **headers):
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
        if query:
            path = f"{path}?{urlencode(query)}"
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, path, data, headers)
        answer = self.connection.getresponse()
        content = answer.read()
        self.headers = answer.headers
        return answer.status, json.loads(content)

    def merge(self, path, body, query=None):
        return self("PATCH", path, body, query, content_type="application/merge-patch+json")

    def jsonpatch(self, path, body):
        return self("PATCH", path, body, content_type="application/json-patch+json")

    def apply(self, path, body, manager, query=None):
        query = {"fieldManager": manager, **(query or {})}
        return self("PATCH", path, body, query, content_type="application/apply-patch+yaml")

    def watch(self, path, query=None):
        """Begin a watch on a connection of its own; return status and an iterator of events."""
        connection = http.client.HTTPConnection(self.host, timeout=10)
        connection.request("GET", f"{path}?{urlencode({'watch': 'true', **(query or {})})}")
        answer = connection.getresponse()
        if answer.status != 200:
            content = json.loads(answer.read())
            connection.close()
            return answer.status, content

        def events():
            try:
                while line := answer.readline():
                    yield json.loads(line)
            finally:
                connection.close()

        return answer.status, events()


@pytest.fixture
def kube():
    with Emulator([WIDGET]) as emulator:
        yield emulator


@pytest.fixture
def ask(kube):
    asker = Asker(kube)
    yield asker
    asker.connection.close()
