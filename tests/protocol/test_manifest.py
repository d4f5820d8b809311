import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stoker.protocol import manifest, yamltree
from stoker.protocol.manifest import Change, ManifestError, Problem
from stoker.types.models import TensorSpec
from stoker.types.resources import (
    Batching,
    Cache,
    Endpoint,
    EndpointSpec,
    Limits,
    Metadata,
    Pad,
    Project,
    Replicas,
    Resource,
    Resources,
)

SMALL = "kind: Endpoint\nmetadata: {name: a}\nspec: {model: a@1}\n"

BAD = """\
apiVersion: stoker/v2
kind: Endpoint
metadata: {name: Digits, projekt: x}
spec:
  model: digits@@1
  taks: predict
  resources: {cpu: -1, memory: 12Qi}
  replicas: {min: 3, max: "2"}
  env: {A: 1}
  limits:
  options: {x: on}
---
kind: Endpont
---
kind: Endpoint
metadata: {name: a}
spec:
  model: a@
  replicas: {min: 3}
  limits: {timeout: 2d}
  env: {"a b": x, STOKER_X: y}
---
- 1
"""


def problems(text: str | bytes) -> list[tuple[int, str, str]]:
    with pytest.raises(ManifestError) as caught:
        manifest.load(text)
    return [(problem.line, problem.field, problem.message) for problem in caught.value.problems]


def test_every_error_is_reported_at_once_with_its_line_and_field() -> None:
    found = problems(BAD)
    assert [(line, field) for line, field, _ in found] == [
        (1, "apiVersion"),
        (3, "metadata.name"),
        (3, "metadata.projekt"),
        (6, "spec.taks"),
        (7, "spec.resources.cpu"),
        (7, "spec.resources.memory"),
        (8, "spec.replicas.max"),
        (9, "spec.env.A"),
        (10, "spec.limits"),
        (11, "spec.options.x"),
        (13, "kind"),
        (18, "spec.model"),
        (19, "spec.replicas.max"),
        (20, "spec.limits.timeout"),
        (21, "spec.env.a b"),
        (21, "spec.env.STOKER_X"),
        (23, ""),
    ]
    said = {field: message for _, field, message in found}
    assert said["spec.taks"] == "unknown field; did you mean task?"
    assert said["kind"] == "'Endpont' is not a kind; did you mean Endpoint?"
    assert "such as 512Mi" in said["spec.resources.memory"]
    assert said["spec.env.A"] == 'expected text, got 1; write it in quotes: "1"'
    assert "lower-case letters" in said["metadata.name"]


def test_the_message_of_the_error_lists_the_problems_and_its_field_is_the_first() -> None:
    with pytest.raises(ManifestError, match=r"line 1: kind: missing; known: Endpoint, Project") as caught:
        manifest.load("metadata: {name: a}")
    assert (caught.value.field, caught.value.status) == ("kind", 400)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\na: 2", "given twice, first at line 1"),
        ("a: on", "boolean to some YAML readers"),
        ("a: Yes", "boolean to some YAML readers"),
        ("off: 1", "boolean to some YAML readers"),
        ("a: 12:30", "different numbers"),
        ("a: 12:30:45", "different numbers"),
        ("a: 0777", "different numbers"),
        ("a: 0x1F", "different numbers"),
        ("a: 1_000", "different numbers"),
        ("a: .inf", "different numbers"),
        ("a: -.NaN", "different numbers"),
        ("a: 1e999", "too large"),
        ("a: 123456789012345678901234567890", "too large"),
        ("a: !!python/object:os.system x", "tag"),
        ("a: !thing {}", "tag"),
        ("a: {<<: {b: 1}}", "merge keys"),
        ("? [a]\n: b", "a key must be plain text"),
        ("a: &x [*x]", "refers to nothing before it, or to itself"),
        ("a: *nothing", "nothing before it"),
        ("a: b: c", "not YAML"),
        ("a: [1, 2", "not YAML"),
        ("\ta: 1", "not YAML"),
        ("a: \x07", "not YAML"),
        ("a: '\ud800'", "not YAML"),
        ('{"a": "\\ud800"}', "not YAML"),
        (b"a: \xff", "not UTF-8"),
        ("[" * 100_000, "nested deeper"),
        ("{a: " * 5_000, "nested deeper"),
        ("a: " + "x" * 2_000_000, "longer than"),
        ("- 1\n" * 30_000, "more than 20000 values"),
        ("".join(f"---\nkind: Project\nmetadata: {{name: p{n}}}\n" for n in range(300)), "more than 256 documents"),
        ("", "no resource in it"),
        ("# only a comment\n---\n---\n", "no resource in it"),
        ("42", "expected a resource"),
        ("kind: [Endpoint]", "missing; known"),
    ],
)
def test_what_could_surprise_or_exhaust_is_refused(text: str | bytes, said: str) -> None:
    assert any(said in message for _, _, message in problems(text)), problems(text)


