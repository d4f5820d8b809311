"""A model from a hub, through the command and a real platform, until it answers."""

from pathlib import Path

from tests.registry import hub
from tests.whole.rig import Platform


def test_a_model_is_pulled_from_a_hub_pushed_and_served(demo: Platform, digits_model: str, tmp_path: Path) -> None:
    with hub.serve() as running:
        running.files = {"README.md": b"# digits", "model.onnx": Path(digits_model).read_bytes()}
        running.cut_after, running.cuts = 4_000, 2  # the connection breaks twice on the way
        demo.environment["HF_ENDPOINT"] = running.url
        try:
            said = demo.cli("push", "pulled", "hf:org/tiny/model.onnx")
        finally:
            del demo.environment["HF_ENDPOINT"]
    assert "pixels FP32[-1, 64]" in said
    (version,) = demo.json("models", "pulled")["items"]
    assert hub.COMMIT in version["manifest"]["lineage"]["source"]
    demo.cli("deploy", "pulled", "--model", "pulled@1", "--cpu", "0.1", "--wait")
    assert "label" in demo.cli("predict", "pulled", "--json", '{"pixels": [[' + ",".join(["0"] * 64) + "]]}")
    demo.cli("delete", "endpoint", "pulled", "--wait")
