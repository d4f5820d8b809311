"""Bounds of rollouts, releases, usage, costs, budgets, quotas and nodes, for the page of limits, from the code."""

from stoker.agent import intake, pull
from stoker.api import rollouts as api
from stoker.app import far_http, node_main
from stoker.app.settings import USAGE_JOURNAL_MAX_BYTES
from stoker.client import oidc
from stoker.confine import mounts
from stoker.control import hooks, models, policies, quiet, quotas
from stoker.control import judge as judging
from stoker.control import rollouts as watch
from stoker.control.costs import watch as watch_costs
from stoker.control.identity import signing_in
from stoker.control.identity import watch as watching
from stoker.control.releases import ask, gates, golden, likeness, profile, runner, swap
from stoker.core import certificates, ledger, mapping, places, pricing, purse, shares, wallet
from stoker.core import usage as sums
from stoker.core.cost import fold, timesheet
from stoker.core.gate import golden as examples
from stoker.core.rollout import decide, ending, state
from stoker.core.verdict import judge
from stoker.gateway import arms, budgets, reverts, tokens
from stoker.gateway import quotas as accounts
from stoker.gateway.http.limits import FIXED, Row
from stoker.gateway.layers import shadow
from stoker.gateway.usage import journal, shipping
from stoker.observe.notify import delivery
from stoker.placement import joined, local
from stoker.protocol import secure
from stoker.protocol.link import server as link
from stoker.runtime.sandbox import FILE_BYTES_MIN
from stoker.store import budgets as store_budgets
from stoker.store import costs, outbox, rollouts, usage, usage_records
from stoker.types import costs as cost_types
from stoker.types import identity, nodes, releases
from stoker.types import mapping as mappings
from stoker.types import rollouts as types
from stoker.types import usage as usage_types
from stoker.types.sandbox import PATHS_MAX, PORTS_MAX, Sandbox
from stoker.types.units import format_bytes


def sections() -> dict[str, list[Row]]:
    """Return the rows by title."""
    return {
        "Rollouts in a gateway": _gateway(),
        "Rollouts in control": _control(),
        "Judges and hooks": _told(),
        "Gates and dossiers": _gates(),
        "Usage": _usage(),
        "Costs": _costs(),
        "Budgets": _budgets(),
        "Quotas": _quotas(),
        "Identity": _identity(),
        "Sandbox": _sandbox(),
        "Nodes": _nodes(),
    }


def _gateway() -> list[Row]:
    return [
        ("cohorts of a rollout", str(types.COHORTS_MAX), "later ones count for everybody only", FIXED),
        ("a cohort's name", f"{types.COHORT_NAME_MAX} characters", "it is cut", FIXED),
        (
            "values of a segment whose cohort is remembered",
            str(arms.VALUES_MAX),
            "they count for everybody only",
            FIXED,
        ),
        ("deaths of replicas that wait for a judgement", str(arms.DEATHS_MAX), "the oldest is charged", FIXED),
        ("… for", _seconds(arms.FORGIVE_S), "it is charged", FIXED),
        ("tries of one death", str(arms.TRIES_MAX), "those after them are charged at once", FIXED),
        ("endpoints that it gave back to an earlier revision", str(reverts.REVERTS_MAX), "the oldest goes", FIXED),
        (
            "copies under way at once, of an endpoint",
            str(types.Mirror().in_flight_max),
            "no copy is made",
            "`spec.rollout.mirror.in_flight_max`",
        ),
        ("a request that is copied", format_bytes(shadow.BODY_MAX_BYTES), "no copy is made", FIXED),
        ("an answer that is compared", format_bytes(shadow.ANSWER_MAX_BYTES), "it is not compared", FIXED),
    ]