def test_a_bomb_of_aliases_is_refused_before_it_unfolds() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert any("aliases counted" in message for _, _, message in problems("\n".join(lines)))


def test_lines_point_into_the_text_also_after_comments_and_in_later_documents() -> None:
    text = SMALL + "# a comment\n---\n\n# another\nkind: Project\nmetadata:\n  name: b\n  x: 1\n"
    assert problems(text) == [(11, "metadata.x", "unknown field; known: name, labels")]
    assert problems(b"kind: Project\nmetadata:\n  name: b\n  bad: \xff")[0][0] == 4


def test_json_is_read_too_with_tabs_escapes_and_lists() -> None:
    text = '[\n\t{"kind": "Project",\t"metadata": {"name": "a", "labels": {"l": "\\ud83d\\ude00\\t\\\\u0041\\/"}}}\n]'
    assert manifest.load(text) == [
        Project(
            metadata=msgspec.convert(
                {"name": "a", "labels": {"l": "😀\t\\u0041/"}}, Project.__annotations__["metadata"]
            )
        )
    ]
    assert problems('{"kind": "Project",\n"metadata": {"name": "a",\n"name": "b"}}')[0][0] == 3


def test_words_that_all_yaml_readers_agree_on_keep_their_meaning() -> None:
    text = SMALL.replace(
        "a@1", "a@1, options: {t: true, f: False, n: null, i: -3, x: 1.5, e: 2e3, s: '12:30', d: 2024-01-02}"
    )
    (endpoint,) = manifest.load(text)
    assert isinstance(endpoint, Endpoint)
    assert endpoint.spec.options == {
        "t": True,
        "f": False,
        "n": None,
        "i": -3,
        "x": 1.5,
        "e": 2000.0,
        "s": "12:30",
        "d": "2024-01-02",
    }


def test_aliases_within_the_maxima_may_be_used() -> None:
    text = """
    - {kind: Project, metadata: {name: a, labels: &labels {x: y}}}
    - {kind: Endpoint, metadata: {name: b, labels: *labels}, spec: {model: m}}
    """
    assert len(manifest.load(text)) == 2


