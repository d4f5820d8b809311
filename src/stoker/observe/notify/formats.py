"""A notice as each kind of receiver reads it.

The webhook is Alertmanager's, version 4: whatever takes its notifications takes these (prometheus.io/docs/alerting,
webhook_config). An alert that somebody has taken is still firing there; Alertmanager knows no other word.
"""

from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Final

import msgspec

from stoker.core.alerts import Alert, with_severity
from stoker.core.notices import Notice

_NEVER: Final = "0001-01-01T00:00:00Z"  # Go's zero time: what Alertmanager writes while an alert goes on
_LINES_MAX: Final = 20


def webhook(notice: Notice, url: str) -> bytes:
    """Return the body of Alertmanager's webhook; `url` is where this platform can be looked at."""
    labels = [with_severity(alert) for alert in notice.alerts]
    annotations = [_annotations(alert) for alert in notice.alerts]
    group = _group_labels(notice)
    return msgspec.json.encode(
        {
            "version": "4",
            "groupKey": "{}:{" + ", ".join(f'{name}="{value}"' for name, value in sorted(group.items())) + "}",
            "truncatedAlerts": notice.left_out,
            "status": "firing" if notice.is_firing else "resolved",
            "receiver": notice.receiver,
            "groupLabels": group,
            "commonLabels": _common(labels),
            "commonAnnotations": _common(annotations),
            "externalURL": url,
            "alerts": [
                {
                    "status": "resolved" if alert.state == "resolved" else "firing",
                    "labels": labels[place],
                    "annotations": annotations[place],
                    "startsAt": _time(alert.began_s),
                    "endsAt": _time(alert.ended_s) if alert.state == "resolved" else _NEVER,
                    "generatorURL": url,
                    "fingerprint": alert.id,
                }
                for place, alert in enumerate(notice.alerts)
            ],
        }
    )


def slack(notice: Notice) -> bytes:
    """Return the body that Slack, Mattermost, Rocket.Chat and Discord (`/slack`) read."""
    return msgspec.json.encode({"text": f"*{_escaped(title(notice))}*\n{_escaped(text(notice))}"})


def mail(notice: Notice, sender: str, to: tuple[str, ...]) -> EmailMessage:
    """Return the notice as a mail."""
    message = EmailMessage()
    message["Subject"] = title(notice)
    message["From"] = sender
    message["To"] = ", ".join(to)
    message["X-Stoker-Notice"] = str(notice.number)
    message.set_content(text(notice) + "\n")
    return message


def title(notice: Notice) -> str:
    """Return one line that says it all: `[PAGE] default/digits misses its objective 'answers'`."""
    going = [alert for alert in notice.alerts if alert.state != "resolved"]
    first = (going or list(notice.alerts))[0]
    others = len(notice.alerts) + notice.left_out - 1
    kind = first.severity.upper() if going else "OVER"
    return f"[{kind}] {first.summary}" + (f" (and {others} more)" if others else "")


def text(notice: Notice) -> str:
    """Return each alert with why, a paragraph each."""
    parts = []
    for alert in notice.alerts[:_LINES_MAX]:
        state = "over" if alert.state == "resolved" else alert.severity
        lines = [f"{state}: {alert.summary}", f"  {alert.because}", f"  since {_time(alert.began_s)}, id {alert.id}"]
        parts.append("\n".join([*lines, *([f"  runbook: {alert.runbook}"] if alert.runbook else [])]))
    left = len(notice.alerts) + notice.left_out - len(parts)
    return "\n".join([*parts, *([f"… and {left} more; `stoker alerts` lists them"] if left else [])])


def _group_labels(notice: Notice) -> dict[str, str]:
    project, _, endpoint = notice.group.partition("/")
    return {"project": project, "endpoint": endpoint} if endpoint else {}


def _annotations(alert: Alert) -> dict[str, str]:
    said = {"summary": alert.summary, "description": alert.because, "runbook_url": alert.runbook}
    return {name: value for name, value in said.items() if value}


def _common(each: list[dict[str, str]]) -> dict[str, str]:
    first, *rest = each
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in rest)}


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _escaped(words: str) -> str:
    return words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
