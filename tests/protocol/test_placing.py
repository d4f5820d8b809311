"""What a manifest cannot ask of placement."""

import pytest

from stoker.protocol.manifest import ManifestError, load

TEXT = """
apiVersion: stoker/v1
kind: Endpoint
metadata: {{name: a}}
spec:
  model: m
  {line}
"""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("resources: {gpu: 1.5}", "line 7: spec.resources.gpu: 1.5 is neither a share of one GPU (below 1) nor"),
        ("resources: {gpu: 65}", "spec.resources.gpu"),
        ("placement: {apart: [b, a]}", "line 7: spec.placement.apart: it cannot be apart from itself"),
        ("placement: {spread: perhaps}", "spec.placement.spread"),
        ("placement: {pool: Large_1}", "spec.placement.pool"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_its_line(line: str, said: str) -> None:
    with pytest.raises(ManifestError) as refused:
        load(TEXT.format(line=line))
    assert said in str(refused.value)


@pytest.mark.parametrize("gpu", [0, 0.25, 1, 8])
def test_shares_and_whole_numbers_of_gpus_can_be_asked(gpu: float) -> None:
    load(TEXT.format(line=f"resources: {{gpu: {gpu}}}"))
