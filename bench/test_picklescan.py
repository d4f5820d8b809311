"""A second opinion on hostile files: what picklescan calls dangerous, the registry's scan refuses too.

By name, `pytest bench/test_picklescan.py`: picklescan is installed into a folder of its own in the benchmark's cache.
`-s` shows what only one of the two refuses.
"""

import json
import pickle
import subprocess
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from bench.peers.install import Package, place
from stoker.client.upload import find_files
from stoker.registry.precheck import check_local
from stoker.types.errors import RefusedArtifact
from tests.registry import hostile

PICKLESCAN = Package("picklescan", "1.0.5", ("numpy==2.4.6",))
SCAN = """
import json, sys
from pathlib import Path
from picklescan.scanner import scan_directory_path
found = {}
for folder in sorted(Path(sys.argv[1]).iterdir()):
    try:
        result = scan_directory_path(str(folder))
        found[folder.name] = [result.infected_files, bool(result.scan_err)]
    except Exception:  # one that it breaks on is one that it has no opinion of
        found[folder.name] = [0, True]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each hostile artifact, and one of plain weights."""
    root = tmp_path_factory.mktemp("corpus")
    for name in hostile.NAMES:
        for path, data in hostile.artifact(name, root / "canary").items():
            file = root / "files" / name.replace("/", "_") / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
    plain = root / "files" / "plain weights"
    plain.mkdir()
    (plain / "w.pkl").write_bytes(pickle.dumps(OrderedDict(w=np.arange(6.0))))
    return root


def opinions(corpus: Path) -> dict[str, tuple[bool, bool]]:
    """Return by artifact whether picklescan calls it dangerous, and whether it could not read it."""
    python = place(PICKLESCAN) / "bin" / "python"
    command = [str(python), "-c", SCAN, str(corpus / "files")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return {name: (bool(infected), is_unread) for name, (infected, is_unread) in found.items()}


@pytest.mark.timeout(900)
def test_what_picklescan_calls_dangerous_is_refused_here_and_nothing_of_it_runs(corpus: Path) -> None:
    theirs = opinions(corpus)
    refused = set()
    for folder in sorted((corpus / "files").iterdir()):
        try:
            check_local(find_files(folder))
        except RefusedArtifact:
            refused.add(folder.name)
    dangerous = {name for name, (infected, _) in theirs.items() if infected}
    unread = {name for name, (_, is_unread) in theirs.items() if is_unread}
    print(f"\n{len(theirs)} artifacts: refused here {len(refused)}, dangerous to picklescan {len(dangerous)}")
    print(f"it could not read: {', '.join(sorted(unread))}")
    print(f"refused here alone: {', '.join(sorted(refused - dangerous))}")
    assert len(dangerous) >= 10, "it looks at what it should"
    assert dangerous <= refused
    assert refused == {each.replace("/", "_") for each in hostile.NAMES} | {"plain weights"}
    assert "plain weights" not in dangerous
    assert not (corpus / "canary").exists()
