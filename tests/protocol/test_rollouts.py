"""What is wrong with a rollout in a manifest is said with its line; what is right in YAML is taken."""

import pytest

from stoker.protocol import manifest
from stoker.types.resources import Endpoint

HEAD = """apiVersion: stoker/v1
kind: Endpoint
metadata: {name: digits}
spec:
  model: digits
  rollout:
"""


def test_every_field_of_a_hook_can_be_written_in_yaml() -> None:
    text = HEAD + (
        "    steps: [10, 50]\n    pause_at: [10]\n    segments: [tenant, size, header:X-Region]\n"
        "    sticky: header:X-User\n    hooks:\n"
        "      - {webhook: 'https://ci/x', secret: ci, events: [verdict, promoted]}\n"
        "      - {webhook_from: 'vault:kv/ci#url', sign_with: 'env:STOKER_SECRET_CI'}\n"
    )
    (found,) = manifest.load(text.encode())
    assert isinstance(found, Endpoint)
    assert found.spec.rollout.hooks[0].events == ("verdict", "promoted")


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("steps: [50, 10]", "spec.rollout.steps"),
        ("steps: [10, 10]", "spec.rollout.steps"),
        ("steps: [100]", "spec.rollout.steps"),
        ("pause_at: [20]", "spec.rollout.pause_at"),
        ("segments: [country]", "spec.rollout.segments"),
        ('segments: ["header:"]', "spec.rollout.segments"),
        ("sticky: moon", "spec.rollout.sticky"),
        ("hooks: [{webhook: 'file:///etc/passwd'}]", "spec.rollout.hooks[0].webhook"),
        ("hooks: [{webhook: 'http:///x'}]", "spec.rollout.hooks[0].webhook"),
        ("hooks: [{webhook: 'http://a:b@c'}]", "spec.rollout.hooks[0].webhook"),
        ("hooks: [{webhook: 'https://hooks.slack.com/services/T0/B0/x'}]", "spec.rollout.hooks[0].webhook"),
        ("hooks: [{events: [step]}]", "spec.rollout.hooks[0].webhook"),
        ("hooks: [{webhook: 'http://ci', webhook_from: 'env:A'}]", "spec.rollout.hooks[0].webhook_from"),
        ("hooks: [{webhook_from: 'http://ci'}]", "spec.rollout.hooks[0].webhook_from"),
        ("hooks: [{webhook: 'http://ci', secret: a, sign_with: 'env:A'}]", "spec.rollout.hooks[0].sign_with"),
        ("hooks: [{webhook: 'http://ci', secret: ../credentials.json}]", "spec.rollout.hooks[0].secret"),
        ("hooks: [{webhook: 'http://ci', events: [never]}]", "spec.rollout.hooks[0].events"),
    ],
)
def test_what_cannot_be_is_refused_at_its_line(line: str, field: str) -> None:
    with pytest.raises(manifest.ManifestError) as refused:
        manifest.load(f"{HEAD}    {line}\n".encode())
    (problem,) = refused.value.problems
    assert problem.field.startswith(field)
    assert problem.line == 7
