"""The tables of state.db, as the newest migration leaves them.

Times are unix seconds; structured values are JSON text, decoded into typed structs by the repositories.
A change here needs a migration beside it: a test compares the two.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

from stoker.store import schema_budgets

# The newest migration's name; a database that says another one is migrated, or refused when it is from the future.
VERSION: Final = "0025"

metadata: Final = schema_budgets.metadata  # with the tables of budgets

meta: Final = Table(
    "meta",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

lease: Final = Table(
    "lease",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(128), nullable=False),
    Column("expires", Float, nullable=False),
    Column("token", Integer, nullable=False),
)

projects: Final = Table(
    "projects",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("resource", Text, nullable=False),
    Column("created_at_s", Float, nullable=False),
)

keys: Final = Table(
    "keys",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("project", String(63), ForeignKey("projects.name"), nullable=False),
    Column("name", String(128), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("created_at_s", Float, nullable=False),
    Column("expires_at_s", Float, nullable=False),
    Column("limits", Text, nullable=False),
    Column("access", Text, nullable=False),
    Column("subject", String(128), nullable=False),
    Column("old_sha256", String(64), nullable=False),  # what was rotated away works until `old_until_s`
    Column("old_until_s", Float, nullable=False),
    Column("last_used_at_s", Float, nullable=False),
)

roles: Final = Table(
    "roles",
    metadata,
    Column("project", String(63), ForeignKey("projects.name"), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("resource", Text, nullable=False),
    Column("created_at_s", Float, nullable=False),
)

models: Final = Table(
    "models",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("last_number", Integer, nullable=False),  # a number is never given twice, deleted versions included
    Column("project", String(63), nullable=False, server_default=""),  # whose it is; "": everybody's
)

versions: Final = Table(
    "versions",
    metadata,
    Column("name", String(63), ForeignKey("models.name"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("digest", String(71), nullable=False),
    Column("manifest", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at_s", Float, nullable=False),
    UniqueConstraint("name", "digest", name="versions_digest"),
)

aliases: Final = Table(
    "aliases",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("alias", String(63), primary_key=True),
    Column("number", Integer, nullable=False),
    ForeignKeyConstraint(["name", "number"], ["versions.name", "versions.number"], name="aliases_version"),
)

trust_roots: Final = Table(
    "trust_roots",
    metadata,
    Column("project", String(63), ForeignKey("projects.name"), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("public_key", Text, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("created_at_s", Float, nullable=False),
)

signatures: Final = Table(
    "signatures",
    metadata,
    Column("model", String(63), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("fingerprint", String(64), primary_key=True),
    Column("bundle", Text, nullable=False),
    Column("created_at_s", Float, nullable=False),
    ForeignKeyConstraint(["model", "number"], ["versions.name", "versions.number"], name="signatures_version"),
)

endpoints: Final = Table(
    "endpoints",
    metadata,
    Column("project", String(63), ForeignKey("projects.name"), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("resource", Text, nullable=False),
    Column("created_at_s", Float, nullable=False),
    Column("is_deleting", Boolean, nullable=False),
    Column("serving", String(160), nullable=False),
    Column("last_number", Integer, nullable=False),
    Column("pinned", Integer, nullable=False),
    Column("status", Text, nullable=False),
)

revisions: Final = Table(
    "revisions",
    metadata,
    Column("revision", String(160), primary_key=True),
    Column("project", String(63), nullable=False),
    Column("endpoint", String(63), nullable=False),
    Column("number", Integer, nullable=False),
    Column("digest", String(71), nullable=False),
    Column("config", Text, nullable=False),
    Column("model", String(63), nullable=False),
    Column("model_number", Integer, nullable=False),
    Column("created_at_s", Float, nullable=False),
    Column("replicas_made", Integer, nullable=False),
    ForeignKeyConstraint(["project", "endpoint"], ["endpoints.project", "endpoints.name"], name="revisions_endpoint"),
    # What keeps a version from being deleted while a revision needs it, whoever tries.
    ForeignKeyConstraint(["model", "model_number"], ["versions.name", "versions.number"], name="revisions_version"),
    UniqueConstraint("project", "endpoint", "number", name="revisions_number"),
)

replicas: Final = Table(
    "replicas",
    metadata,
    Column("replica", String(180), primary_key=True),
    Column("revision", String(160), ForeignKey("revisions.revision"), nullable=False),
    Column("node", String(63), nullable=False),
    Column("phase", String(16), nullable=False),
    Column("since_s", Float, nullable=False),
    Column("created_at_s", Float, nullable=False),
    Column("gpus", Text, nullable=False, server_default="[]"),  # numbers of the node's GPUs
    Column("port", Integer, nullable=False, server_default="0"),  # on a node that joined; 0: a socket here
)

# The record outlives its endpoint: no foreign key.
rollouts: Final = Table(
    "rollouts",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("project", String(63), nullable=False),
    Column("endpoint", String(63), nullable=False),
    Column("ended_at_s", Float, nullable=False),  # 0: it runs
    Column("state", Text, nullable=False),
    Column("ordered", String(16), nullable=False),  # what somebody said, until the loop has done it
    Column("posted", Text, nullable=False),  # what a user's own judge has told, by metric
    Column("is_told", Boolean, nullable=False, server_default=false()),  # its end stands in the dossier of its revision
    Column("evidence", Text, nullable=False, server_default=""),  # what it is judged by; "" while there is none
    Index("rollouts_endpoint", "project", "endpoint", "number"),
    sqlite_autoincrement=True,
)

rollout_entries: Final = Table(
    "rollout_entries",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("rollout", Integer, ForeignKey("rollouts.number"), nullable=False),
    Column("entry", Text, nullable=False),
    Index("rollout_entries_rollout", "rollout", "sequence"),
)

# The hook is in each row: a rollout that is forgotten is told of all the same.
rollout_outbox: Final = Table(
    "rollout_outbox",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("at_s", Float, nullable=False),
    Column("receiver", Text, nullable=False),
    Column("secret", String(63), nullable=False),
    Column("message", Text, nullable=False),
    Column("sign_with", Text, nullable=False, server_default=""),  # a reference, where no file signs
    sqlite_autoincrement=True,
)

notifiers: Final = Table(
    "notifiers",
    metadata,
    Column("project", String(63), ForeignKey("projects.name"), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("resource", Text, nullable=False),
    Column("created_at_s", Float, nullable=False),
)

policies: Final = Table(
    "policies",
    metadata,
    Column("project", String(63), ForeignKey("projects.name"), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("resource", Text, nullable=False),
    Column("created_at_s", Float, nullable=False),
)

# One value: which objectives burn, the alerts, silences, and notices that are yet to be delivered (control/watch.py).
watch: Final = Table(
    "watch",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

journal: Final = Table(
    "journal",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("at_s", Float, nullable=False),
    Column("project", String(63), nullable=False),
    Column("endpoint", String(63), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(180), nullable=False),
    Column("because", Text, nullable=False),
    Index("journal_endpoint", "project", "endpoint", "sequence"),
    sqlite_autoincrement=True,  # a sequence is never given twice, pruned rows included
)

# The record outlives its endpoint: no foreign key.
incidents: Final = Table(
    "incidents",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("project", String(63), nullable=False),
    Column("endpoint", String(63), nullable=False),
    Column("closed_at_s", Float, nullable=False),
    Column("record", Text, nullable=False),
    Index("incidents_endpoint", "project", "endpoint", "number"),
    sqlite_autoincrement=True,
)

# One row a revision and the gates it was judged by; what was decided is never written again. It outlives its endpoint.
dossiers: Final = Table(
    "dossiers",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("project", String(63), nullable=False),
    Column("endpoint", String(63), nullable=False),
    Column("revision", String(160), nullable=False),
    Column("born_s", Float, nullable=False),
    Column("gates", String(71), nullable=False),
    Column("basis", String(71), nullable=False),
    Column("state", String(16), nullable=False),
    Column("because", Text, nullable=False),
    Column("failed", String(16), nullable=False),
    Column("has_served", Boolean, nullable=False),
    Column("record", Text, nullable=False),
    Column("statement", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("verdict_statement", Text, nullable=False),
    Index("dossiers_endpoint", "project", "endpoint", "number"),
    Index("dossiers_revision", "revision", "number"),
    sqlite_autoincrement=True,
)

golden_sets: Final = Table(
    "golden_sets",
    metadata,
    Column("project", String(63), primary_key=True),
    Column("endpoint", String(63), primary_key=True),
    Column("digest", String(71), nullable=False),
    Column("rows", Integer, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("set_at_s", Float, nullable=False),
    ForeignKeyConstraint(["project", "endpoint"], ["endpoints.project", "endpoints.name"], name="golden_sets_endpoint"),
)

# What the last scaling decision remembered (core/scale/memory.py). A control that is restarted goes on from it.
scaling: Final = Table(
    "scaling",
    metadata,
    Column("project", String(63), primary_key=True),
    Column("endpoint", String(63), primary_key=True),
    Column("memory", Text, nullable=False),
)

scale_decisions: Final = Table(
    "scale_decisions",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("project", String(63), nullable=False),
    Column("endpoint", String(63), nullable=False),
    Column("at_s", Float, nullable=False),
    Column("record", Text, nullable=False),
    Index("scale_decisions_endpoint", "project", "endpoint", "number"),
    sqlite_autoincrement=True,
)

# What starts of replicas took (types/starts.py), by when their process was spawned.
starts: Final = Table(
    "starts",
    metadata,
    Column("project", String(63), primary_key=True),
    Column("endpoint", String(63), primary_key=True),
    Column("replica", String(180), primary_key=True),
    Column("at_s", Float, primary_key=True),
    Column("start", Text, nullable=False),
    Index("starts_newest", "project", "endpoint", "at_s"),
)

# What is known of the shapes of engine calls (types/shapes.py), and since when.
shapes: Final = Table(
    "shapes",
    metadata,
    Column("project", String(63), primary_key=True),
    Column("endpoint", String(63), primary_key=True),
    Column("at_s", Float, nullable=False),
    Column("costs", Text, nullable=False),
)

# Up to which number the usage records of each incarnation of a gateway's process are in the sums.
usage_cursors: Final = Table(
    "usage_cursors",
    metadata,
    Column("incarnation", String(64), primary_key=True),
    Column("gateway", String(64), nullable=False),
    Column("settled", BigInteger, nullable=False),
    Column("lost", BigInteger, nullable=False),  # of them: those that could not be read
    Column("at_s", Float, nullable=False),
)

# What was used in one hour, day or month (UTC, unix seconds), by whom.
usage_sums: Final = Table(
    "usage_sums",
    metadata,
    Column("span", String(8), primary_key=True),
    Column("at_s", BigInteger, primary_key=True),
    Column("project", String(63), primary_key=True),
    Column("endpoint", String(63), primary_key=True),
    Column("revision", String(160), primary_key=True),
    Column("key", String(16), primary_key=True),
    Column("tenant", String(64), primary_key=True),
    Column("tags", String(16), primary_key=True),  # a digest, in usage_tags; "" for none
    Column("requests", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("cancelled", BigInteger, nullable=False),
    Column("cached", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("compute_us", BigInteger, nullable=False),
    Column("bytes_in", BigInteger, nullable=False),
    Column("bytes_out", BigInteger, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("price_nano_usd", BigInteger, nullable=False),
    Index("usage_sums_project", "project", "at_s"),
)

usage_tags: Final = Table(
    "usage_tags",
    metadata,
    Column("digest", String(16), primary_key=True),
    Column("tags", Text, nullable=False),
)
