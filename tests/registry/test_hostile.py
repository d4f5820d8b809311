"""Hostile files: refused where they lie, refused again at the registry's door, nothing run, nothing left."""

import io
import pickle
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from stoker.client.upload import find_files
from stoker.registry import collect, opcodes, versions
from stoker.registry.precheck import check_local
from stoker.registry.versions import Given
from stoker.types.errors import RefusedArtifact
from tests.registry import hostile
from tests.registry.rig import Registry


@pytest.mark.parametrize("name", hostile.NAMES)
def test_a_hostile_file_is_refused_on_both_sides_and_nothing_of_it_runs_or_stays(
    registry: Registry, tmp_path: Path, name: str
) -> None:
    canary = tmp_path / "canary"
    files = hostile.artifact(name, canary)
    source = tmp_path / "source"
    for path, data in files.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(data)
    with pytest.raises(RefusedArtifact) as here:
        check_local(find_files(source))
    assert any(path in here.value.message for path in files), here.value.message
    assert "nothing was sent" in here.value.message

    entries = registry.upload(files)
    with pytest.raises(RefusedArtifact):
        versions.build_manifest(entries, registry.blobs, Given(), scratch=registry.tmp)
    collect.discard(entries, registry.blobs, [])
    assert list(registry.blobs.list()) == []
    assert registry.leftovers() == []
    assert not canary.exists()


def test_there_are_enough_of_them() -> None:
    assert len(hostile.NAMES) >= 40


def test_the_canary_is_one(tmp_path: Path) -> None:
    """What must not run would leave the canary: else its absence proves nothing."""
    canary = tmp_path / "canary"
    pickle.loads(hostile.artifact("a pickle by hand", canary)["w.bin"])
    assert canary.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_plain_weights_beside_code_are_taken(registry: Registry, protocol: int) -> None:
    weights = OrderedDict(w=np.arange(6.0).reshape(2, 3), names=["a", "b"], n=3, raw=b"\x00\xff")
    data = pickle.dumps(weights, protocol)
    assert opcodes.reason_against(io.BytesIO(data)) == ""
    manifest = registry.push({"model.py": hostile.MODEL_PY, "w.pkl": data})
    assert manifest.format == "python"


def test_plain_weights_are_of_no_use_to_other_engines_and_refused(registry: Registry) -> None:
    with pytest.raises(RefusedArtifact, match=r"w\.pkl is refused: it is a Python pickle"):
        registry.push({"w.pkl": pickle.dumps([1, 2])})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"cos\nsystem\n.", "imports os.system"),
        (pickle.dumps(hostile.Call(print, 1)), "imports builtins.print"),
        (b"\x80\x04\x8c\x02os\x94\x8c\x06system\x93.", "imports os.system"),
        (b"\x80\x02K\x01K\x02R.", "did not import by name"),
        (b"\x80\x02\x82\x01.", "extension registry"),
        (b"\x80\x02R.", "nothing is on its stack"),
        (b"\x80\x02\x8e" + b"\xff" * 8, "damaged|value of"),
        (b"\x80\x02K", "damaged"),
        (b"\x80\x02ccollections\nOrderedDict\n}b.", "changes what it has imported"),
    ],
)
def test_what_is_against_a_pickle_is_named(data: bytes, said: str) -> None:
    assert re.search(said, opcodes.reason_against(io.BytesIO(data)))
