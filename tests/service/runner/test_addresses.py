"""Addresses of schedulers, and their certificates: strange ones are refused in one line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from daemons import daemons

from farfield.errors import CampaignError, ConfigError
from farfield.service.campaign.cluster import ClusterSection
from farfield.service.runner.addresses import check_address, security_of
from farfield.service.runner.clusters import connect


@pytest.mark.parametrize(
    "address", ["tls://10.1.2.3:8786", "tcp://127.0.0.1:8786", "tcp://[::1]:8786", "tcp://localhost:1"]
)
def test_allowed_addresses(address: str) -> None:
    check_address(address, insecure=False)


@pytest.mark.parametrize("address", ["tcp://10.1.2.3:8786", "10.1.2.3:8786", "tcp://", "tls://host", "http://x:1", ""])
def test_refused_addresses(address: str) -> None:
    with pytest.raises(ConfigError, match=r"cluster\.insecure|write tls"):
        check_address(address, insecure=False)
    if address.startswith("tcp://10"):
        check_address(address, insecure=True)


def test_certificates_are_asked_for_and_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tls_ca, tls_cert and tls_key"):
        security_of(ClusterSection(scheduler="tls://login:8786"), tmp_path)
    section = ClusterSection(scheduler="tls://login:8786", tls_ca="ca.pem", tls_cert="cert.pem", tls_key="key.pem")
    with pytest.raises(ConfigError, match=r"cannot read .*ca\.pem"):
        security_of(section, tmp_path)
    assert security_of(ClusterSection(scheduler="tcp://127.0.0.1:1"), tmp_path) is None


def test_a_scheduler_with_certificates_and_workers_that_offer_cores(tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=farfield",
         "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    tls = ["--tls-ca-file", str(cert), "--tls-cert", str(cert), "--tls-key", str(key)]
    with daemons(tmp_path / "dask", scheme="tls", options=tls) as cluster:
        cluster.worker("--resources", "cores=4")
        cluster.registered()
        given = {"scheduler": cluster.address, "tls_ca": "cert.pem", "tls_cert": "cert.pem", "tls_key": "key.pem"}
        with connect(ClusterSection(cores=4, **given), one_host=True, base=tmp_path) as open_cluster:
            assert open_cluster.submit(sum, [2, 2], "four").result(timeout=60) == 4
            assert open_cluster.slots() == 1
        for keys, seen in (({"cores": 8}, "cores=4"), ({"cores": 4, "gpus": 1}, "cores=4 gpus=0")):
            with (
                pytest.raises(CampaignError, match=f"at most {seen}") as fault,
                connect(ClusterSection(**keys, **given), one_host=True, base=tmp_path),
            ):
                pass
            assert "--resources" in str(fault.value)


def test_a_local_cluster_has_the_cores_of_its_host() -> None:
    with pytest.raises(ConfigError, match=r"cluster\.cores"), connect(ClusterSection(cores=4096), one_host=True):
        pass
    with pytest.raises(ConfigError, match="GPUs"), connect(ClusterSection(gpus=1, workers=2), one_host=True):
        pass