def _control() -> list[Row]:
    return [
        ("between two readings of a gateway", _seconds(watch.LOOK_S), "–", FIXED),
        ("a reading", _seconds(watch.ASK_TIMEOUT_S), "it comes with the next one", FIXED),
        ("gateway processes whose counts are remembered", str(state.GATEWAYS_MAX), "those heard of last stay", FIXED),
        ("cohorts that are judged", str(judge.COHORTS_MAX), "later ones count for everybody only", FIXED),
        ("findings of a verdict that are kept", str(state.FINDINGS_SHOWN), "the worst stay", FIXED),
        (
            "a step without a verdict, after its dwell",
            str(types.Rollout().analysis),
            "it is inconclusive",
            "`spec.rollout.analysis`",
        ),
        ("events of a rollout in one turn", str(decide.EVENTS_A_TURN_MAX), "the next turn goes on", FIXED),
        ("rollouts of an endpoint that have ended", str(rollouts.KEPT), "the oldest go", FIXED),
        ("entries of a timeline", str(rollouts.ENTRIES_MAX), "the oldest mere looks go", FIXED),
        ("rollouts in one answer of the API", str(api.LIMIT_MAX), "400 `invalid_input`", FIXED),
        ("a reason in words", f"{api.REASON_MAX} characters", "400 `invalid_input`", FIXED),
        ("kept requests that are sent in a round", f"{quiet.PAIRS_MAX} to each arm", "the next round goes on", FIXED),
        ("… of the newest", f"{quiet.SAMPLES_MAX} samples", "older ones are not sent", FIXED),
        ("… and an answer to one", _seconds(quiet.TIMEOUT_S), "it counts as a timeout", FIXED),
    ]


def _told() -> list[Row]:
    posted = f"{types.POSTED_MAX - 1}, and `{types.WRONG}`"
    return [
        ("metrics of judges of a rollout", posted, "400 `invalid_input`", FIXED),
        ("ids of a judge that are remembered", str(rollouts.POSTED_IDS_MAX), "an older one counts again", FIXED),
        ("requests, and bad ones, in one telling", str(api.COUNT_MAX), "400 `invalid_input`", FIXED),
        ("messages that wait for one hook", str(outbox.OUTBOX_MAX), "the oldest goes", FIXED),
        ("between two looks at what waits", _seconds(hooks.EVERY_S), "–", FIXED),
        ("between two tries of a message", _seconds(delivery.RETRY_MAX_S), "–", FIXED),
        ("a message is tried for", _seconds(delivery.GIVE_UP_S), "it is given up, with a line in the log", FIXED),
    ]


