"""The manifest and the commands of docs/scale.md: whether they are what Kubernetes and dask take."""

import re
import subprocess
import sys

import kubernetes_validate
import pytest
import yaml

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "scale.md").read_text()


def manifest() -> list[dict]:
    text = re.search(r"<!-- kubernetes: begin -->\n```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert text
    return list(yaml.safe_load_all(text[1]))


def test_the_manifest_is_what_kubernetes_takes() -> None:
    documents = manifest()
    for one in documents:
        kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)
    container = documents[-1]["spec"]["template"]["spec"]["containers"][0]
    container["resorces"] = container.pop("resources")
    with pytest.raises(kubernetes_validate.ValidationError, match="resorces"):
        kubernetes_validate.validate(documents[-1], kubernetes_validate.latest_version(), strict=True)


def test_the_manifest_holds_together() -> None:
    service, *deployments = manifest()
    assert (service["apiVersion"], service["kind"]) == ("v1", "Service")
    pods = {}
    for one in deployments:
        assert (one["apiVersion"], one["kind"]) == ("apps/v1", "Deployment")
        template = one["spec"]["template"]
        assert one["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
        pods[template["metadata"]["labels"]["app"]] = template["spec"]
        for container in template["spec"]["containers"]:
            volumes = {volume["name"] for volume in template["spec"].get("volumes", [])}
            assert {mount["name"] for mount in container.get("volumeMounts", [])} == volumes
            assert all(isinstance(word, str) for word in container["args"])
            assert all(isinstance(one["value"], str) for one in container.get("env", []))
    scheduler = pods[service["spec"]["selector"]["app"]]["containers"][0]
    port = service["spec"]["ports"][0]["port"]
    assert scheduler["ports"] == [{"containerPort": port}]
    assert str(port) in scheduler["args"]
    address = f"tcp://{service['metadata']['name']}:{port}"
    assert address in pods["d2v-worker"]["containers"][0]["args"]
    assert f"DASK_SCHEDULER_ADDRESS={address}" in PAGE


@pytest.mark.parametrize("program", ["scheduler", "worker"])
def test_the_options_are_those_of_dask(program: str) -> None:
    known = subprocess.check_output([sys.executable, "-m", "dask", program, "--help"], text=True)
    lines = re.findall(rf"dask {program} [^\n]*", PAGE) + [
        " ".join(container["args"])
        for one in manifest()[1:]
        for container in one["spec"]["template"]["spec"]["containers"]
        if program in container["args"]
    ]
    options = {option for line in lines for option in re.findall(r"--[a-z-]+", line)}
    assert len(options) >= 2
    assert not {option for option in options if option not in known}
