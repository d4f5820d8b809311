"""The policies that come with stoker: none is in force before somebody enables or applies it."""

from typing import Final

from stoker.protocol import manifest
from stoker.types.resources import Policy

STARTER: Final = """
apiVersion: stoker/v1
kind: Policy
metadata: {name: signed-only}
spec:
  description: what is served is signed by a key that the project trusts
  rules:
    - name: signed
      # A version without files is somebody else's server: there is nothing to sign.
      expression: version == null || version.files.size() == 0 || version.signature == 'verified'
      message_expression: >-
        version.ref + ' is not signed by anyone this project trusts (' + version.signature + '); sign it: stoker models
        sign ' + version.ref + ' --key FILE, or trust its signer: stoker trust add'
      field: spec.model
---
apiVersion: stoker/v1
kind: Policy
metadata: {name: no-pickle}
spec:
  description: no version has a Python pickle in it, by its bytes or by its name
  match:
    kinds: [Endpoint, Model]
    operations: [push, create, update, release]
  variables:
    - name: pickles
      expression: version.files.filter(f, f.is_pickle || f.path.matches('(?i)[.](pkl|pickle|joblib|dill|pt|pth|ckpt)$'))
  rules:
    - name: none
      expression: version == null || variables.pickles.size() == 0
      message_expression: >-
        version.ref + ' has a pickle, ' + variables.pickles[0].path + '; save the model as ONNX, safetensors, skops or
        GGUF'
      field: spec.model
---
apiVersion: stoker/v1
kind: Policy
metadata: {name: within-pool}
spec:
  description: every replica that shall run fits the nodes that there are; what already runs is not counted
  variables:
    # Of endpoints that only stand for others, and while no node is known, there is nothing to compare.
    - name: asks
      expression: resource.spec.backends.size() == 0 && pool.nodes.size() > 0
  rules:
    - name: one-replica
      expression: >-
        !variables.asks || pool.nodes.exists(n, n.pool == resource.spec.placement.pool
        && resource.spec.resources.cpu <= n.cores && resource.spec.resources.memory <= n.memory_bytes)
      message_expression: >-
        'no node of the pool ' + resource.spec.placement.pool + ' has ' + string(resource.spec.resources.cpu) +
        ' cores and ' + string(resource.spec.resources.memory / 1048576) + ' MiB of memory; ask for less, or add a node'
      field: spec.resources
    - name: all-replicas
      expression: >-
        !variables.asks || (double(resource.spec.replicas.min) * resource.spec.resources.cpu <= pool.cores
        && resource.spec.replicas.min * resource.spec.resources.memory <= pool.memory_bytes)
      message_expression: >-
        string(resource.spec.replicas.min) + ' replicas need more than the ' + string(pool.cores) + ' cores and ' +
        string(pool.memory_bytes / 1048576) + ' MiB that all nodes have together; run fewer, or add a node'
      field: spec.replicas.min
---
apiVersion: stoker/v1
kind: Policy
metadata: {name: production-promises}
spec:
  description: an endpoint with the label env=production promises its callers something
  match:
    labels: {env: production}
  rules:
    - name: objective
      expression: slos.size() > 0
      message: a production endpoint has no objective; add one to spec.slos, such as availability 0.999
      field: spec.slos
---
apiVersion: stoker/v1
kind: Policy
metadata: {name: owner-and-runbook}
spec:
  description: who is woken knows whom to ask and what to do
  variables:
    - name: labels
      expression: resource.metadata.labels
  rules:
    - name: owner
      expression: has(variables.labels.owner) && variables.labels.owner != ''
      message: nobody owns it; set the label owner to a team or a person
      field: metadata.labels.owner
    - name: runbook
      expression: has(variables.labels.runbook) && variables.labels.runbook.matches('^https?://')
      message: it has no runbook; set the label runbook to the address of one
      field: metadata.labels.runbook
---
apiVersion: stoker/v1
kind: Policy
metadata: {name: sandbox-on}
spec:
  description: replicas run in a sandbox, without a network or files that nobody looked at
  variables:
    # Endpoints that only stand for others have no replicas.
    - name: runs
      expression: resource.spec.backends.size() == 0
  rules:
    - name: level
      expression: "!variables.runs || resource.spec.sandbox.level != 'off'"
      message: >-
        the sandbox is off, so the model's code may do what the platform's user may; leave spec.sandbox.level out, or
        ask whoever holds this policy
      field: spec.sandbox.level
    - name: network
      expression: "!variables.runs || resource.spec.sandbox.network != 'open'"
      message: replicas may call every address; name the ports they need in spec.sandbox.ports
      field: spec.sandbox.network
      enforcement: warn
    - name: paths
      expression: "!variables.runs || resource.spec.sandbox.write.size() == 0"
      message: replicas may write folders that outlive them, and that others read
      field: spec.sandbox.write
      enforcement: warn
"""


def starter() -> dict[str, tuple[Policy, str]]:
    """Return the policies that come with stoker by name, each with its text."""
    texts = [text.strip() for text in STARTER.split("\n---\n")]
    policies = [each for each in manifest.load(STARTER) if isinstance(each, Policy)]
    return {each.metadata.name: (each, text) for each, text in zip(policies, texts, strict=True)}
