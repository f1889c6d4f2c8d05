"""What is in deploy/ passes its own tools, and says what the program understands."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingest import __version__, healthcheck
from ingest.config import Config
from ingest.serve import ServeRole, state_path
from tests.deployment import (
    DEPLOY,
    ROOT,
    accepted,
    documents,
    interpolated,
    longest_stop_s,
    seconds,
    settings,
    tool,
)

DOCKERFILE = DEPLOY / "docker" / "Dockerfile"
COMPOSE = DEPLOY / "docker" / "compose.yaml"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
KUBERNETES = DEPLOY / "kubernetes"
ENDPOINTS = {"/healthz", "/readyz", "/metrics"}
YAML_RULES = (
    "{extends: default, rules: {line-length: {max: 130}, document-start: disable, braces: {max-spaces-inside: 1},"
    " octal-values: disable}}"
)


def test_yaml_is_tidy() -> None:
    accepted(tool("yamllint"), "--strict", "--config-data", YAML_RULES, ".")


# Containers


def _instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in text.splitlines() if line]


def _image() -> list[tuple[str, str]]:
    """The instructions of the last stage."""
    steps = _instructions()
    last = max(place for place, (name, _) in enumerate(steps) if name == "FROM")
    return steps[last:]


def _image_settings() -> dict[str, str]:
    return dict(pair.split("=", 1) for name, rest in _image() if name == "ENV" for pair in shlex.split(rest))


def test_hadolint_finds_nothing() -> None:
    accepted(tool("hadolint"), DOCKERFILE)


def test_the_image_takes_what_there_is() -> None:
    ignored = (DOCKERFILE.with_name("Dockerfile.dockerignore")).read_text(encoding="utf-8").split()
    for name, rest in _instructions():
        if name == "COPY" and not rest.startswith("--from"):
            for source in shlex.split(rest)[:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in ignored, f"{source} does not reach the build"


def test_the_image_is_built_with_compiled_code_and_has_no_compiler() -> None:
    building = [rest for name, rest in _instructions()[: -len(_image())] if name == "RUN"]
    (install,) = (rest for rest in building if "--no-build-isolation" in rest)
    assert install.startswith("POSTBACK_COMPILED=require ")
    assert any("apt-get install" in rest and " gcc " in rest for rest in building)
    assert not any("apt-get" in rest for _, rest in _image())
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    gone = install.partition("pip uninstall")[2].split()
    assert {re.split(r"[<>=]", one)[0] for one in wanted["build"]} <= set(gone)


def test_locks_agree() -> None:
    locks = [(ROOT / f"requirements{which}.txt").read_text(encoding="utf-8") for which in ("", "-extras", "-dev")]
    plain, extras, dev = (dict(re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE)) for lock in locks)
    assert plain.items() < extras.items() < dev.items()
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert {re.split(r"[<>=\[]", one)[0] for name in ("otel", "parquet") for one in wanted[name]} <= extras.keys()


def test_the_image_runs_the_program_as_nobody_in_particular() -> None:
    image = dict(_image())
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", image["USER"])
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert json.loads(image["ENTRYPOINT"])[0] in scripts
    assert json.loads(image["CMD"])[:2] == ["serve", "--role"]
    assert image["STOPSIGNAL"] == "SIGTERM"
    config = settings(_image_settings())
    assert image["VOLUME"] == config.data_dir
    assert int(image["EXPOSE"]) == config.server.port
    assert config.server.host == "0.0.0.0"


def test_the_image_asks_the_program_itself_for_its_health() -> None:
    command = json.loads(dict(_image())["HEALTHCHECK"].split("CMD", 1)[1])
    assert command[:2] == ["python", "-m"]
    assert find_spec(command[2]) is not None


@contextmanager
def _answering(status: int) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b'{"detail":"draining"}')

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  its name in the library
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def test_health_is_what_the_running_program_says(tmp_path: Path) -> None:
    state = state_path(Config(data_dir=str(tmp_path)))
    assert state.name in healthcheck.STATE_FILES
    problem = healthcheck.check(state.parent, ready=False)
    assert problem is not None
    assert "nothing runs here" in problem
    state.parent.mkdir()
    with _answering(200) as (url, asked):
        state.with_name("writer.json").write_text(json.dumps({"url": url}), encoding="utf-8")
        assert healthcheck.check(state.parent, ready=False) is None
        state.write_text(json.dumps({"url": url}), encoding="utf-8")
        assert healthcheck.check(state.parent, ready=True) is None
    assert asked == ["/healthz", "/readyz"]
    problem = healthcheck.check(state.parent, ready=False)
    assert problem is not None
    assert url in problem
    with _answering(503) as (url, _):
        state.write_text(json.dumps({"url": url}), encoding="utf-8")
        problem = healthcheck.check(state.parent, ready=True)
        assert problem is not None
        assert "draining" in problem
    state.write_text("{", encoding="utf-8")
    assert healthcheck.check(state.parent, ready=False)


def _compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(interpolated(COMPOSE.read_text(encoding="utf-8")))
    return found


def _our_services() -> dict[str, dict[str, Any]]:
    return {name: service for name, service in _compose()["services"].items() if "build" in service}


def test_compose_is_valid() -> None:
    accepted(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", COMPOSE)


def test_compose_starts_the_program_with_settings_that_exist() -> None:
    services = _our_services()
    assert {service["command"][-1] for service in services.values()} == {"migrate", "receiver", "writer"}
    for service in services.values():
        assert (COMPOSE.parent / service["build"]["context"]).resolve() == ROOT
        assert ROOT / service["build"]["dockerfile"] == DOCKERFILE
        config = settings(_image_settings() | service["environment"])
        assert seconds(service["stop_grace_period"]) > longest_stop_s(config)
        assert service["read_only"] is True
        mounts = dict(mount.split(":") for mount in service.get("volumes", ()))
        if service["command"][0] == "serve":
            assert config.data_dir in mounts.values(), "a spool would be lost with its container"
            assert str(config.admin_key_path.parent) in mounts.values()
    volumes = [service["volumes"][0] for service in services.values() if "volumes" in service]
    assert len(set(volumes)) == len(volumes), "each program has a data_dir of its own"


def test_compose_names_files_networks_volumes_and_variables_that_exist() -> None:
    compose = _compose()
    example = (COMPOSE.parent / "env.example").read_text(encoding="utf-8")
    for variable in re.findall(r"\$\{(\w+):\?", COMPOSE.read_text(encoding="utf-8")):
        assert re.search(rf"^{variable}=$", example, re.MULTILINE), variable
    for service in compose["services"].values():
        for network in service["networks"]:
            assert network in compose["networks"]
        for needed in service.get("depends_on", ()):
            assert needed in compose["services"]
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            assert source in compose["volumes"] or (COMPOSE.parent / source).exists(), mount


def test_compose_puts_the_receivers_behind_haproxy() -> None:
    compose = _compose()
    haproxy = compose["services"]["haproxy"]
    addresses = {
        name: service["networks"]["inside"]["ipv4_address"]
        for name, service in compose["services"].items()
        if isinstance(service["networks"], dict)
    }
    configuration = (DEPLOY / "haproxy.cfg").read_text(encoding="utf-8")
    for variable in haproxy["environment"]:
        assert variable in configuration
    receivers = {name: service for name, service in _our_services().items() if service["command"][-1] == "receiver"}
    behind = {haproxy["environment"][name] for name in ("POSTBACK_FIRST", "POSTBACK_SECOND")}
    assert behind == {f"{addresses[name]}:8080" for name in receivers}
    for receiver in receivers.values():
        config = settings(receiver["environment"])
        assert config.server.trusted_proxies == (addresses["haproxy"],)
        # The check of haproxy.cfg: twice a second apart, a second for an answer.
        assert config.server.drain > 3000


@pytest.mark.parametrize("name", ["haproxy.cfg", "nginx.conf"])
def test_what_a_trusted_proxy_is_believed_is_of_its_own_making(name: str) -> None:
    text = (DEPLOY / name).read_text(encoding="utf-8")
    for header in ("X-Forwarded-For", "X-Forwarded-Proto"):
        assert re.search(rf"^\s*(proxy_set_header|http-request set-header) {header} [$%]", text, re.MULTILINE), header


def test_compose_keeps_what_redis_is_given() -> None:
    command = " ".join(_compose()["services"]["redis"]["command"])
    for setting in ("--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction"):
        assert setting in command


def test_compose_is_watched() -> None:
    serving = {name for name, service in _our_services().items() if service["command"][0] == "serve"}
    jobs = {job["job_name"]: job for job in documents(DEPLOY / "prometheus" / "prometheus.yml")[0]["scrape_configs"]}
    assert set(jobs["postback"]["static_configs"][0]["targets"]) == {f"{name}:8080" for name in serving}
    probed = set(jobs["postback-readyz"]["static_configs"][0]["targets"])
    assert probed == {f"http://{name}:8080/readyz" for name in serving if name.startswith("receiver")}
    grafana = DEPLOY / "grafana" / "provisioning"
    source = documents(grafana / "datasources" / "prometheus.yml")[0]["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
    folder = documents(grafana / "dashboards" / "postback.yml")[0]["providers"][0]["options"]["path"]
    assert any(mount.split(":")[1] == folder for mount in _compose()["services"]["grafana"]["volumes"])


# systemd


def _unit(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, is_setting, value = line.partition("=")
        if is_setting and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_is_what_systemd_understands_and_confines(path: Path, tmp_path: Path) -> None:
    analyze = tool("systemd-analyze")
    system = Path("/usr/lib/systemd/system")
    if not system.is_dir():
        pytest.skip("no systemd's own units here")
    root = tmp_path / "root"
    shutil.copytree(system, root / "usr/lib/systemd/system", symlinks=True)
    program = root / shlex.split(_unit(path)["ExecStart"][0])[0].lstrip("/")
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    units = root / "etc/systemd/system"
    units.mkdir(parents=True)
    shutil.copy(path, units)
    assert accepted(analyze, "verify", f"--root={root}", "--man=no", path.name) == ""
    exposure = accepted(analyze, "security", "--offline=true", f"--root={root}", path.name)
    level = re.search(r"Overall exposure level for \S+: (\d+\.\d)", exposure)
    assert level, exposure
    assert float(level[1]) <= 1.5


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_starts_the_program_with_settings_that_exist(path: Path) -> None:
    unit = _unit(path)
    given = [value.replace("%S", "/var/lib").replace("%d", "/run/credentials") for value in unit["Environment"]]
    config = settings(dict(pair.split("=", 1) for pair in given))
    assert config.data_dir == f"/var/lib/{unit['StateDirectory'][0]}"
    credentials = {value.split(":")[0] for value in unit["LoadCredential"]}
    assert credentials == {Path(value).name for value in given if "/run/credentials/" in value}
    command = shlex.split(unit["ExecStart"][0])[1:]
    if command[0] == "serve":
        ServeRole(command[-1])
        assert seconds(unit["TimeoutStopSec"][0]) > longest_stop_s(config)
        assert unit["KillMode"] == ["mixed"]


def test_units_of_one_machine_do_not_meet() -> None:
    serving = [unit for unit in map(_unit, UNITS) if "serve" in unit["ExecStart"][0]]
    ports = [value for unit in serving for value in unit["Environment"] if "SERVER__PORT" in value]
    assert len(set(ports)) == len(serving) == 2


# Kubernetes


def _objects() -> list[dict[str, Any]]:
    kustomization = documents(KUBERNETES / "kustomization.yaml")[0]
    return [found for name in kustomization["resources"] for found in documents(KUBERNETES / name)]


def _of(kind: str) -> list[dict[str, Any]]:
    return [found for found in _objects() if found["kind"] == kind]


def _workloads() -> dict[str, dict[str, Any]]:
    kinds = ("StatefulSet", "Deployment", "Job")
    return {found["metadata"]["name"]: found["spec"] for kind in kinds for found in _of(kind)}


def _shared_settings() -> dict[str, str]:
    lines = (KUBERNETES / "settings.env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_kubernetes_knows_every_key() -> None:
    kustomization = documents(KUBERNETES / "kustomization.yaml")[0]
    listed = set(kustomization["resources"]) | {"kustomization.yaml"}
    assert {path.name for path in KUBERNETES.glob("*.yaml")} == listed
    accepted(tool("kubernetes-validate"), "--strict", *kustomization["resources"], cwd=KUBERNETES)


def test_kustomize_puts_it_together() -> None:
    built = list(yaml.safe_load_all(accepted(tool("kubectl"), "kustomize", str(KUBERNETES))))
    assert len(built) == len(_objects()) + 1
    images = re.findall(r"image: (\S+)", yaml.safe_dump_all(built))
    assert set(images) == {f"registry.example/postback:{__version__}"}


@pytest.mark.parametrize("name", _workloads())
def test_pods_are_confined_and_take_only_settings_that_exist(name: str) -> None:
    pod = _workloads()[name]["template"]["spec"]
    config = settings(_image_settings() | _shared_settings())
    # POSTBACK_RECEIVERS_SERVICE_HOST would be refused as an unknown setting.
    assert pod["enableServiceLinks"] is False
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['fsGroup']}" == dict(_image())["USER"]
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["envFrom"] == [{"configMapRef": {"name": "postback-settings"}}]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts["data"] == config.data_dir
    for path in (Path(_shared_settings()["POSTBACK_CONFIG"]), config.admin_key_path, config.secret_key_path):
        assert str(path.parent) == mounts["secret"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    volumes |= {claim["metadata"]["name"]: claim for claim in _workloads()[name].get("volumeClaimTemplates", ())}
    assert set(mounts) == set(volumes)
    if container["args"][0] == "serve":
        ServeRole(container["args"][-1])
        assert pod["terminationGracePeriodSeconds"] > longest_stop_s(config)
        assert container["ports"][0]["containerPort"] == config.server.port
        probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
        assert [probe["path"] for probe in probes] == ["/healthz", "/healthz", "/readyz"]
        readiness = container["readinessProbe"]
        if container["args"][-1] == "receiver":
            noticed_s = readiness["periodSeconds"] * readiness["failureThreshold"] + readiness["timeoutSeconds"]
            assert config.server.drain / 1000 > noticed_s


def test_a_receiver_keeps_its_disk() -> None:
    (receivers,) = _of("StatefulSet")
    spec = receivers["spec"]
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    (claim,) = spec["volumeClaimTemplates"]
    size = claim["spec"]["resources"]["requests"]["storage"]
    assert int(size.removesuffix("Gi")) << 30 > settings(_shared_settings()).spool.max_bytes
    (scaler,) = _of("HorizontalPodAutoscaler")
    assert scaler["spec"]["scaleTargetRef"]["kind"] == "StatefulSet"
    assert scaler["spec"]["scaleTargetRef"]["name"] == receivers["metadata"]["name"]
    assert "replicas" not in spec, "the HorizontalPodAutoscaler's number would be overwritten at each apply"
    assert spec["serviceName"] in {service["metadata"]["name"] for service in _of("Service")}


def test_selectors_find_pods() -> None:
    pods = [spec["template"]["metadata"]["labels"] for spec in _workloads().values()]
    selectors = [found["spec"]["selector"]["matchLabels"] for found in _of("PodDisruptionBudget")]
    selectors += [found["spec"]["selector"] for found in _of("Service")]
    selectors += [found["spec"]["podSelector"]["matchLabels"] for found in _of("NetworkPolicy")]
    selectors += [spec["selector"]["matchLabels"] for spec in _workloads().values() if "selector" in spec]
    for selector in selectors:
        assert any(selector.items() <= labels.items() for labels in pods), selector
    budgets = {found["metadata"]["name"] for found in _of("PodDisruptionBudget")}
    assert budgets == {name for name, spec in _workloads().items() if "selector" in spec}


def test_the_world_reaches_no_operations() -> None:
    (ingress,) = _of("Ingress")
    services = {found["metadata"]["name"] for found in _of("Service")}
    paths = ingress["spec"]["rules"][0]["http"]["paths"]
    assert {path["backend"]["service"]["name"] for path in paths} <= services
    assert all(path["pathType"] == "Exact" for path in paths)
    assert not ENDPOINTS & {path["path"] for path in paths}


def test_no_secret_is_in_a_manifest() -> None:
    assert not _of("Secret")
    names = {
        volume["secret"]["secretName"]
        for spec in _workloads().values()
        for volume in spec["template"]["spec"]["volumes"]
        if "secret" in volume
    }
    assert names == {"postback"}
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            assert not re.search(r"://[^:/\s]+:(?!\$|password@)[^@\s$]+@", path.read_text(encoding="utf-8")), path
