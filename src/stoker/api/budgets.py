"""Operations on budgets: how they stand, delete one, and what gateways lease of them."""

import time
from typing import Final

import msgspec
from starlette.responses import Response

from stoker.api.bodies import decoded, nothing, reply
from stoker.api.operations import Call, Operation, Parameter
from stoker.control.changes import Change
from stoker.store import budgets, journal
from stoker.store.engine import Connection
from stoker.types.access import EVERYWHERE
from stoker.types.budgets import Answer, BudgetView, Ended, Question
from stoker.types.errors import NotFound


class BudgetList(msgspec.Struct, frozen=True):
    """Budgets by project and name."""

    items: list[BudgetView]


async def _budgets(call: Call) -> Response:
    project = call.request.query_params.get("project")
    found = await call.plane.budgets.everything()
    seen = [each for each in found if project in (None, each.project) and call.may("usage:read", each.project)]
    return reply(BudgetList(seen))


async def _delete_budget(call: Call) -> Response:
    project, name = call.request.path_params["project"], call.request.path_params["name"]

    def change(connection: Connection) -> tuple[None, list[Change]]:
        kept = budgets.find(connection, project, name)
        if kept is None:
            raise NotFound(f"no budget {name!r} in project {project!r}")
        call.require("projects:write", EVERYWHERE if kept.resource.spec.scope in ("project", "platform") else project)
        budgets.remove(connection, project, name)
        journal.add(connection, journal.Entry(time.time(), "DeleteBudget", call.because, project, subject=name))
        return None, [Change("delete", None, kept.resource)]

    await call.plane.admission.make(change, call.actor)
    call.plane.loop.wake()
    return nothing()


async def _lease(call: Call) -> Response:
    return reply(await call.plane.budgets.answer(await decoded(call.request, Question)))


async def _end(call: Call) -> Response:
    await call.plane.budgets.end((await decoded(call.request, Ended)).holder)
    return nothing()


OPERATIONS: Final = (
    Operation(
        "GET",
        "/api/v1/budgets",
        _budgets,
        "How budgets stand: spent, leased to gateways, left, and until when",
        "usage:read",
        where="each",
        answer=BudgetList,
        query=(Parameter("project", str, "only those of this project"),),
    ),
    Operation(
        "DELETE",
        "/api/v1/projects/{project}/budgets/{name}",
        _delete_budget,
        "Delete a budget",
        "projects:write",
        status=204,
    ),
    Operation(
        "POST",
        "/internal/v1/budgets",
        _lease,
        "What a gateway may charge to each budget from now on",
        "socket",
        body=Question,
        answer=Answer,
    ),
    Operation(
        "POST",
        "/internal/v1/budgets/end",
        _end,
        "Give back what a gateway was leased that is dead and whose usage is settled",
        "socket",
        body=Ended,
        status=204,
    ),
)
