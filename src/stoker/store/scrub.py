"""Takes secrets in clear out of what is only kept: revisions and rollouts of a time when a manifest could hold them.

What runs, or is asked for, keeps its secret until a manifest names it instead: an upgrade stops nobody's endpoint.
"""

from typing import Final

import msgspec
from sqlalchemy import Connection, select, update

from stoker.core.revisions import ServingConfig, config_digest
from stoker.core.secrets import SCRUBBED, literal_address, scrubbed
from stoker.store import schema
from stoker.types.statuses import EndpointStatus

_config: Final = msgspec.json.Decoder(ServingConfig)
_status: Final = msgspec.json.Decoder(EndpointStatus)


class Clear(msgspec.Struct, frozen=True):
    """What rows with a secret in clear should be instead: revisions by name, states of rollouts by number."""

    revisions: dict[str, ServingConfig]
    rollouts: dict[int, str]

    def __len__(self) -> int:
        """How many rows."""
        return len(self.revisions) + len(self.rollouts)


def find(connection: Connection, clean: set[str | int]) -> Clear:
    """Return what nobody needs and has a secret in clear. Changes no row.

    clean: revisions and rollouts without one that were looked at before, which are not again; those that are gone
    leave it.
    """
    return Clear(_revisions(connection, clean), _rollouts(connection, clean))


def scrub(connection: Connection, clean: set[str | int]) -> int:
    """Put SCRUBBED in the place of each secret that nobody needs; return how many rows held one. clean: see `find`.

    Such a revision gets another digest: it is not what a manifest with the secret would ask for.
    """
    found = find(connection, clean)
    if found and connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete = ON")  # or the page that held it would keep it
    for revision, config in found.revisions.items():
        values = {"config": msgspec.json.encode(config).decode(), "digest": config_digest(config)}
        connection.execute(update(schema.revisions).where(schema.revisions.c.revision == revision).values(values))
    for number, state in found.rollouts.items():
        connection.execute(update(schema.rollouts).where(schema.rollouts.c.number == number).values(state=state))
    return len(found)


def _revisions(connection: Connection, clean: set[str | int]) -> dict[str, ServingConfig]:
    table, kept = schema.revisions, _needed(connection)
    found, names = {}, connection.execute(select(table.c.revision)).scalars().all()
    clean.difference_update({each for each in clean if isinstance(each, str)}.difference(names))
    for name in names:
        if name in kept or name in clean:
            continue
        config = _config.decode(connection.execute(select(table.c.config).where(table.c.revision == name)).scalar_one())
        options, env = scrubbed(config.options, config.env)
        if options == config.options and env == config.env:
            clean.add(name)
        else:
            found[name] = msgspec.structs.replace(config, options=options, env=env)
    return found


def _needed(connection: Connection) -> set[str]:
    """Return the revisions that run, that a spec asks for, that are newest, or that a rollout goes between."""
    table, owners, rollouts = schema.revisions, schema.endpoints, schema.rollouts
    kept = set(connection.execute(select(schema.replicas.c.revision)).scalars())
    for owner in connection.execute(select(owners.c.serving, owners.c.status)):
        kept |= {owner.serving, str(_status.decode(owner.status).revision)}
    every = connection.execute(select(table.c.project, table.c.endpoint, table.c.revision).order_by(table.c.number))
    kept |= set({(row.project, row.endpoint): row.revision for row in every}.values())
    for state in connection.execute(select(rollouts.c.state).where(rollouts.c.ended_at_s == 0.0)).scalars():
        told = msgspec.json.decode(state)
        kept |= {told["baseline"], told["canary"]}
    return kept


def _rollouts(connection: Connection, clean: set[str | int]) -> dict[int, str]:
    """Return rollouts that are over without addresses that are secrets; what they have to say is in the outbox."""
    table, found = schema.rollouts, {}
    numbers = connection.execute(select(table.c.number).where(table.c.ended_at_s > 0.0)).scalars().all()
    clean.difference_update({each for each in clean if isinstance(each, int)}.difference(numbers))
    for number in numbers:
        if number in clean:
            continue
        state = msgspec.json.decode(
            connection.execute(select(table.c.state).where(table.c.number == number)).scalar_one()
        )
        hooks = [each for each in state["spec"].get("hooks", ()) if literal_address(each.get("webhook", ""))]
        for hook in hooks:
            hook["webhook"] = SCRUBBED
        if hooks:
            found[number] = msgspec.json.encode(state).decode()
        else:
            clean.add(number)
    return found