@pytest.mark.parametrize(
    ("spec", "field", "said"),
    [
        ("model: 1", "spec.model", "in quotes"),
        ("model: m@0", "spec.model", "NAME@2"),
        ("model: m@sha256:12", "spec.model", "NAME@sha256"),
        ('model: "m\\n"', "spec.model", "NAME@2"),
        ("model: m, task: predictt", "spec.task", "did you mean predict?"),
        ("model: m, resources: {memory: -1}", "spec.resources.memory", "negative"),
        ("model: m, resources: {memory: 1Ki}", "spec.resources.memory", "less than 1Mi"),
        ("model: m, resources: {cpu: true}", "spec.resources.cpu", "expected a number, got true"),
        ("model: m, resources: {memory: [1]}", "spec.resources.memory", "expected text or a whole number, got a list"),
        ("model: m, limits: {timeout: 30 parsecs}", "spec.limits.timeout", "such as 30s"),
        ("model: m, limits: {timeout: 0}", "spec.limits.timeout", "between 0 and one day"),
        ("model: m, cache: {ttl: 0}", "spec.cache.ttl", "between 0 and 30 days"),
        ("model: m, cache: {ttl: 31d}", "spec.cache.ttl", "between 0 and 30 days"),
        ("model: m, cache: {ttl: soon}", "spec.cache.ttl", "such as 30s"),
        ("model: m, cache: {max_bytes: 1Ki}", "spec.cache.max_bytes", "between 64Ki and 64Gi"),
        ("model: m, cache: true", "spec.cache", "expected"),
        ("model: m, samples: {rate: 1.5}", "spec.samples.rate", "1.5 is more than 1"),
        ("model: m, samples: {slow: soon}", "spec.samples.slow", "none of p99, never"),
        ("model: m, samples: {slow: 0}", "spec.samples.slow", "write p99"),
        ("model: m, samples: {max_bytes: 2Mi}", "spec.samples.max_bytes", "between 1 byte and 1Mi"),
        ("model: m, samples: {ttl: 2y}", "spec.samples.ttl", "such as 30s"),
        ("model: m, samples: {ttl: 401d}", "spec.samples.ttl", "400 days"),
        ("model: m, samples: {patterns: {own: '(a+)+'}}", "spec.samples.patterns.own", "bound every repeat"),
        ("model: m, samples: {patterns: {Own: a}}", "spec.samples.patterns.Own", "no name for a pattern"),
        ("model: m, samples: {patterns: {card: a}}", "spec.samples.patterns.card", "hidden already"),
        ("model: m, limits: {queue_max: 1.5}", "spec.limits.queue_max", "expected a whole number, got 1.5"),
        ("model: m, limits: {queue_max: 100001}", "spec.limits.queue_max", "is more than 100000"),
        ("model: m, replicas: {max: -1}", "spec.replicas.max", "less than 0"),
        ("model: m, scaling: {drain: 0}", "spec.scaling.drain", "between 0 and one day"),
        ("model: m, scaling: {idle_timeout: 8d}", "spec.scaling.idle_timeout", "more than seven days"),
        ("model: m, scaling: {signals: [kv, kv]}", "spec.scaling.signals", "there twice"),
        ("model: m, scaling: {signals: [kvv]}", "spec.scaling.signals[0]", "did you mean kv?"),
        ("model: m, scaling: {fallback_replicas: 2}", "spec.scaling.fallback_replicas", "more than replicas.max, 1"),
        ("model: m, scaling: {utilization: 0}", "spec.scaling.utilization", "0"),
        (
            'model: m, scaling: {schedules: [{begin: "8:00", end: "18:00", min: 1}]}',
            "spec.scaling.schedules[0].begin",
            "8:00",
        ),
        (
            'model: m, scaling: {schedules: [{begin: "08:00", end: "18:00", min: 1, zone: Mars}]}',
            "spec.scaling.schedules[0].zone",
            "no time zone",
        ),
        (
            'model: m, scaling: {schedules: [{begin: "08:00", end: "18:00", min: 3}]}',
            "spec.scaling.schedules[0].max",
            "less than the minimum then, 3",
        ),
        (
            'model: m, scaling: {schedules: [{begin: "08:00", end: "18:00"}]}',
            "spec.scaling.schedules[0].min",
            "min, max or both",
        ),
        ("model: m, batching: 5", "spec.batching", "expected a map of fields, got 5"),
        ("model: m, batching: {max_bytes: 0}", "spec.batching.max_bytes", "nothing would fit"),
        ("model: m, batching: {pad: {s: {to: 16}}}", "spec.batching.pad.s.to", "powers-of-two or a list, got 16"),
        ("model: m, batching: {pad: {s: {to: [1, x]}}}", "spec.batching.pad.s.to[1]", "a whole number, got 'x'"),
        ("model: m, batching: {pad: {s: {value: 0}}}", "spec.batching.pad.s.value", "did you mean values?"),
        ("task: chat", "spec.model", "missing; a registered version"),
    ],
)
def test_each_field_says_what_it_expected(spec: str, field: str, said: str) -> None:
    found = problems(f"kind: Endpoint\nmetadata: {{name: a}}\nspec: {{{spec}}}\n")
    assert [(line, where) for line, where, _ in found] == [(3, field)]
    assert said in found[0][2]


