"""What the tests share."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from overspill import SpillBuffer


@pytest.fixture
def buffer(tmp_path: Path) -> Iterator[SpillBuffer]:
    """A buffer of 1000 bytes that spills in the caller."""
    with SpillBuffer(str(tmp_path), target=1000) as made:
        yield made


class S3:
    """A server that speaks S3, and a bucket in it."""

    BUCKET = "spilled"

    def __init__(self, endpoint: str) -> None:
        #: The variables that say where the server is, and who asks.
        self.environment = {
            "AWS_ACCESS_KEY_ID": "test-key",
            "AWS_SECRET_ACCESS_KEY": "very-secret-indeed",
            "AWS_ENDPOINT": endpoint,
            "AWS_REGION": "us-east-1",
        }
        self._client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="test-key",
            aws_secret_access_key="very-secret-indeed",
        )
        self.make(self.BUCKET)

    def make(self, bucket: str) -> None:
        self._client.create_bucket(Bucket=bucket)

    def url(self, prefix: str) -> str:
        return f"s3://{self.BUCKET}/{prefix}"

    def objects(self, prefix: str) -> dict[str, int]:
        """The objects below a prefix, with their lengths."""
        listed = self._client.list_objects_v2(Bucket=self.BUCKET, Prefix=prefix).get("Contents", [])
        return {one["Key"]: one["Size"] for one in listed}


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """moto's server on a free port, which it tells in its log."""
    log = tmp_path_factory.mktemp("moto") / "log"
    program = Path(sys.executable).with_name("moto_server")
    with open(log, "wb") as out:
        server = subprocess.Popen([program, "-H", "127.0.0.1", "-p", "0"], stdout=out, stderr=out)
    try:
        end = time.monotonic() + 120
        while not (found := re.search(r"http://127\.0\.0\.1:[1-9]\d*", log.read_text())):
            assert server.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        yield S3(found[0])
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def s3(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """The server, which the environment names."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server