def _gates() -> list[Row]:
    left = "what was done until then is judged, and the dossier says so"
    return [
        ("examples of a file", f"{releases.GOLDEN_ROWS_MAX}", "400 `invalid_input`", FIXED),
        ("… in all", format_bytes(releases.GOLDEN_BYTES_MAX), "400 `invalid_input`", FIXED),
        ("… a line", format_bytes(examples.LINE_BYTES_MAX), "400 `invalid_input`", FIXED),
        ("tensors of a side of a mapping", str(mappings.TENSORS_MAX), "400 `invalid_input`", FIXED),
        ("entries that one takes along an axis", str(mappings.INDICES_MAX), "400 `invalid_input`", FIXED),
        ("dimensions of one of its tensors", str(mappings.DIMENSIONS_MAX), "400 `invalid_input`", FIXED),
        ("values of a constant in it", str(mapping.VALUES_MAX), "400 `invalid_input`", FIXED),
        ("asked of a new replica at once", str(golden.AT_ONCE), "the others wait", FIXED),
        ("one request of a gate", _seconds(ask.REQUEST_S), "it counts as unanswered", FIXED),
        ("all examples of a gate", _seconds(golden.SECONDS_MAX), left, FIXED),
        ("… while requests wait (`recreate`)", _seconds(golden.SWAP_SECONDS_MAX), left, FIXED),
        ("texts of a comparison", str(releases.LIKENESS_TEXTS), "400 `invalid_input`", "`spec.gates.likeness.texts`"),
        ("texts of a perplexity", str(likeness.TEXTS_MAX), "as many are read, from all over the file", FIXED),
        ("reading texts", _seconds(likeness.SECONDS_MAX), left, FIXED),
        ("tries of a comparison that finds no turn or memory", str(likeness.TRIES), "the gate is not passed", FIXED),
        ("samples that a profile looks at", str(profile.SAMPLES_MAX), "older ones are not sent", FIXED),
        ("different requests of a profile", str(profile.BODIES_MAX), "the others are not sent", FIXED),
        ("tokens of an answer to one", str(profile.TOKENS_MAX), "it ends there", FIXED),
        ("a profile", _seconds(profile.SECONDS_MAX), left, FIXED),
        ("… while requests wait (`recreate`)", f"{_seconds(profile.SWAP_SECONDS_MAX)} a round", left, FIXED),
        (
            "what a revision says before it goes (`recreate`)",
            format_bytes(swap.NOTES_BYTES_MAX),
            "the gate is not passed",
            FIXED,
        ),
        ("tries of a gate whose replica goes meanwhile", str(gates.TRIES), "the gate is not passed", FIXED),
        ("endpoints whose revisions are judged at once", str(runner.AT_ONCE), "the others wait", FIXED),
        ("dossiers of an endpoint", str(releases.DOSSIERS_MAX), "the oldest go, but of kept revisions", FIXED),
        ("a reason in a dossier", f"{releases.BECAUSE_MAX} characters", "it is cut", FIXED),
        ("entries of a timeline in a dossier", str(ending.ENTRIES_MAX), "the newest stay", FIXED),
        ("ends of rollouts written down at a time", str(rollouts.UNTOLD_MAX), "the others come next", FIXED),
        ("changes that wait for policies", str(policies.JUDGES_WAITING_MAX), "429 `busy`", FIXED),
        ("tries of a change whose surroundings change", str(policies.TRIES_MAX), "409 `conflict`", FIXED),
        ("what policies look at", format_bytes(judging.JOB_BYTES_MAX), "413 `body_too_large`", FIXED),
    ]


def _budgets() -> list[Row]:
    asks = f"every {budgets.ASK_EVERY_S:g} s, {budgets.ASK_AGAIN_S:g} s after the last where one runs out"
    return [
        ("budgets", str(store_budgets.BUDGETS_MAX), "409 `conflict`", FIXED),
        ("alerts of a budget", "8", "400 `invalid_input`", FIXED),
        ("a gateway asks for leases", asks, "–", FIXED),
        ("a lease, of what one could get", f"1/{ledger.PART} of an even share", "more when that is used", FIXED),
        ("a lease lasts at the present pace", _seconds(purse.HORIZON_S), "it is filled up at the half", FIXED),
        ("a request waits for room", _seconds(wallet.WAIT_S), "429 `budget_exceeded`, or 503", FIXED),
        ("… where some came meanwhile, and others had it", _seconds(wallet.WAIT_MAX_S), "the same", FIXED),
        ("requests that wait for room in one gateway", str(budgets.WAITING_MAX), "the same, at once", FIXED),
        ("periods that are kept", f"{store_budgets.KEPT_S / 86_400:g} days", "the oldest go", FIXED),
    ]


