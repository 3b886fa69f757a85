"""Names that one part of a deployment uses and another must have: what schemas do not check.

usage: references.py COMPOSE_FILE MANIFEST...
"""

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


check_compose(sys.argv[1])
check_kubernetes(sys.argv[2:])
if problems:
    sys.exit("\n".join(problems))
