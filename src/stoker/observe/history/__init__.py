"""What every metric was: collected from all processes, kept for 400 days, and asked in one small language.

The collector (collect.py) samples every process each TICK_S. What changed goes into the ring (ring.py: the last 70
minutes in memory) and, a minute at a time, into metrics.db (tables.py: minutes for 7 days, five minutes for 35, hours
for 400). Who asks needs port.py alone:

    from stoker.observe.port import Questions, select

    failed = select("stoker_requests_total", project="default", endpoint="chat", code=like("5.."))
    every = select("stoker_requests_total", project="default", endpoint="chat")
    (bad_5m, bad_1h), (all_5m, all_1h) = await history.sums([failed, every], [300.0, 3600.0])

    fast = select("stoker_request_duration_seconds", at_most=0.3, project="default", endpoint="chat")
    by_revision = await history.sums_by(every, ("revision",), [3600.0])     # {("default.chat-2",): (1041.0,)}
    before = await history.distribution(latency, 3600.0, end_s=alarm_s)     # .quantile(0.99), .count, .mean
    chart = await history.series(depth, since_s=3600.0, step_s=60.0, by=("endpoint",))
    answer = await history.query("ratio(rate by (endpoint) (…), rate by (endpoint) (…))", since_s=86400.0, step_s=300)

Every moment is unix seconds, every window ends at `now_s`/`end_s` (left out: now). All of it runs in threads; nothing
here blocks the event loop.
"""
