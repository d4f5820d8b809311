"""The page about HTTPS, as it is written: a platform with a certificate, its renewal, the command line over it."""

import re
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.whole.rig import Platform, until
from tests.whole.test_readme import bash, blocks, small_model


def shown(port: int) -> set[str]:
    """Return the certificates that 40 connections see: each goes to any gateway, and each looks at the files."""
    return {ssl.get_server_certificate(("127.0.0.1", port)) for _ in range(40)}


def test_the_page_about_https_works_as_it_is_written(fresh: Callable[..., Platform], tmp_path: Path) -> None:
    platform = fresh()
    begin, call, renew = blocks("docs/how-to/tls.md", "bash")
    assert '"ready"' in bash(platform, begin, tmp_path)
    assert platform.credentials["gateway"].startswith("https://127.0.0.1:")
    (tmp_path / "model.onnx").write_bytes(small_model(2))
    bash(platform, "stoker push mine model.onnx && stoker deploy mine --model mine --wait", tmp_path)
    said = bash(platform, call, tmp_path)
    assert len(re.findall(r"\blabel\b", said)) == 2, said

    (first,) = shown(platform.port)
    gateway = platform.pid("gateway-0")
    bash(platform, renew, tmp_path)
    until(lambda: first not in shown(platform.port), "every gateway shows the new certificate")
    bash(platform, call, tmp_path)
    assert platform.pid("gateway-0") == gateway, "nothing was restarted"

    again = platform.cli("up", "--detach")
    assert f"https://127.0.0.1:{platform.port}" in again
    assert "--cacert" in again
    platform.down()


def test_up_refuses_files_that_are_no_pair_before_it_starts_anything(
    fresh: Callable[..., Platform], tmp_path: Path
) -> None:
    platform = fresh()
    (tmp_path / "tls.crt").write_text("nothing")
    with pytest.raises(AssertionError, match=r"no certificate \(PEM\) in it"):
        platform.cli("up", "--detach", "--tls-cert", str(tmp_path / "tls.crt"), "--tls-key", str(tmp_path / "tls.crt"))
    with pytest.raises(AssertionError, match="STOKER_TLS_KEY is not set"):
        platform.cli("up", "--detach", "--tls-cert", str(tmp_path / "tls.crt"))
    assert platform.processes() == []
