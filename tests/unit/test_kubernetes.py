"""The manifests of docs/kubernetes against Kubernetes' published schemas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

MANIFESTS = sorted((Path(__file__).parents[2] / "docs" / "kubernetes").glob("*.yaml"))
VERSIONS = kubernetes_validate.latest_version(), "1.30"


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_are_valid(path: Path, version: str) -> None:
    for document in documents(path):
        kubernetes_validate.validate(document, version, strict=True)


def test_the_check_bites() -> None:
    daemon_set = next(d for d in documents(MANIFESTS[0]) if d["kind"] == "DaemonSet")
    daemon_set["spec"]["template"]["spec"]["containers"][0]["volumeMounts"][0]["mountPropagation"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(daemon_set, VERSIONS[0], strict=True)


def test_pods_look_where_the_daemon_mounts() -> None:
    by_kind = {document["kind"]: document for path in MANIFESTS for document in documents(path)}
    daemon = by_kind["DaemonSet"]["spec"]["template"]["spec"]
    job = by_kind["Job"]["spec"]["template"]["spec"]
    assert daemon["containers"][0]["command"][3].startswith(daemon["containers"][0]["volumeMounts"][0]["mountPath"])
    assert daemon["volumes"][0]["hostPath"]["path"] == job["volumes"][0]["hostPath"]["path"]
    assert daemon["containers"][0]["volumeMounts"][0]["mountPropagation"] == "Bidirectional"
    assert job["containers"][0]["volumeMounts"][0]["mountPropagation"] == "HostToContainer"