def _nodes() -> list[Row]:
    again = f"it is tried again, after {_seconds(intake.RETRY_FIRST_S)} to {_seconds(intake.RETRY_MAX_S)}"
    return [
        ("nodes that joined", str(nodes.NODES_MAX), "409 `conflict`", FIXED),
        ("tokens that wait for one", str(nodes.TOKENS_MAX), "409 `conflict`", FIXED),
        ("ports of a node for replicas", str(nodes.PORTS), "409 `conflict`", FIXED),
        ("a certificate holds", "86400 s", "it is renewed at half of that", "`STOKER_NODE_CERTIFICATE`"),
        ("a node's clock behind control's", _seconds(certificates.SKEW_S), "its certificate is refused", FIXED),
        ("authorities that are trusted at once", str(certificates.AUTHORITIES_MAX), "409 `conflict`", FIXED),
        ("between two looks at whom to trust", _seconds(secure.LOOK_EVERY_S), "–", FIXED),
        ("between two looks of a node at control", _seconds(node_main.SYNC_S), "–", FIXED),
        ("a node is missed after", _seconds(joined.POLL_S + local.TIMEOUT_S), "it is not ready", FIXED),
        ("a handshake at a replica", _seconds(link.HANDSHAKE_S), "the connection is cut", FIXED),
        ("connections to control or an agent, from nodes", str(far_http.CONNECTIONS_MAX), "503", FIXED),
        ("replicas whose files a node fetches", str(intake.PENDING_MAX), "429 `busy`, tried again", FIXED),
        ("a file that stalls on its way to a node", _seconds(pull.STALL_S), again, FIXED),
        ("versions that a node keeps beside those it runs", str(intake.VERSIONS_KEPT), "the oldest go", FIXED),
    ]


def _quotas() -> list[Row]:
    return [
        (
            "keys, projects and others whose limits gateways share",
            str(shares.KEYS_MAX),
            "the rest is shared evenly",
            FIXED,
        ),
        (
            "a share of a limit, or its places, without control",
            _seconds(shares.LEASE_S),
            "the even part at most",
            FIXED,
        ),
        ("a place that cannot be split stays with a gateway", _seconds(places.TURN_S), "the next one has it", FIXED),
        ("quotas that are nearly used up are looked for every", _seconds(quotas.LOOK_S), "–", FIXED),
        ("bytes of samples are measured every", _seconds(quotas.KEPT_S), "–", FIXED),
        ("uploads without a version that are counted", str(models.UPLOADS_MAX), "the oldest are not counted", FIXED),
    ]


def _usage() -> list[Row]:
    full = "503 `usage_journal_full` where a price is asked; of others the record is lost, and counted"
    return [
        ("records that are not settled", format_bytes(USAGE_JOURNAL_MAX_BYTES), full, "`STOKER_USAGE_JOURNAL_MAX`"),
        ("a segment of them", format_bytes(journal.SEGMENT_BYTES), "the next one is begun", FIXED),
        ("a batch for control", f"{shipping.BATCH_MAX} records", "the next one follows", FIXED),
        ("between two batches, and on the disk after", _seconds(shipping.EVERY_S), "–", FIXED),
        ("tags of a request, those of its key included", str(usage_types.TAGS_MAX), "400 `invalid_input`", FIXED),
        ("a tag's name, and its value", f"{usage_types.TAG_MAX} characters", "400 `invalid_input`", FIXED),
        ("sets of tags that are counted apart", str(usage.TAG_SETS_MAX), "they are `other=other`", FIXED),
        ("sums that are kept", str(usage.ROWS_MAX), "the oldest month goes", FIXED),
        ("… by the hour", f"{sums.HOURS_KEPT_S // sums.DAY_S} days", "they become days", FIXED),
        ("… by the day", f"{sums.DAYS_KEPT_S // sums.DAY_S} days", "they become months", FIXED),
        ("records kept one by one", "35 days", "the oldest go", "`STOKER_USAGE_RECORDS_DAYS`"),
        ("… of them, compressed", format_bytes(256 << 20), "the oldest go", "`STOKER_USAGE_RECORDS_MAX`"),
        ("records in a page", str(usage_records.PAGE_MAX), "the next one follows", FIXED),
        ("gateway processes whose numbers are remembered", str(usage.CURSORS_MAX), "those heard of last stay", FIXED),
        ("tokens of an answer in a bound, where none is named", str(pricing.OUTPUT_TOKENS_MAX), "–", FIXED),
    ]


