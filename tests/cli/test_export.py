"""`stoker export` prints what other tools read, without a platform."""

import json
from pathlib import Path

import yaml

from tests.cli.run import stoker_here


def test_the_board_is_json_that_grafana_imports() -> None:
    done = stoker_here("export", "grafana")
    assert (done.returncode, done.stderr) == (0, "")
    board = json.loads(done.stdout)
    assert (board["uid"], board["title"]) == ("stoker", "stoker")
    titles = [panel["title"] for panel in board["panels"] if panel["type"] == "row"]
    assert titles[:4] == ["Overview", "Endpoint", "Language models", "Replicas"]


def test_the_rules_are_yaml() -> None:
    done = stoker_here("export", "prometheus-rules")
    assert done.returncode == 0
    assert [group["name"] for group in yaml.safe_load(done.stdout)["groups"]] == ["stoker-recording", "stoker-alerts"]


def test_where_to_scrape_follows_the_settings(tmp_path: Path) -> None:
    cert = {"STOKER_TLS_CERT": str(tmp_path / "c.pem"), "STOKER_TLS_KEY": str(tmp_path / "k.pem")}
    done = stoker_here(
        "export", "scrape-config", "--host", "models.example.com", "--ca", "/ca.pem", PORT="9000", **cert
    )
    assert (done.returncode, done.stderr) == (0, "")
    gateways, control = yaml.safe_load(done.stdout)["scrape_configs"]
    assert gateways["static_configs"] == [{"targets": ["models.example.com:9000"]}]
    assert (gateways["scheme"], gateways["tls_config"]["ca_file"]) == ("https", "/ca.pem")
    assert control["static_configs"] == [{"targets": ["127.0.0.1:9001"]}]
