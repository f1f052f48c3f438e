"""Where the API server is and who we are: kubeconfig or service account, through lightkube.

lightkube knows kubeconfig files, service accounts, client certificates and credential plugins,
and makes HTTP sessions of them. Together with ``door`` this is the only place that imports it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import httpx2
import msgspec
import yaml
from lightkube.config import client_adapter
from lightkube.config.kubeconfig import SERVICE_ACCOUNT, KubeConfig
from lightkube.config.models import NameValue, User
from lightkube.core.exceptions import ConfigError

from podnet.errors import InvalidConfigError

if TYPE_CHECKING:
    from lightkube.config.kubeconfig import SingleConfig

CONNECT_MOST = 5.0
"""Seconds that a TCP and TLS connection may take."""

_EXEC_INFO = (
    '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential",'
    '"spec":{"interactive":false}}'
)


CREDENTIAL_ERRORS = (ConfigError, OSError, KeyError, ValueError)
"""What lightkube lets out of a request when a token file or a credential plugin fails."""


class Access:
    """Finds the cluster and makes sessions with it."""

    def __init__(self, kubeconfig: str = "", context: str = "") -> None:
        """Take the place of the credentials; nothing is read yet.

        Args:
            kubeconfig: file; if empty, the pod's service account, else the file that
                ``KUBECONFIG`` names, else ``~/.kube/config``.
            context: of the file; empty for its current one.
        """
        self._kubeconfig = kubeconfig
        self._context = context
        self.namespace = ""
        self.named_namespace = ""
        self.server = ""

    def session(self) -> httpx2.Client:
        """Read the credentials, which may be others than before, and return a new session.

        Raises:
            InvalidConfigError: they cannot be read, or are not understood; no secret is told.
        """
        config = self._read()
        self.namespace = config.namespace
        self.named_namespace = config.context.namespace or ""
        self.server = config.cluster.server
        # What podnet asks for decides the time limit of each request, see ``door``.
        parameters = client_adapter.ConnectionParams(
            timeout=httpx2.Timeout(10.0, connect=CONNECT_MOST)
        )
        try:
            session = client_adapter.Client(config, parameters)
        except (OSError, ValueError, ConfigError) as error:
            # An SSLError of a damaged certificate is an OSError.
            raise self._unusable(_plain(error)) from None
        session.headers["User-Agent"] = "podnet"
        return session

    def _read(self) -> SingleConfig:
        try:
            config = self._find().get(self._context or None)
        except (ConfigError, OSError, KeyError, AttributeError, TypeError) as error:
            raise self._unusable(_plain(error)) from None
        except msgspec.ValidationError as error:
            raise self._unusable(str(error)) from None
        except yaml.MarkedYAMLError as error:
            # PyYAML's text quotes the line, and a token may stand in it.
            line = error.problem_mark.line + 1 if error.problem_mark else 0
            raise self._unusable(f"line {line} is no YAML") from None
        if config is None:
            raise self._unusable("there is no current context")
        user = config.user or User()
        if user.exec and user.exec.apiVersion == "client.authentication.k8s.io/v1":
            # For a plugin that prints a token, v1 differs from the v1beta1 that lightkube knows
            # only in that it may read what is asked of it from this variable.
            info = NameValue(name="KUBERNETES_EXEC_INFO", value=_EXEC_INFO)
            user.exec.apiVersion = "client.authentication.k8s.io/v1beta1"
            user.exec.env = [*(user.exec.env or ()), info]
        return config._replace(user=user)

    def _find(self) -> KubeConfig:
        if self._kubeconfig:
            return KubeConfig.from_file(self._kubeconfig)
        if os.path.exists(os.path.join(SERVICE_ACCOUNT, "token")):
            return KubeConfig.from_service_account(SERVICE_ACCOUNT)
        return KubeConfig.from_file(os.environ.get("KUBECONFIG") or "~/.kube/config")

    def _unusable(self, why: str) -> InvalidConfigError:
        where = self._kubeconfig or "the service account or default kubeconfig"
        return InvalidConfigError(f"cannot use the credentials of {where}", (("access", why),))

    def failed(self, error: Exception) -> InvalidConfigError:
        """Return the error for credentials that failed while a request was made."""
        return self._unusable(_plain(error))


def _plain(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    if isinstance(error, AttributeError | TypeError):
        return "it is no kubeconfig"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, ConfigError):
        return str(error).partition(": ")[0]  # what follows may be a plugin's own output
    return type(error).__name__
