"""What is measured in each gateway: requests and their answers, queues, tries, keys, connections."""

from typing import Final

from stoker.telemetry.catalogue.metric import ENDPOINT, REVISION, Metric

GATEWAY: Final[tuple[Metric, ...]] = (
    # The data plane, measured in each gateway.
    Metric(
        "stoker_requests_total",
        "counter",
        "",
        (*REVISION, "method", "code"),
        "Requests answered, by HTTP status; 499 where the client went away first.",
    ),
    Metric(
        "stoker_request_duration_seconds",
        "histogram",
        "seconds",
        (*REVISION, "method"),
        "From the request's head to the last byte of its answer.",
    ),
    Metric(
        "stoker_time_to_first_token_seconds",
        "histogram",
        "seconds",
        (*REVISION, "method"),
        "From the request's head to the first byte of a streamed answer.",
    ),
    Metric(
        "stoker_time_per_output_token_seconds",
        "histogram",
        "seconds",
        (*REVISION, "method"),
        "Of a streamed answer: time after the first token, per token after the first.",
    ),
    Metric(
        "stoker_inter_token_latency_seconds",
        "histogram",
        "seconds",
        REVISION,
        "Between two pieces of a streamed answer, as they leave for the client. One piece is mostly one token.",
    ),
    Metric(
        "stoker_request_phase_seconds",
        "histogram",
        "seconds",
        (*REVISION, "phase"),
        "Where the time of an answered request went. In their order: receive (its body), auth (and reading it), admit "
        "(limits, kept answers), retry (tries that failed), queue (for a place), route, replica_queue (its engine was "
        "busy), batch_wait (its engine was free), compute or prefill and decode, network (all the rest between gateway "
        "and engine). Together they are its duration; of receive, retry and queue only what happened is counted. "
        "Of more than 200 requests a second, one of N is looked at and counts for N.",
    ),
    Metric("stoker_prompt_tokens", "histogram", "tokens", (*REVISION, "method"), "Tokens of a prompt."),
    Metric("stoker_output_tokens", "histogram", "tokens", (*REVISION, "method"), "Tokens of an answer."),
    Metric(
        "stoker_speculative_tokens_total",
        "counter",
        "tokens",
        (*REVISION, "outcome"),
        "Tokens that an engine guessed ahead; outcome is accepted or rejected. Only of engines that say so.",
    ),
    Metric(
        "stoker_empty_outputs_total",
        "counter",
        "",
        REVISION,
        "Answers of a language model that are one token long or none: mostly only the mark of the end.",
    ),
    Metric(
        "stoker_repeating_outputs_total",
        "counter",
        "",
        REVISION,
        "Answers of a language model that end in a loop: one unit of text five times or more, over 160 characters or "
        "more. Not seen of servers elsewhere.",
    ),
    Metric(
        "stoker_client_retries_total",
        "counter",
        "",
        ENDPOINT,
        "Requests that their client sent again, as OpenAI's SDKs say in x-stainless-retry-count.",
    ),
    Metric(
        "stoker_tenant_requests_total",
        "counter",
        "",
        (*ENDPOINT, "tenant", "code"),
        "Requests by who asked (a key's tenant, or the key). The busiest have a name, the rest is _other.",
    ),
    Metric(
        "stoker_tenant_tokens_total",
        "counter",
        "tokens",
        (*ENDPOINT, "tenant", "kind"),
        "Tokens by who asked; kind is input, output or cached.",
    ),
    Metric(
        "stoker_tenant_queue_wait_seconds",
        "histogram",
        "seconds",
        (*ENDPOINT, "tenant"),
        "Time that requests waited for a place in a replica, by who asked.",
    ),
    Metric(
        "stoker_tokens_total",
        "counter",
        "tokens",
        (*REVISION, "kind"),
        "Tokens; kind is input, output, cached (of the input), or saved: of answers given again without computing.",
    ),
    Metric("stoker_rows_total", "counter", "rows", REVISION, "Rows predicted or embedded."),
    Metric("stoker_queue_depth", "gauge", "", ENDPOINT, "Requests that wait in the gateway for a replica."),
    Metric("stoker_queue_wait_seconds", "histogram", "seconds", ENDPOINT, "Time a request waited in the gateway."),
    Metric(
        "stoker_cold_requests_total",
        "counter",
        "",
        ENDPOINT,
        "Requests that had to wait while no replica was ready.",
    ),
    Metric("stoker_in_flight", "gauge", "", ENDPOINT, "Requests sent to a replica and not yet ended."),
    Metric(
        "stoker_retries_total",
        "counter",
        "",
        (*ENDPOINT, "reason"),
        "Requests tried again on a replica, by the error code of the failed try.",
    ),
    Metric(
        "stoker_fallbacks_total",
        "counter",
        "",
        (*ENDPOINT, "reason", "to"),
        "Requests for an endpoint that went on to another; reason is error, unavailable, timeout, overload or open.",
    ),
    Metric(
        "stoker_breaker_state",
        "gauge",
        "",
        (*ENDPOINT, "process"),
        "Of an endpoint that falls back, is fallen back to or is a backend: 0 closed, 1 half-open, 2 open.",
        "max",
    ),
    Metric("stoker_rule_errors_total", "counter", "", ENDPOINT, "Rules of backends that failed, and so did not hold."),
    Metric(
        "stoker_retries_denied_total",
        "counter",
        "",
        (*ENDPOINT, "reason"),
        "Failed tries that were not followed by another: reason is budget, tries, or wait (full for too long).",
    ),
    Metric(
        "stoker_migrations_total",
        "counter",
        "",
        (*ENDPOINT, "reason", "outcome"),
        "Streams cut in the middle, by the error code of the cut; outcome is done, gone, failed or declined.",
    ),
    Metric(
        "stoker_rollout_tries_total",
        "counter",
        "",
        (*ENDPOINT, "arm", "outcome"),
        "While a rollout runs: first tries of its arms (canary, baseline), by what came of them: good, error, timeout, "
        "invalid or slow; the worst, where it is more than one.",
    ),
    Metric(
        "stoker_rollout_reverted",
        "gauge",
        "",
        (*ENDPOINT, "process"),
        "1 while this gateway gives all traffic to an earlier revision without having been told so by control.",
    ),
    Metric(
        "stoker_shadow_copies_total",
        "counter",
        "",
        (*ENDPOINT, "outcome"),
        "Requests copied to a shadow: agreed, disagreed, not_compared (too large, or the baseline's was not "
        "good), failed, or dropped because it had no free place.",
    ),
    Metric(
        "stoker_shadow_wasted_seconds_total",
        "counter",
        "seconds",
        ENDPOINT,
        "How long copies held a place in a replica of the shadow. No tenant is charged for them.",
    ),
    Metric(
        "stoker_hedges_total",
        "counter",
        "",
        (*ENDPOINT, "outcome"),
        "Second tries beside a slow first one; outcome is won, lost, failed, or denied (no budget or no free place).",
    ),
    Metric(
        "stoker_hedge_wasted_seconds_total",
        "counter",
        "seconds",
        ENDPOINT,
        "How long the losing try of each hedged request held its place in a replica.",
    ),
    Metric(
        "stoker_hedge_wasted_rows_total",
        "counter",
        "rows",
        ENDPOINT,
        "Rows of the losing tries of hedged requests; some were not computed before the try was cancelled.",
    ),
    Metric(
        "stoker_quarantined_total",
        "counter",
        "",
        ENDPOINT,
        "Request shapes put into quarantine because replicas died with them.",
    ),
    Metric(
        "stoker_ejections_total",
        "counter",
        "",
        (*ENDPOINT, "reason"),
        "Replicas taken out of rotation, by what was seen of them: silent, stuck, errors or slow.",
    ),
    Metric(
        "stoker_route_choices_total",
        "counter",
        "",
        (*ENDPOINT, "why"),
        "Choices between several replicas, by what decided: two_choices, session, affinity, explore, overloaded_owner, "
        "or probe for one that is out.",
    ),
    Metric(
        "stoker_prefix_guesses_total",
        "counter",
        "",
        (*ENDPOINT, "guess", "actual"),
        "Answers to prompts, by whether their beginning was thought to be in the replica's cache, and was.",
    ),
    Metric(
        "stoker_refused_total",
        "counter",
        "",
        (*ENDPOINT, "reason"),
        "Requests refused before a replica saw them, by error code.",
    ),
    Metric(
        "stoker_cancelled_total", "counter", "", ENDPOINT, "Requests whose client went away before the answer's end."
    ),
    Metric("stoker_cache_hits_total", "counter", "", ENDPOINT, "Requests answered with a kept answer."),
    Metric(
        "stoker_cache_misses_total",
        "counter",
        "",
        ENDPOINT,
        "Requests that a kept answer could have served, had there been one.",
    ),
    Metric("stoker_cache_bytes", "gauge", "bytes", ENDPOINT, "What the kept answers take in memory."),
    Metric(
        "stoker_samples_total",
        "counter",
        "",
        (*ENDPOINT, "reason"),
        "Requests kept as samples: drawn, flagged, error, slow; one that is several counts under each.",
    ),
    Metric("stoker_samples_bytes_total", "counter", "bytes", ENDPOINT, "What the kept samples took on the disk."),
    Metric(
        "stoker_samples_dropped_total",
        "counter",
        "",
        (*ENDPOINT, "reason"),
        "Samples that were not kept: hour (per_hour is reached), queue (more than the thread that redacts can take), "
        "disk (it is full or cannot be written), key (the keys cannot be read), bug.",
    ),
    Metric(
        "stoker_first_attempts_total",
        "counter",
        "",
        (*REVISION, "outcome"),
        "Requests that objectives judge: good, or bad by a fault of the platform. Not what a caller did wrong, and not "
        "what a client library sends again.",
    ),
    Metric(
        "stoker_tenant_first_attempts_total",
        "counter",
        "",
        (*ENDPOINT, "tenant", "outcome"),
        "The same, of each tenant that has an objective of its own, by the endpoint that it asked.",
    ),
    *(
        Metric(
            name, "histogram", "seconds", (*ENDPOINT, "tenant"), f"{what}, of each tenant that has an objective for it."
        )
        for name, what in (
            ("stoker_tenant_request_duration_seconds", "Time until the last byte of an answer"),
            ("stoker_tenant_time_to_first_token_seconds", "Time until the first token of a streamed answer"),
            ("stoker_tenant_time_per_output_token_seconds", "Mean time per token of a streamed answer"),
        )
    ),
    Metric(
        "stoker_coalesced_total", "counter", "", ENDPOINT, "Requests that shared the call of an equal one in flight."
    ),
    Metric(
        "stoker_replicas_ready",
        "gauge",
        "",
        ENDPOINT,
        "Replicas a gateway may send to: connected and not ejected.",
        "max",
    ),
    Metric(
        "stoker_gateway_build_info",
        "gauge",
        "",
        ("process", "version", "build"),
        "1; version is stoker's, build whether the hot path is compiled or interpreted.",
        "max",
        kept=False,
    ),
    Metric("stoker_gateway_connections", "gauge", "", ("process",), "Client connections open now."),
    Metric("stoker_route_table_version", "gauge", "", ("process",), "Version of the route table in use.", "max"),
    Metric(
        "stoker_tls_certificate_expiry_timestamp_seconds",
        "gauge",
        "seconds",
        ("process",),
        "When the certificate that clients are shown ends, in unix time.",
    ),
    Metric(
        "stoker_tls_handshakes_total",
        "counter",
        "",
        ("process", "result"),
        "Handshakes with clients; result is made, failed, plain (no TLS was spoken) or gone (too slow, or left).",
    ),
    Metric(
        "stoker_tls_reloads_total",
        "counter",
        "",
        ("process", "result"),
        "New certificates found; result is taken, or refused (no pair, broken), and then the old one stays.",
    ),
    Metric(
        "stoker_traces_kept_total",
        "counter",
        "",
        ("because",),
        "Requests that left a trace: sampled, caller, error, migrated, fallback, retried, hedged, slow or refused.",
    ),
    Metric(
        "stoker_traces_dropped_total",
        "counter",
        "",
        ("because",),
        "Requests that would have left a trace, had there not been so many in that second.",
    ),
    Metric(
        "stoker_guesses_refused_total",
        "counter",
        "",
        ("process",),
        "Keys that were none, from addresses that had sent too many of them: answered with 429.",
    ),
    Metric(
        "stoker_tokens_refused_total",
        "counter",
        "",
        ("process", "reason"),
        "Tokens of identity providers that did not hold, by what was wrong with them.",
    ),
    Metric(
        "stoker_access_log_dropped_total",
        "counter",
        "",
        ("process",),
        "Lines of the access log that were not written: too many came, or the disk did not take them.",
    ),
)