def test_a_name_with_a_trailing_newline_is_not_a_name() -> None:
    assert problems('kind: Project\nmetadata: {name: "a\\n"}')[0][:2] == (2, "metadata.name")


def test_the_same_resource_twice_is_refused() -> None:
    assert problems(SMALL + "---\n" + SMALL) == [(5, "metadata.name", "a is given twice, first at line 1")]
    assert len(manifest.load(SMALL + "---\n" + SMALL.replace("name: a", "name: a, project: b"))) == 2


def test_no_more_than_a_hundred_problems_are_listed() -> None:
    assert len(problems("kind: Project\nmetadata: {name: a}\n" + "".join(f"x{n}: 1\n" for n in range(500)))) == 100


names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30) | st.sampled_from(
    [
        "on",
        "yes",
        "NO",
        "~",
        "null",
        "true",
        "1",
        "1.5",
        "0777",
        "12:30",
        "1e3",
        "<<",
        "=",
        "- a",
        "a: b",
        "#",
        " x ",
        "a\nb",
        "'",
        '"',
    ]
)
endpoints = st.builds(
    Endpoint,
    metadata=st.builds(
        Metadata,
        name=names,
        project=names,
        labels=st.dictionaries(texts.filter(lambda text: len(text) < 60), texts, max_size=3),
    ),
    spec=st.builds(
        EndpointSpec,
        model=names,
        task=st.sampled_from([None, "predict", "embed", "chat"]),
        engine=st.none() | texts,
        options=st.dictionaries(
            texts, texts | st.integers(-(10**18), 10**18) | st.booleans() | st.none() | st.floats(-1e9, 1e9), max_size=4
        ),
        env=st.dictionaries(
            st.from_regex(r"[A-Z_]{1,8}", fullmatch=True).filter(lambda name: not name.startswith("STOKER_")),
            texts,
            max_size=3,
        ),
        resources=st.builds(Resources, cpu=st.floats(0.01, 1024), memory=st.integers(2**20, 2**50) | st.just("512Mi")),
        replicas=st.builds(Replicas, min=st.integers(0, 3), max=st.integers(3, 1000)),
        batching=st.builds(
            Batching,
            max_bytes=st.integers(1, 2**40) | st.just("64Mi"),
            pad=st.dictionaries(
                names,
                st.builds(
                    Pad,
                    to=st.just("powers-of-two") | st.lists(st.integers(1, 4096), min_size=1, max_size=3),
                    values=st.dictionaries(names, st.booleans() | st.integers(-9, 9) | texts, max_size=2),
                    axes=st.dictionaries(names, st.none() | st.integers(1, 9), max_size=2),
                ),
                max_size=2,
            ),
        ),
        limits=st.builds(Limits, timeout=st.sampled_from([1, 2.5, "250ms", "5m"])),
        cache=st.none() | st.builds(Cache, ttl=st.sampled_from([60, "90m", "30d"]), shared=st.booleans()),
    ),
)


