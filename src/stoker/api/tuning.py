"""Operations about settings that change while the platform runs."""

from typing import Final

import msgspec
from starlette.responses import Response

from stoker.api.bodies import changes, invalid, reply
from stoker.api.operations import Call, Operation, partly
from stoker.control import tuning
from stoker.control.routes import tuned
from stoker.types.tuning import Tuning, TuningView, view

TuningChanges: Final = partly(Tuning, "TuningChanges", "Settings to change; null: as the platform was started.")


async def _settings(call: Call) -> Response:
    before = call.plane.routes.table.tuning
    found = await call.plane.database.reading(lambda connection: tuned(connection, before))
    return reply(view(found, call.plane.usual))


async def _change_settings(call: Call) -> Response:
    given = await changes(call.request, TuningChanges)
    before = call.plane.routes.table.tuning
    try:
        found = await call.plane.database.writing(lambda connection: tuning.change(connection, given, before))
    except msgspec.ValidationError as wrong:
        raise invalid(wrong) from wrong
    call.plane.loop.wake()
    return reply(view(found, call.plane.usual))


OPERATIONS: Final = (
    Operation(
        "GET",
        "/api/v1/settings",
        _settings,
        "Settings that can be changed while the platform runs",
        "platform:read",
        where="platform",
        answer=TuningView,
    ),
    Operation(
        "POST",
        "/api/v1/settings",
        _change_settings,
        "Change some of them, for gateways and control, at once; null: as the platform was started",
        "platform:write",
        where="platform",
        body=TuningChanges,
        answer=TuningView,
    ),
)
