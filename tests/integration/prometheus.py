"""A real Prometheus on loopback, which scrapes every second and knows the rules as shipped."""

import http.client
import json
import os
import shutil
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import pytest

from deploy.local.servers import LocalServer
from tests.integration.rules import RULES, Target

PROGRAM = shutil.which("prometheus")
needs_prometheus = pytest.mark.skipif(PROGRAM is None, reason="prometheus is not installed (Debian: prometheus)")


class Prometheus(LocalServer):
    """Scrapes some targets."""

    name = "prometheus"

    def __init__(self, targets: Sequence[Target]) -> None:
        super().__init__()
        self._targets = targets

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return what an instant query finds. Raises `AssertionError` when it can't be evaluated."""
        status, body = self._get(f"/api/v1/query?{urlencode({'query': expression})}")
        assert status == http.client.OK, body
        found: list[dict[str, Any]] = json.loads(body)["data"]["result"]
        return found

    def rule_health(self) -> set[str]:
        """Return how the evaluation of the rules went: `ok`, `err` or `unknown`."""
        groups = json.loads(self._get("/api/v1/rules")[1])["data"]["groups"]
        return {rule["health"] for group in groups for rule in group["rules"]}

    def _command(self) -> list[str]:
        assert PROGRAM is not None
        jobs = [
            {"job_name": target.job, "static_configs": [{"targets": [f"127.0.0.1:{target.port}"]}]}
            for target in self._targets
        ]
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": jobs,
        }
        file = self.directory / "prometheus.yaml"
        file.write_text(json.dumps(config))  # which is YAML, too
        return [
            os.path.realpath(PROGRAM),
            f"--config.file={file}",
            f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=warn",
        ]

    def _answers(self) -> bool:
        try:
            return self._get("/-/ready")[0] == http.client.OK
        except (OSError, http.client.HTTPException):
            return False

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()