@settings(max_examples=40)
@given(endpoint=endpoints, defaults=st.booleans(), as_json=st.booleans())
def test_what_is_dumped_loads_to_the_same_resource(endpoint: Endpoint, defaults: bool, as_json: bool) -> None:
    if as_json:
        text = json.dumps(manifest.dump(endpoint, defaults=defaults))
    else:
        text = manifest.to_yaml([endpoint], defaults=defaults)
    assert manifest.load(text) == [endpoint], text
    assert manifest.diff(endpoint, endpoint) == []


@settings(max_examples=150)
@given(
    text=st.text(max_size=200) | st.binary(max_size=200) | st.text("{}[]:,-&*!#|>'\"\n \t?%@`abkind0\\u", max_size=60)
)
@example(text="[]")
def test_any_text_is_resources_or_a_list_of_problems_with_lines(text: str | bytes) -> None:
    found: tuple[Problem, ...] = ()
    try:
        assert manifest.load(text)
    except ManifestError as error:
        found = error.problems
    # "\r", "\x85" and the like are line breaks of YAML too; no text has more lines than characters.
    assert all(1 <= problem.line <= len(text) + 1 for problem in found)


@given(
    spec=st.recursive(
        st.none() | st.booleans() | st.integers() | texts,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*EndpointSpec.__struct_fields__, "cpu", "x"]), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_what_the_loader_accepts_msgspec_accepts_too(spec: Any) -> None:
    document = {"kind": "Endpoint", "metadata": {"name": "a"}, "spec": spec}
    try:
        loaded: Resource | None = manifest.load(json.dumps(document))[0]
    except ManifestError:
        loaded = None
    try:
        converted = msgspec.convert(document, Endpoint)
    except msgspec.ValidationError:
        assert loaded is None
    else:
        assert loaded is None or loaded == converted


def test_a_diff_names_the_fields_that_changed_and_knows_equal_amounts() -> None:
    old = manifest.load(
        "kind: Endpoint\nmetadata: {name: a}\nspec: {model: a@1, resources: {memory: 512Mi}, env: {A: x}}"
    )[0]
    new = manifest.load(
        "kind: Endpoint\nmetadata: {name: a}\nspec: {model: a@2, resources: {memory: 536870912}, options: {c: 1}}"
    )[0]
    assert manifest.diff(old, new) == [
        Change("spec.model", "a@1", "a@2"),
        Change("spec.env.A", "x", None),
        Change("spec.options.c", None, 1),
    ]
    assert manifest.diff(None, new)[0] == Change("apiVersion", None, "stoker/v1")
    assert manifest.diff(new, None)[0] == Change("apiVersion", "stoker/v1", None)


def test_no_size_is_a_change_because_it_is_written_in_another_way() -> None:
    text = "kind: Endpoint\nmetadata: {{name: a}}\nspec: {{model: a@1, batching: {{max_bytes: {}}}}}"
    small, same, larger = (manifest.load(text.format(size))[0] for size in ("64Mi", "67108864", "65Mi"))
    assert manifest.diff(small, same) == []
    assert [each.path for each in manifest.diff(same, larger)] == ["spec.batching.max_bytes"]


def test_a_dump_without_defaults_holds_what_was_written() -> None:
    (endpoint,) = manifest.load(SMALL)
    assert manifest.dump(endpoint, defaults=False) == {
        "apiVersion": "stoker/v1",
        "kind": "Endpoint",
        "metadata": {"name": "a"},
        "spec": {"model": "a@1"},
    }
    assert list(manifest.dump(endpoint)) == ["apiVersion", "kind", "metadata", "spec"]


def test_the_schema_for_editors_describes_fields_and_refuses_unknown_ones() -> None:
    schema = manifest.json_schema()
    assert schema["$schema"].endswith("2020-12/schema")
    spec = schema["$defs"]["EndpointSpec"]
    assert spec["additionalProperties"] is False
    assert "512Mi" in schema["$defs"]["Resources"]["properties"]["memory"].get("description", "") or (
        schema["$defs"]["Resources"]["properties"]["memory"]["default"] == "1Gi"
    )
    assert json.loads(json.dumps(schema)) == schema


