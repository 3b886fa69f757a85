"""Names that one part of a deployment uses and another must have: what schemas do not check.

usage: references.py COMPOSE_FILE MANIFEST...   (in the folder deploy)
"""

import pathlib
import re
import sys

import yaml

problems = []


def expect(known, name, where):
    if name not in known:
        problems.append(f"{where}: there is no `{name}`; there are {sorted(known)}")


def check_compose(path):
    project = yaml.safe_load(open(path))
    services, volumes = project["services"], set(project.get("volumes", {}))
    for name, service in services.items():
        for other, needs in service.get("depends_on", {}).items():
            expect(set(services), other, f"compose service {name}, depends_on")
            is_healthy = needs["condition"] == "service_healthy"
            if is_healthy and "healthcheck" not in services.get(other, {}):
                problems.append(f"compose service {name} waits for the health of {other}, which has no check")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if not source.startswith((".", "/")):
                expect(volumes, source, f"compose service {name}, volumes")
        for port in service.get("ports", []):
            if not port.startswith("127.0.0.1:"):
                problems.append(f"compose service {name} publishes {port} beyond loopback")


def pod_refers(where, spec, named):
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    expect(named["ServiceAccount"], spec["serviceAccountName"], where)
    for container in spec["containers"]:
        ports = {port["name"] for port in container["ports"]}
        for mount in container.get("volumeMounts", []):
            expect(volumes, mount["name"], f"{where}, volumeMounts")
        for source in container.get("envFrom", []):
            expect(named["ConfigMap"], source["configMapRef"]["name"], f"{where}, envFrom")
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            expect(ports, container[probe]["httpGet"]["port"], f"{where}, {probe}")


def check_kubernetes(paths):
    objects = [item for path in paths for item in yaml.safe_load_all(open(path)) if item]
    named = {}
    for item in objects:
        named.setdefault(item["kind"], set()).add(item["metadata"]["name"])
        if item["kind"] != "Namespace":
            expect({"regrade"}, item["metadata"].get("namespace"), f"{item['kind']}, namespace")
    pods = [item["spec"]["template"] for item in objects if item["kind"] == "Deployment"]
    labels = [set(pod["metadata"]["labels"].items()) for pod in pods]
    for item in objects:
        kind, spec = item["kind"], item.get("spec", {})
        where = f"{kind} {item['metadata']['name']}"
        if kind == "Deployment":
            pod_refers(where, spec["template"]["spec"], named)
        selector = spec.get("podSelector", spec.get("selector"))
        if selector:
            wanted = set(selector.get("matchLabels", selector).items())
            if not any(wanted <= pod for pod in labels):
                problems.append(f"{where} selects no pod: {sorted(wanted)}")
        if kind == "ScaledObject":
            expect(named["Deployment"], spec["scaleTargetRef"]["name"], where)


def check_image():
    """What the sources include must be copied into the image, and let through by .dockerignore."""
    root = pathlib.Path("..").resolve()
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", pathlib.Path("Dockerfile").read_text(), re.M)
    copied = {name.rstrip("/") for line in copies for name in line.split()}
    ignore = (root / ".dockerignore").read_text().split("\n")
    let_through = {line[1:] for line in ignore if line.startswith("!")}
    kept_out = {line for line in ignore if line and line[0] not in "#!*"}
    below = lambda name, folders: any(name == f or name.startswith(f + "/") for f in folders)
    for name in copied:
        if not below(name, let_through) or below(name, kept_out):
            problems.append(f"Dockerfile copies {name}, which .dockerignore keeps out")
    for source in [*root.glob("src/**/*.rs"), *root.glob("actors/src/**/*.rs")]:
        for included in re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', source.read_text()):
            name = str((source.parent / included).resolve().relative_to(root))
            if not below(name, copied):
                problems.append(f"{source.relative_to(root)} includes {name}, which Dockerfile does not copy")


check_image()
check_compose(sys.argv[1])
check_kubernetes(sys.argv[2:])
if problems:
    sys.exit("\n".join(problems))
