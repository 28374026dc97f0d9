# SPDX-License-Identifier: Apache-2.0
"""What a kubelet asks of the CRI for a DaemonSet's pod, written for crictl.

    kustomize build DIRECTORY | cri.py OUT

Reads manifests; writes OUT/pod.json, OUT/container.json, OUT/config/NAME/* of config maps, and OUT/probes:
on each line a probe's name, seconds between two tries, how many may fail, how many seconds one may take, and
the command. What it doesn't know how to ask for it refuses, so that no line of a manifest goes untested
unseen.
"""

import json
import pathlib
import shlex
import sys

import yaml

# What only a kubelet, a scheduler or an API server acts on.
POD_ASIDE = {
    "dnsPolicy", "nodeSelector", "priorityClassName", "serviceAccountName", "terminationGracePeriodSeconds",
}  # fmt: skip
CONTAINER_ASIDE = {"resources"}
# What the API fills in.
FIELDS = {"spec.nodeName": "node"}
PROBES = {"startupProbe", "livenessProbe"}
# What nodes are kept free of pods by: one that watches every node tolerates each.
TAINTS = [
    ("node-role.kubernetes.io/control-plane", "NoSchedule"),
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
    ("example.com/dedicated", "NoExecute"),
]
PROPAGATION = {"None": 0, "HostToContainer": 1, "Bidirectional": 2}
NODE, CONTAINER = 2, 1


def only(what, known):
    strange = set(what) - known
    if strange:
        sys.exit(f"cri.py: what is to be asked for {', '.join(sorted(strange))}?")


def volumes(spec, config, out):
    """Volumes by name, as paths of the node."""
    paths = {}
    for volume in spec["volumes"]:
        name = volume["name"]
        match volume:
            case {"hostPath": {"path": path}}:
                paths[name] = path
            case {"configMap": {"name": map_name}}:
                directory = out / "config" / name
                directory.mkdir(parents=True)
                for file, text in config[map_name].items():
                    (directory / file).write_text(text)
                paths[name] = f"/run/node/config/{name}"
            case {"emptyDir": _}:
                paths[name] = f"/run/node/empty/{name}"
            case _:
                sys.exit(f"cri.py: what is volume {volume}?")
    return paths


def probe(name, asked):
    """A line that says how to ask, with what the API fills in."""
    only(asked, {"exec", "periodSeconds", "failureThreshold", "timeoutSeconds"})
    only(asked["exec"], {"command"})
    times = asked.get("periodSeconds", 10), asked.get("failureThreshold", 3), asked.get("timeoutSeconds", 1)
    return name, *times, shlex.join(asked["exec"]["command"])


def tolerate(tolerations):
    """As the scheduler compares them with taints that have no value."""
    for key, effect in TAINTS:
        fits = (
            one.get("operator", "Equal") == "Exists"
            and one.get("key", key) == key
            and one.get("effect", effect) == effect
            for one in tolerations
        )
        if not any(fits):
            sys.exit(f"cri.py: no toleration for {key}:{effect}")


def main(out):
    documents = list(yaml.safe_load_all(sys.stdin))
    config = {d["metadata"]["name"]: d["data"] for d in documents if d["kind"] == "ConfigMap"}
    [daemon_set] = [d for d in documents if d["kind"] == "DaemonSet"]
    spec = daemon_set["spec"]["template"]["spec"]
    only(spec, POD_ASIDE | {"hostPID", "hostNetwork", "tolerations", "containers", "volumes"})
    tolerate(spec["tolerations"])
    [container] = spec["containers"]
    only(
        container,
        CONTAINER_ASIDE | PROBES | {"name", "image", "args", "env", "securityContext", "volumeMounts"},
    )
    security = container["securityContext"]
    only(security, {"privileged", "readOnlyRootFilesystem"})

    out.mkdir(parents=True)
    probes = (probe(name, container[name]) for name in sorted(PROBES))
    (out / "probes").write_text("".join(" ".join(map(str, one)) + "\n" for one in probes))
    paths = volumes(spec, config, out)
    namespaces = {
        "network": NODE if spec.get("hostNetwork") else 0,
        "pid": NODE if spec.get("hostPID") else CONTAINER,
    }
    pod = {
        "metadata": {
            "name": "hedgerow-x7k2p",
            "namespace": daemon_set["metadata"]["namespace"],
            "uid": "node-hedgerow",
            "attempt": 1,
        },
        "log_directory": "/run/node/logs",
        "linux": {
            "cgroup_parent": "kubepods.slice",
            "security_context": {
                "namespace_options": namespaces,
                "privileged": security["privileged"],
            },
        },
    }
    asked = {
        "metadata": {"name": container["name"]},
        "image": {"image": container["image"]},
        "args": container["args"],
        "envs": [
            {"key": one["name"], "value": FIELDS[one["valueFrom"]["fieldRef"]["fieldPath"]]}
            for one in container["env"]
        ],
        "log_path": "hedgerow.log",
        "mounts": [
            {
                "container_path": mount["mountPath"],
                "host_path": paths[mount["name"]],
                "readonly": mount.get("readOnly", False),
                "propagation": PROPAGATION[mount.get("mountPropagation", "None")],
            }
            for mount in container["volumeMounts"]
        ],
        "linux": {
            "security_context": {
                "namespace_options": namespaces,
                "privileged": security["privileged"],
                "readonly_rootfs": security["readOnlyRootFilesystem"],
            }
        },
    }
    (out / "pod.json").write_text(json.dumps(pod, indent=1))
    (out / "container.json").write_text(json.dumps(asked, indent=1))


if len(sys.argv) != 2:
    sys.exit(__doc__)
main(pathlib.Path(sys.argv[1]))
