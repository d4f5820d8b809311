"""The settings of secrets that are only named: where Vault is, who the platform is there, how long a value lasts."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from stoker.app.node_settings import NodeSettings
from stoker.app.setting import setting
from stoker.core.secrets import has_userinfo
from stoker.secrets.keeper import STALE_S, TTL_S, Secrets
from stoker.secrets.vault import Vault, VaultSettings
from stoker.types.errors import InvalidInput

SECRET_FILES: Final = ("vault_ca", "vault_token_file", "vault_secret_id_file", "vault_jwt_file")
TOKEN: Final = "STOKER_VAULT_TOKEN"  # noqa: S105 - a variable that is passed on, and never written down
AREA: Final = "secret/stoker/{project}"


class SecretSettings(NodeSettings, frozen=True, kw_only=True):
    """See the module; a part of Settings."""

    vault_addr: Annotated[
        str, setting("STOKER_VAULT_ADDR", "URL", "the Vault, or what speaks as it, that `vault:` names are read from")
    ] = ""
    vault_area: Annotated[
        str,
        setting(
            "STOKER_VAULT_AREA",
            "path with {project}",
            "below it each project may name secrets of Vault; more is listed in the project (`spec.secrets`)",
        ),
    ] = AREA
    vault_namespace: Annotated[str, setting("STOKER_VAULT_NAMESPACE", "name", "its namespace, where it has some")] = ""
    vault_ca: Annotated[
        str, setting("STOKER_VAULT_CA_FILE", "file", "who signs its certificate (PEM), where the system does not know")
    ] = ""
    vault_token_file: Annotated[
        str,
        setting("STOKER_VAULT_TOKEN_FILE", "file", "the platform's token, read at each use; or `STOKER_VAULT_TOKEN`"),
    ] = ""
    vault_role_id: Annotated[str, setting("STOKER_VAULT_ROLE_ID", "id", "or an AppRole: its role id")] = ""
    vault_secret_id_file: Annotated[
        str, setting("STOKER_VAULT_SECRET_ID_FILE", "file", "and the AppRole's secret id")
    ] = ""
    vault_jwt_role: Annotated[
        str, setting("STOKER_VAULT_JWT_ROLE", "name", "or a role of the kubernetes or jwt method")
    ] = ""
    vault_jwt_file: Annotated[str, setting("STOKER_VAULT_JWT_FILE", "file", "and the token that proves it")] = (
        "/var/run/secrets/kubernetes.io/serviceaccount/token"
    )
    vault_auth_mount: Annotated[
        str, setting("STOKER_VAULT_AUTH_MOUNT", "path", "where the method is mounted; by default as it is called")
    ] = ""
    secrets_ttl_s: Annotated[
        float,
        setting("STOKER_SECRETS_TTL", "seconds", "a value from Vault is read again after this", ge=1, le=3600),
    ] = TTL_S
    secrets_stale_s: Annotated[
        float,
        setting(
            "STOKER_SECRETS_STALE",
            "seconds",
            "a value that cannot be read again is used on for so long; 0: not at all",
            ge=0,
            le=7 * 86_400,
        ),
    ] = STALE_S

    def secrets(self, folder: Path, process: str, environ: Mapping[str, str]) -> Secrets:
        """Return what resolves secrets in a process. folder: of the projects' secret files."""
        vault = None
        if self.vault_addr:
            vault = Vault(
                VaultSettings(
                    address=self.vault_addr,
                    namespace=self.vault_namespace,
                    ca_file=self.vault_ca,
                    token=environ.get(TOKEN, ""),
                    token_file=self.vault_token_file,
                    role_id=self.vault_role_id,
                    secret_id_file=self.vault_secret_id_file,
                    jwt_role=self.vault_jwt_role,
                    jwt_file=self.vault_jwt_file,
                    auth_mount=self.vault_auth_mount,
                )
            )
        return Secrets(
            folder,
            vault,
            process=process,
            ttl_s=self.secrets_ttl_s,
            stale_s=self.secrets_stale_s,
            environ=dict(environ),
        )


def check_secrets(values: Mapping[str, Any]) -> None:
    """Raise InvalidInput for an address that cannot be one, or an area that is not each project's own."""
    address = values.get("vault_addr", "")
    if address and not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s?#]*)?", address):
        raise InvalidInput(
            "STOKER_VAULT_ADDR: expected a URL such as https://vault:8200; a token goes into STOKER_VAULT_TOKEN_FILE",
            field="STOKER_VAULT_ADDR",
        )
    if address.startswith("http://") and not re.match(r"http://(localhost|127\.[0-9.]+|\[::1\])(:|/|$)", address):
        raise InvalidInput(
            f"STOKER_VAULT_ADDR={address}: without TLS anybody on the way reads the secrets; write https://",
            field="STOKER_VAULT_ADDR",
        )
    if has_userinfo(values.get("audit_copy", "")):
        raise InvalidInput(
            "STOKER_AUDIT_COPY: the address holds a user or a password, and would lie in the agent's records",
            field="STOKER_AUDIT_COPY",
        )
    area = values.get("vault_area", AREA)
    if area and not re.fullmatch(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*/\{project\}(/[A-Za-z0-9_.-]+)*", area):
        raise InvalidInput(
            f"STOKER_VAULT_AREA={area}: expected a path with one {{project}} in it, such as {AREA}",
            field="STOKER_VAULT_AREA",
        )
