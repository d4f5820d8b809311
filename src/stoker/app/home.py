"""Where everything lies in the state folder (STOKER_HOME), one property each.

state.db        control's database            blobs/       content-addressed files
metrics.db      what was measured, 400 days     state.db.schema-N  copies of before an upgrade (store/copies.py)
models/         versions laid out to be read  run/         sockets (or a short folder elsewhere, see run_dir)
processes/      what the agent runs           replicas/    one spec file a replica
logs/           one file a process, rotated   gateway/     the last route table
measurements/   of engines, a table a model    samples/     requests kept, sealed, and their keys
gamedays/       reports of faults on purpose    usage/         records of usage, until they are settled
gates/          what revisions said before they went, until what takes their place is judged
secrets/        files that projects may name, a folder a project; nothing here writes them
platform.key    signs dossiers and the audit   audit.checkpoints  what it signed of the audit, a line each
ca.json         the certificate authority of nodes  tls/        what processes show to other nodes
node.json       of a node that joined: where control is
tmp/            half-written files            credentials.json  the CLI's own key, mode 600
"""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

# sockaddr_un holds 108 bytes; the longest socket name (a replica's) takes under 90 with its slash.
SOCKET_PATH_MAX = 107
SOCKET_NAME_MAX = 40


@dataclass(frozen=True, slots=True)
class Home:
    """The state folder. `root` is absolute."""

    root: Path

    @property
    def id(self) -> str:
        """Return eight hex digits that tell this folder from others (processes carry it in their environment)."""
        return hashlib.sha256(str(self.root).encode()).hexdigest()[:8]

    @property
    def database(self) -> Path:
        """Control's database."""
        return self.root / "state.db"

    @property
    def backed_up(self) -> Path:
        """When it was last written to a backup that was read back: the time of this empty file."""
        return self.root / "backed-up"

    @property
    def metrics(self) -> Path:
        """The history of all metrics; it may be deleted."""
        return self.root / "metrics.db"

    @property
    def blobs(self) -> Path:
        """Content-addressed files."""
        return self.root / "blobs"

    @property
    def models(self) -> Path:
        """Versions as folders, ready to be opened by engines."""
        return self.root / "models"

    @property
    def processes(self) -> Path:
        """The agent's record of each process."""
        return self.root / "processes"

    @property
    def replicas(self) -> Path:
        """One spec file a replica."""
        return self.root / "replicas"

    @property
    def measurements(self) -> Path:
        """What replicas measured of engines, a table a model; any of it may be deleted."""
        return self.root / "measurements"

    @property
    def drift(self) -> Path:
        """Windows of what was counted for drift, and learned references, a file an endpoint."""
        return self.root / "drift"

    @property
    def feedback(self) -> Path:
        """Predictions and their labels."""
        return self.root / "feedback.db"

    @property
    def logs(self) -> Path:
        """One log a process."""
        return self.root / "logs"

    @property
    def gateway(self) -> Path:
        """The gateways' own files."""
        return self.root / "gateway"

    @property
    def quarantine(self) -> Path:
        """Records of requests that killed replicas."""
        return self.gateway / "quarantine"

    @property
    def samples(self) -> Path:
        """Requests that were kept, a folder a project, and the keys they are sealed with."""
        return self.root / "samples"

    @property
    def secrets(self) -> Path:
        """Files with the values of secrets that a project may name, a folder a project; nothing writes here."""
        return self.root / "secrets"

    @property
    def usage(self) -> Path:
        """Journals of what requests used, a folder an incarnation of a gateway, until control has settled them."""
        return self.root / "usage"

    @property
    def gamedays(self) -> Path:
        """Reports of `stoker gameday`, a file a run."""
        return self.root / "gamedays"

    @property
    def gates(self) -> Path:
        """What revisions said before they went, a file a judgement (control/releases/swap.py)."""
        return self.root / "gates"

    @property
    def platform_key(self) -> Path:
        """The private key that signs dossiers and the audit's checkpoints, mode 600."""
        return self.root / "platform.key"

    @property
    def checkpoints(self) -> Path:
        """The checkpoints of the audit, outside of the database."""
        return self.root / "audit.checkpoints"

    @property
    def authority(self) -> Path:
        """The platform's certificate authority, keys and all, mode 600."""
        return self.root / "ca.json"

    @property
    def tls(self) -> Path:
        """What processes show to other nodes, a folder a role, mode 700."""
        return self.root / "tls"

    @property
    def joined(self) -> Path:
        """On a node that joined: where control is, and how others reach this node."""
        return self.root / "node.json"

    @property
    def tmp(self) -> Path:
        """Half-written files; everything in it is garbage when nothing runs."""
        return self.root / "tmp"

    @property
    def credentials(self) -> Path:
        """The CLI's own key and addresses, mode 600."""
        return self.root / "credentials.json"

    @property
    def run(self) -> Path:
        """Where sockets lie: `run/` here, or a private folder under the system's temporary one when this path is long.

        A socket's whole path must fit sockaddr_un; a state folder deep in a tree would not.
        """
        own = self.root / "run"
        if len(os.fsencode(own)) + 1 + SOCKET_NAME_MAX <= SOCKET_PATH_MAX:
            return own
        return Path(tempfile.gettempdir()) / f"stoker-{os.getuid()}-{self.id}"

    def address(self, name: str) -> str:
        """Return the frames address of a process; long names are shortened by a digest, never cut."""
        short = name if len(name) <= 32 else hashlib.sha256(name.encode()).hexdigest()[:24]
        return f"unix:{self.run / short}.sock"

    def make(self) -> None:
        """Create the folders, private to this user. Raises OSError, for example when `run` is another user's."""
        for folder in (
            self.root,
            self.blobs,
            self.models,
            self.processes,
            self.replicas,
            self.measurements,
            self.secrets,
            self.logs,
            self.gateway,
            self.tmp,
            self.run,
        ):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.run.stat().st_uid != os.getuid():
            raise PermissionError(f"{self.run} belongs to another user; set STOKER_HOME to a shorter path")
        self.run.chmod(0o700)


@dataclass(frozen=True, slots=True)
class FarHome(Home):
    """The state folder of another node, as control names what is in it. `sockets`: where its sockets lie."""

    sockets: Path

    @property
    def run(self) -> Path:
        """Where sockets lie, as that node said when it joined."""
        return self.sockets
