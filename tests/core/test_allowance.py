"""What a project asks for is counted as what its endpoints may have, and only growth over a quota is refused."""

from hypothesis import given
from hypothesis import strategies as st

from stoker.core.allowance import Taken, near, over, taken, uses
from stoker.types.quotas import ProjectQuota
from stoker.types.resources import Backend, EndpointSpec, Replicas, Resources

TAKEN = st.builds(
    Taken, st.integers(0, 9), st.integers(0, 9), st.floats(0, 9), st.integers(0, 9 << 30), st.floats(0, 9)
)
QUOTA = st.builds(
    ProjectQuota,
    endpoints=st.none() | st.integers(0, 9),
    replicas=st.none() | st.integers(0, 9),
    cpu=st.none() | st.floats(0, 9),
    memory=st.none() | st.integers(0, 9).map(lambda size: f"{size}Gi"),
    gpu=st.none() | st.floats(0, 9),
    warn_at=st.floats(0.1, 1),
)


def test_replicas_count_at_their_most_and_tiers_have_none() -> None:
    two = EndpointSpec(model="m", replicas=Replicas(0, 3), resources=Resources(cpu=0.5, memory="2Gi", gpu=0.5))
    tier = EndpointSpec(backends=(Backend("a"),), replicas=Replicas(1, 5))
    assert taken([two, tier]) == Taken(endpoints=2, replicas=3, cpu=1.5, memory=6 << 30, gpu=1.5)


@given(QUOTA, TAKEN, TAKEN)
def test_what_is_refused_grew_and_is_over_and_nothing_else_is(quota: ProjectQuota, before: Taken, after: Taken) -> None:
    had = {each.name: each.used for each in uses(quota, before)}
    wanted = [each for each in uses(quota, after) if each.used > each.limit and each.used > had[each.name]]
    assert len(list(over(quota, before, after))) == len(wanted)
    assert not list(over(quota, after, after))


@given(QUOTA, TAKEN)
def test_a_quota_that_is_lowered_stops_growth_and_nothing_that_is_there(quota: ProjectQuota, now: Taken) -> None:
    smaller = Taken(now.endpoints, max(0, now.replicas - 1), now.cpu / 2, now.memory // 2, now.gpu / 2)
    assert not list(over(quota, now, smaller))
    assert not list(near(quota, now, smaller))


def test_the_arithmetic_is_said() -> None:
    quota = ProjectQuota(replicas=12, memory="4Gi")
    ((field, why),) = over(quota, Taken(replicas=9), Taken(replicas=13, memory=2 << 30))
    assert field == "spec.replicas.max"
    assert why == "its endpoints would ask for 13 replicas, the quota is 12 replicas; they ask for 9 replicas now"
    ((field, why),) = over(quota, Taken(), Taken(memory=5 << 30))
    assert "5.0 GiB of memory, the quota is 4.0 GiB of memory" in why
    assert list(near(quota, Taken(), Taken(replicas=10))) == [
        "10 replicas of the project's quota of 12 replicas are asked for"
    ]


def test_what_no_quota_names_is_not_limited() -> None:
    much = Taken(10**6, 10**6, 1e9, 10**18, 1e9)
    assert not list(over(ProjectQuota(), Taken(), much))
    assert uses(ProjectQuota(), much) == ()