def test_one_struct_can_be_read_as_strictly_as_a_manifest() -> None:
    assert manifest.load_struct("{name: x, datatype: FP32, shape: [-1, 4]}", TensorSpec) == TensorSpec(
        "x", "FP32", (-1, 4)
    )
    with pytest.raises(ManifestError) as caught:
        manifest.load_struct("name: x\ndatatype: FP33\nshape: [a]\nshap: 1\n", TensorSpec)
    assert [(problem.line, problem.field) for problem in caught.value.problems] == [
        (2, "datatype"),
        (3, "shape[0]"),
        (4, "shap"),
    ]
    with pytest.raises(ManifestError, match="expected one document"):
        manifest.load_struct("a: 1\n---\nb: 1", TensorSpec)


def test_the_pure_python_parser_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = yamltree.parse(BAD)
    monkeypatch.setattr(yamltree, "_LOADER", yamltree.yaml.SafeLoader)
    assert yamltree.parse(BAD) == fast


@pytest.mark.parametrize(
    ("drift", "words"),
    [
        ("every: 0.5s", "spec.drift.every: '0.5s' is less than a second"),
        ("window: 30s", "spec.drift.window: '30s' is not between `every` and 30 days"),
        ("thresholds: {age: 0}", "spec.drift.thresholds"),
        ("trigger: {}", "name a webhook or a command, one of them"),
        ("trigger: {webhook: 'http://a', command: b}", "one of them"),
        ("trigger: {webhook: 'file:///etc/passwd'}", "is no http or https address"),
        ("trigger: {webhook: 'http://a:b@c'}", "name it with `webhook_from`"),
        ("trigger: {webhook: 'https://hooks.slack.com/services/T0'}", "name it with `webhook_from`"),
        ("trigger: {webhook: 'http://a', webhook_from: 'env:STOKER_SECRET_A'}", "one of them"),
        ("trigger: {command: a, webhook_from: 'env:STOKER_SECRET_A'}", "one of them"),
        ("trigger: {command: ../../bin/sh}", "cannot be a file in hooks/"),
        ("trigger: {webhook: 'http://a', secret: /etc/shadow}", "cannot be a file in hooks/"),
    ],
)
def test_what_cannot_be_watched_or_told_is_refused(drift: str, words: str) -> None:
    text = f"kind: Endpoint\napiVersion: stoker/v1\nmetadata: {{name: a}}\nspec: {{model: m, drift: {{{drift}}}}}\n"
    with pytest.raises(manifest.ManifestError, match=re.escape(words)):
        manifest.load(text)


def test_null_turns_the_watch_off_and_a_whole_policy_is_read() -> None:
    head = "kind: Endpoint\napiVersion: stoker/v1\nmetadata: {name: a}\nspec: {model: m, drift: "
    assert manifest.load(head + "null}")[0].spec.drift is None
    told = manifest.load(head + "{window: 1d, trigger: {command: retrain.sh, cooldown: 2d}}}")[0].spec.drift
    assert (told.window, told.trigger.command, told.threshold) == ("1d", "retrain.sh", 0.1)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("keep: 1s", "spec.feedback.keep: '1s' is not between one minute and 90 days"),
        ("keep: 91d", "is not between"),
        ("max: 99", "spec.feedback.max"),
        ("kind: ranking", "spec.feedback.kind"),
        ("tolerance: 1", "write kind: regression"),
        ("kind: regression, tolerance: 0", "spec.feedback.tolerance"),
    ],
)
def test_feedback_that_cannot_be_kept_is_refused(spec: str, message: str) -> None:
    text = f"apiVersion: stoker/v1\nkind: Endpoint\nmetadata: {{name: a}}\nspec: {{model: m, feedback: {{{spec}}}}}\n"
    with pytest.raises(manifest.ManifestError) as wrong:
        manifest.load(text)
    assert message in str(wrong.value)