def _costs() -> list[Row]:
    return [
        ("between two looks at the fleet", _seconds(watch_costs.LOOK_EVERY_S), "–", FIXED),
        (
            "a time without a look, in which machines count",
            f"{timesheet.GAP_MAX_MS // 60_000} min",
            "nobody's",
            FIXED,
        ),
        ("hours without a look that reservations are paid for", str(timesheet.HOURS_MAX), "those before do not", FIXED),
        ("after an hour, until its lines are final", _seconds(watch_costs.LATE_S), "paid in the next hour", FIXED),
        ("combinations of keys and tags in an hour", str(costs.WORKS_MAX), "they are of no key", FIXED),
        ("lines of an hour, or a day", str(fold.LINES_MAX), "the smallest lose key and tags, then revision", FIXED),
        ("lines that are kept", str(costs.ROWS_MAX), "the oldest hours become days, the oldest days go", FIXED),
        ("… by the hour", f"{costs.HOURS_KEPT_S // costs.DAY_S} days", "they become days", FIXED),
        ("… by the day", f"{costs.DAYS_KEPT_S // costs.DAY_S} days", "they go", FIXED),
        ("pools with prices", str(cost_types.POOLS_MAX), "400 `invalid_input`", FIXED),
        ("endpoints with series of their own", str(watch_costs.ENDPOINTS_MAX), "they are `other`", FIXED),
    ]


def _sandbox() -> list[Row]:
    root = "none as root but the machine's"
    tmp = Sandbox().tmp
    return [
        ("temporary files of a replica, and its shared memory, each", str(tmp), "`ENOSPC`", "`spec.sandbox.tmp`"),
        ("files in each", str(mounts.INODES_MAX), "`ENOSPC`", FIXED),
        ("processes and threads of a replica", str(mounts.PROCESSES_MAX), f"`EAGAIN`; {root}", FIXED),
        ("one file of a replica, its log too", f"{format_bytes(FILE_BYTES_MIN)}, or its memory", "`EFBIG`", FIXED),
        ("`ports`, `read` and `write`", f"{PORTS_MAX}, {PATHS_MAX} and {PATHS_MAX}", "400 `invalid_input`", FIXED),
    ]


def _identity() -> list[Row]:
    stale = "its tokens are refused until it answers"
    return [
        ("identity providers", str(identity.PROVIDERS_MAX), "409 `conflict`", FIXED),
        ("grants of one", str(identity.GRANTS_MAX), "400 `invalid_input`", FIXED),
        ("keys that one publishes", str(identity.KEYS_MAX), "none of them is taken", FIXED),
        ("an answer of one", format_bytes(oidc.ANSWER_BYTES_MAX), "it is not read", FIXED),
        ("all of an exchange with one", _seconds(oidc.ASK_S), "it is tried again, later and later", FIXED),
        ("its keys without it", _seconds(identity.KEYS_KEPT_S), stale, FIXED),
        ("its clock from ours", _seconds(identity.SKEW_S_MAX), "400 `invalid_input`", "`spec.skew`, up to that"),
        (
            "asking it again because of an unknown key",
            f"{watching.AGAIN_AT_ONCE:g} times, then every {watching.AGAIN_S:g} s",
            "401 `unauthenticated`",
            FIXED,
        ),
        ("a token", format_bytes(identity.TOKEN_BYTES_MAX), "401 `unauthenticated`", FIXED),
        ("tokens that a gateway knows", str(tokens.VERIFIED_MAX), "one seen long ago is verified again", FIXED),
        ("limited subjects with tokens in a gateway", str(accounts.GUESTS_MAX), "the first seen begins anew", FIXED),
        ("sessions", str(identity.SESSIONS_MAX), "409 `conflict`", FIXED),
        ("… of one person", str(identity.SESSIONS_EACH_MAX), "their oldest ends", FIXED),
        ("a sign-in, until it comes back", _seconds(signing_in.SIGN_IN_S), "it is begun again", FIXED),
        ("an ID token that a session is made of", f"{signing_in.FRESH_S:g} s old, once", "401", FIXED),
        ("codes that are redeemed at once", str(signing_in.AT_ONCE), f"{signing_in.WAITING_MAX} wait, then 429", FIXED),
    ]


def _seconds(value: float) -> str:
    return f"{value:g} s"
