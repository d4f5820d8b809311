"""Whether a new revision is worse than the one that serves, judged while its requests come in. Pure.

odds.py     how strongly counts of bad events say that they are likelier in the canary
excess.py   the same against a share that is allowed, where there is no other arm
spread.py   by how much the canary's latencies are surely longer
judge.py    one verdict of all that is watched, for everybody and for each cohort

All three may be asked after every request: their promise of false alarms holds for the whole rollout, not for a look.
"""
