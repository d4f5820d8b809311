"""What Prometheus is told of where to scrape: the gateways of a machine are one target, control is the other."""

from typing import Any


def config(gateway: str, control: str, *, is_secure: bool, ca_file: str = "", key_file: str = "") -> dict[str, Any]:
    """Return a scrape configuration. Addresses are `host:port`; `is_secure`: the data plane speaks HTTPS.

    key_file: has the key that Prometheus shows; without one it is let in on the same machine alone.
    """
    gateways: dict[str, Any] = {"job_name": "stoker-gateways", "static_configs": [{"targets": [gateway]}]}
    if is_secure:
        gateways["scheme"] = "https"
        if ca_file:
            gateways["tls_config"] = {"ca_file": ca_file}
    jobs = [gateways, {"job_name": "stoker-control", "static_configs": [{"targets": [control]}]}]
    for job in jobs if key_file else ():
        job["authorization"] = {"credentials_file": key_file}
    return {"scrape_configs": [{"scrape_interval": "15s", **job} for job in jobs]}
