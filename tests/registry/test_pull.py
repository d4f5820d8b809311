import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.registry import pull
from stoker.registry.download import PullSettings
from stoker.types.errors import (
    InvalidInput,
    NotFound,
    RefusedArtifact,
    StokerError,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from tests.registry.hub import COMMIT, Hub, serve

WEIGHTS = bytes(range(256)) * 4_000


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve() as running:
        running.files = {
            "README.md": b"# tiny\n",
            "tiny.gguf": WEIGHTS,
            ".gitattributes": b"",
        }
        running.plain = {"README.md", ".gitattributes"}
        yield running


def settings(hub: Hub, **changes: object) -> PullSettings:
    return PullSettings(**{"endpoint": hub.url, "backoff_s": 0.001, "timeout_s": 5.0, **changes})  # type: ignore[arg-type]


def fetched(hub: Hub, folder: Path, source: str = "hf:org/tiny", **changes: object) -> list[Path]:
    return pull.fetch(source, folder, None, settings(hub, **changes))


def test_the_one_model_of_a_repository_is_fetched_verified_and_nothing_else(hub: Hub, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    paths = pull.fetch("hf:org/tiny", tmp_path, lambda *step: seen.append(step), settings(hub))
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == ["tiny.gguf"]
    assert paths[0].read_bytes() == WEIGHTS
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.gguf"]
    assert seen[-1] == ("tiny.gguf", len(WEIGHTS), len(WEIGHTS))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_where_it_came_from_names_the_commit(hub: Hub) -> None:
    assert pull.resolve("hf:org/tiny/tiny.gguf", settings(hub)).origin == f"hf:org/tiny@{COMMIT}/tiny.gguf"


def test_a_named_file_kept_in_git_is_verified_too(hub: Hub, tmp_path: Path) -> None:
    (path,) = fetched(hub, tmp_path, "hf:org/tiny/README.md")
    assert path.read_bytes() == b"# tiny\n"
    hub.damaged = 2
    path.unlink()
    with pytest.raises(RefusedArtifact, match="sha1"):
        fetched(hub, tmp_path, "hf:org/tiny/README.md")


def test_an_onnx_model_comes_with_its_data_and_tokenizer(hub: Hub, tmp_path: Path) -> None:
    names = [
        "onnx/model.onnx",
        "onnx/model.onnx_data",
        "onnx/model_int8.onnx",
        "tokenizer.json",
        "1_Pooling/config.json",
    ]
    hub.files = {name: name.encode() for name in [*names, "pytorch_model.bin", "vocab.txt"]}
    found = {path.relative_to(tmp_path).as_posix() for path in fetched(hub, tmp_path)}
    assert found == {"onnx/model.onnx", "onnx/model.onnx_data", "tokenizer.json", "1_Pooling/config.json"}


def test_all_parts_of_a_split_model_come(hub: Hub, tmp_path: Path) -> None:
    hub.files = {f"q4/m-0000{n}-of-00003.gguf": b"x" for n in (1, 2, 3)}
    assert len(fetched(hub, tmp_path)) == 3


def test_several_models_are_a_question_that_names_them(hub: Hub, tmp_path: Path) -> None:
    hub.files = {"a-q4.gguf": b"", "a-q8.gguf": b""}
    with pytest.raises(InvalidInput, match=r"a-q4\.gguf, a-q8\.gguf; name one: hf:ORG/NAME/FILE"):
        fetched(hub, tmp_path)


def test_a_cut_connection_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after, hub.cuts = 300_000, 3
    (path,) = fetched(hub, tmp_path)
    assert path.read_bytes() == WEIGHTS
    starts = [asked for where, asked, _ in hub.asked if where.startswith("/cdn/")]
    assert starts == ["", "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after, hub.cuts = 300_000, 1
    with pytest.raises(Unavailable, match="after 1 attempts"):
        fetched(hub, tmp_path, attempts=1)
    assert not (tmp_path / "tiny.gguf").exists()
    hub.asked.clear()
    (path,) = fetched(hub, tmp_path)
    assert path.read_bytes() == WEIGHTS
    assert ("/cdn/tiny.gguf", "bytes=300000-", "") in hub.asked
    assert [left.name for left in tmp_path.iterdir()] == ["tiny.gguf"]


def test_a_part_of_another_version_of_the_file_is_not_continued(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after, hub.cuts = 300_000, 1
    with pytest.raises(Unavailable):
        fetched(hub, tmp_path, attempts=1)
    hub.files["tiny.gguf"] = WEIGHTS[::-1]
    assert fetched(hub, tmp_path)[0].read_bytes() == WEIGHTS[::-1]


def test_a_server_without_ranges_starts_again_and_still_delivers(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after, hub.cuts, hub.ranges = 300_000, 2, False
    assert fetched(hub, tmp_path)[0].read_bytes() == WEIGHTS


def test_what_is_there_already_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    fetched(hub, tmp_path)
    hub.asked.clear()
    fetched(hub, tmp_path)
    assert not [path for path, _, _ in hub.asked if path.startswith("/cdn/")]


def test_damaged_bytes_are_fetched_once_more_then_refused_with_nothing_left(hub: Hub, tmp_path: Path) -> None:
    hub.damaged = 1
    assert fetched(hub, tmp_path / "a")[0].read_bytes() == WEIGHTS
    hub.damaged = 2
    with pytest.raises(RefusedArtifact, match="its sha256 is"):
        fetched(hub, tmp_path / "b")
    assert list((tmp_path / "b").iterdir()) == []


def test_the_linked_etag_is_checked_where_the_listing_says_nothing(hub: Hub, tmp_path: Path) -> None:
    hub.says_digests = False
    assert fetched(hub, tmp_path / "a")[0].read_bytes() == WEIGHTS
    hub.damaged = 2
    with pytest.raises(RefusedArtifact, match="its sha256 is"):
        fetched(hub, tmp_path / "b")


def test_a_busy_hub_is_asked_again_and_a_dead_one_given_up(hub: Hub, tmp_path: Path) -> None:
    hub.busy = 3
    assert fetched(hub, tmp_path)
    hub.busy = 100
    with pytest.raises(Unavailable, match=r"after 3 attempts.*503"):
        fetched(hub, tmp_path / "b", attempts=3)
    with pytest.raises(Unavailable, match="after 2 attempts"):
        pull.fetch("hf:org/tiny", tmp_path, None, settings(hub, endpoint="http://127.0.0.1:9", attempts=2))


def test_a_token_goes_to_the_hub_and_not_to_where_it_redirects(hub: Hub, tmp_path: Path) -> None:
    hub.token = "hf_secret"
    with pytest.raises(Unauthenticated, match="HF_TOKEN"):
        fetched(hub, tmp_path)
    hub.asked.clear()
    fetched(hub, tmp_path, authorization="Bearer hf_secret")
    assert {bearer for path, _, bearer in hub.asked if not path.startswith("/cdn/")} == {"Bearer hf_secret"}
    assert {bearer for path, _, bearer in hub.asked if path.startswith("/cdn/")} == {""}


def test_limits_hold_whether_the_size_is_known_or_not(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(TooLarge):
        fetched(hub, tmp_path, limit_bytes=1000)
    hub.says_digests = False
    with pytest.raises(TooLarge):
        fetched(hub, tmp_path, limit_bytes=1000)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_is_not_there_is_not_found(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="404"):
        fetched(hub, tmp_path, "hf:org/other")
    with pytest.raises(NotFound, match=r"no file 'x\.gguf'.*tiny\.gguf"):
        fetched(hub, tmp_path, "hf:org/tiny/x.gguf")


@pytest.mark.parametrize("path", ["../../evil.gguf", "/etc/evil.gguf", "a\\..\\evil.gguf"])
def test_a_hostile_listing_does_not_write_outside_the_folder(hub: Hub, tmp_path: Path, path: str) -> None:
    hub.files = {path: b"x"}
    with pytest.raises(RefusedArtifact, match="has a file"):
        fetched(hub, tmp_path / "inner")
    assert list(tmp_path.rglob("evil*")) == []


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"siblings": 1}', b'{"siblings": [{"rfilename": 1}]}'])
def test_what_is_no_hub_is_said(hub: Hub, tmp_path: Path, answer: bytes) -> None:
    hub.answer = answer
    with pytest.raises(Unavailable, match="hub"):
        fetched(hub, tmp_path)


@pytest.mark.parametrize("where", ["file:///etc/passwd", "ftp://example.org/x"])
def test_redirects_lead_to_http_only(hub: Hub, tmp_path: Path, where: str) -> None:
    hub.redirect = where
    with pytest.raises(StokerError):
        fetched(hub, tmp_path, attempts=1)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_address_is_fetched_under_its_own_name_with_an_optional_digest(hub: Hub, tmp_path: Path) -> None:
    (path,) = fetched(hub, tmp_path, f"{hub.url}/cdn/tiny.gguf?download=1")
    assert (path.name, path.read_bytes()) == ("tiny.gguf", WEIGHTS)
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    assert fetched(hub, tmp_path / "b", f"{hub.url}/cdn/tiny.gguf#sha256={digest}")
    with pytest.raises(RefusedArtifact, match="sha256"):
        fetched(hub, tmp_path / "c", f"{hub.url}/cdn/tiny.gguf#sha256={'0' * 64}")


@pytest.mark.parametrize(
    "source",
    [
        "http://example.org/model.onnx",
        "file:///etc/passwd",
        "https://example.org/",
        "https://example.org/..",
        "https://example.org/m.onnx#md5=1",
        "hf:",
        "hf:org/../x",
        "hf:org/name/../../x",
        "hf:org/name@../x",
        "hf:-x/y",
        "model.onnx",
    ],
)
def test_what_is_no_source_is_refused_before_anything_is_asked(tmp_path: Path, source: str) -> None:
    with pytest.raises(InvalidInput):
        pull.resolve(source, PullSettings(endpoint="http://127.0.0.1:9"))


def test_sources_are_read_as_they_are_written() -> None:
    assert pull.parse_hub("hf:org/name") == ("org/name", "main", "")
    assert pull.parse_hub("hf:org/name@v1/a/b.gguf") == ("org/name", "v1", "a/b.gguf")
    assert pull.parse_hub("hf:gpt2") == ("gpt2", "main", "")
    assert [pull.is_remote(text) for text in ("hf:a/b", "https://x/y", "./hf", "model.onnx")] == [
        True,
        True,
        False,
        False,
    ]


def test_the_environment_names_the_hub_and_the_token() -> None:
    assert pull.settings_from({}).endpoint == "https://huggingface.co"
    given = pull.settings_from({"HF_ENDPOINT": "https://mirror.example/", "HF_TOKEN": "t"})
    assert (given.endpoint, given.authorization) == ("https://mirror.example", "Bearer t")


def test_the_listing_of_the_test_hub_has_the_hubs_own_form(hub: Hub) -> None:
    entry = json.loads(hub.listing())["siblings"][1]
    assert entry.keys() == {"rfilename", "size", "blobId", "lfs"}
