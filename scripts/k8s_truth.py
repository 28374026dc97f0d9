# SPDX-License-Identifier: Apache-2.0
"""What scripts/k8s-truth does in namespaces of its own: k8s_truth.py HEDGEROW KUBE_APISERVER."""

import base64
import json
import math
import os
import pathlib
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import yaml

NODE, OTHER = "node-1", "node-2"
API, ETCD, ETCD_PEER, DATABASE = 16443, 12379, 12380, 5432
DATABASE_ADDRESS = "10.77.0.9"
ADMIN = "k8s-truth-admin"
LEARN_S = 60
MANIFESTS = pathlib.Path("packaging/kubernetes/rbac.yaml")


def step(text):
    print(f"k8s-truth: {text}", flush=True)


def fail(text):
    sys.exit(f"k8s-truth: FAILED: {text}")


def run(*words, **more):
    return subprocess.run(words, check=True, capture_output=True, text=True, **more).stdout


def until(seconds, what, done):
    """What `done` returns, once that is something."""
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        told = done()
        if told:
            print(f"k8s-truth:   {time.monotonic() - begun:5.1f} s  {what}", flush=True)
            return told
        time.sleep(0.2)
    fail(f"{what}: not within {seconds} s")


class Cluster:
    """An API server with its etcd."""

    def __init__(self, home, program):
        self.home, self.program, self.server = home, program, None
        self.certificates()
        self.etcd = subprocess.Popen(
            ["etcd", "--data-dir", home / "etcd", "--listen-client-urls", f"http://127.0.0.1:{ETCD}",
             "--advertise-client-urls", f"http://127.0.0.1:{ETCD}",
             "--listen-peer-urls", f"http://127.0.0.1:{ETCD_PEER}",
             "--initial-advertise-peer-urls", f"http://127.0.0.1:{ETCD_PEER}",
             "--initial-cluster", f"default=http://127.0.0.1:{ETCD_PEER}", "--unsafe-no-fsync"],
            stdout=subprocess.DEVNULL, stderr=open(home / "etcd.log", "w"),
        )  # fmt: skip
        self.start()

    def certificates(self):
        at = self.home
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=k8s-truth",
            "-keyout", at / "ca.key", "-out", at / "ca.crt")  # fmt: skip
        run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=kube-apiserver",
            "-keyout", at / "server.key", "-out", at / "server.csr")  # fmt: skip
        (at / "san").write_text("subjectAltName=IP:127.0.0.1\n")
        run("openssl", "x509", "-req", "-days", "2", "-in", at / "server.csr", "-CA", at / "ca.crt", "-CAkey",
            at / "ca.key", "-CAcreateserial", "-extfile", at / "san", "-out", at / "server.crt")  # fmt: skip
        run("openssl", "genrsa", "-out", at / "accounts.key", "2048")
        (at / "tokens").write_text(f'{ADMIN},admin,admin,"system:masters"\n')
        self.context = ssl.create_default_context(cafile=at / "ca.crt")

    def start(self):
        at = self.home
        self.server = subprocess.Popen(
            [self.program, "--etcd-servers", f"http://127.0.0.1:{ETCD}", "--bind-address", "127.0.0.1",
             "--advertise-address", "127.0.0.1", "--secure-port", str(API), "--cert-dir", at / "own",
             "--tls-cert-file", at / "server.crt", "--tls-private-key-file", at / "server.key",
             "--service-account-key-file", at / "accounts.key",
             "--service-account-signing-key-file", at / "accounts.key",
             "--service-account-issuer", "https://kubernetes.default.svc", "--authorization-mode", "RBAC",
             "--token-auth-file", at / "tokens", "--service-cluster-ip-range", "10.96.0.0/24",
             "--disable-admission-plugins", "ServiceAccount"],
            stdout=subprocess.DEVNULL, stderr=open(at / "apiserver.log", "a"),
        )  # fmt: skip
        until(180, "the API is ready", self.ready)

    def ready(self):
        if self.server.poll() is not None:
            fail((self.home / "apiserver.log").read_text()[-2000:])
        try:
            return self.ask("GET", "/readyz", raw=True) == b"ok"
        except OSError:
            return False

    def stop(self):
        self.server.terminate()
        self.server.wait()

    def ask(self, method, path, body=None, raw=False, kind="application/json"):
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": kind}
        request = urllib.request.Request(f"https://127.0.0.1:{API}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, context=self.context, timeout=30) as answer:
                told = answer.read()
        except urllib.error.HTTPError as why:
            if raw:
                return b""
            fail(f"{method} {path}: {why.code} {why.read()[:500]}")
        return told if raw else json.loads(told)

    def make(self, path, body):
        return self.ask("POST", path, body)

    def rbac(self):
        """The manifest's account and rights, in the namespace that kustomize gives them."""
        paths = {
            "ServiceAccount": "/api/v1/namespaces/hedgerow/serviceaccounts",
            "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
            "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        }
        for one in yaml.safe_load_all(MANIFESTS.read_text()):
            self.make(paths[one["kind"]], one)

    def token(self):
        path = "/api/v1/namespaces/hedgerow/serviceaccounts/hedgerow/token"
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        return self.make(path, asked)["status"]["token"]

    def pod(self, name, app, owner, node=NODE, address=None):
        """A pod on a node, as a controller would make it and a kubelet tell of it."""
        path = "/api/v1/namespaces/shop/pods"
        pod = self.make(path, {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": app, "tier": "back" if app == "db" else "front"},
                         "ownerReferences": [owner]},
            "spec": {"nodeName": node, "containers": [{"name": "main", "image": "localhost/pause:1"}]},
        })  # fmt: skip
        status = {"phase": "Running"} | ({"podIP": address, "podIPs": [{"ip": address}]} if address else {})
        self.ask("PATCH", f"{path}/{name}/status", {"status": status}, kind="application/merge-patch+json")
        return pod["metadata"]["uid"]


def owner(made, kind, api):
    return {"apiVersion": api, "kind": kind, "name": made["metadata"]["name"], "uid": made["metadata"]["uid"],
            "controller": True}  # fmt: skip


def template(app):
    return {"metadata": {"labels": {"app": app}},
            "spec": {"containers": [{"name": "main", "image": "localhost/pause:1"}]}}  # fmt: skip


def controllers(cluster):
    """One of each kind, with what it makes, by the name of the pod that is theirs."""
    apps, batch = "/apis/apps/v1/namespaces/shop", "/apis/batch/v1/namespaces/shop"

    def app(kind, name, plural, own=None, **spec):
        meta = {"name": name, "labels": {"app": spec.pop("app", name)}} | ({"ownerReferences": [own]} if own else {})
        labels = meta["labels"]["app"]
        body = {"selector": {"matchLabels": {"app": labels}}, "template": template(labels)} | spec
        return cluster.make(f"{apps}/{plural}", {"kind": kind, "apiVersion": "apps/v1", "metadata": meta, "spec": body})

    job = template("nightly")
    job["spec"]["restartPolicy"] = "Never"
    web = app("Deployment", "web", "deployments")
    replicas = app("ReplicaSet", "web-5d4f8c6b7d", "replicasets", owner(web, "Deployment", "apps/v1"), app="web")
    agent = app("DaemonSet", "agent", "daemonsets")
    database = app("StatefulSet", "db", "statefulsets", serviceName="db")
    cron = cluster.make(f"{batch}/cronjobs", {
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly"},
        "spec": {"schedule": "0 0 * * *", "jobTemplate": {"spec": {"template": job}}},
    })  # fmt: skip
    nightly = cluster.make(f"{batch}/jobs", {
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "nightly-29000000", "ownerReferences": [owner(cron, "CronJob", "batch/v1")]},
        "spec": {"template": job},
    })  # fmt: skip
    return {
        "web-5d4f8c6b7d-q8x2z": ("web", owner(replicas, "ReplicaSet", "apps/v1"), ("Deployment", "web")),
        "nightly-29000000-b8x2c": ("nightly", owner(nightly, "Job", "batch/v1"), ("CronJob", "nightly")),
        "agent-x7k2p": ("agent", owner(agent, "DaemonSet", "apps/v1"), ("DaemonSet", "agent")),
        "db-0": ("db", owner(database, "StatefulSet", "apps/v1"), ("StatefulSet", "db")),
    }


class Container:
    """A process in a pod's cgroup, as a kubelet and containerd would have made it."""

    def __init__(self, home, pod, uid, number):
        self.pod, self.number, self.attacked = pod, f"{number:064x}", -math.inf
        mounts = [line.split(" ") for line in open("/proc/self/mountinfo")]
        root = pathlib.Path(next(one[4] for one in mounts if one[one.index("-") + 1] == "cgroup2" and one[3] == "/"))
        slice_ = f"kubepods-pod{uid.replace('-', '_')}.slice"
        self.cgroup = root / "kubepods.slice" / slice_ / f"cri-containerd-{self.number}.scope"
        self.cgroup.mkdir(parents=True)
        described = pathlib.Path("/run/containerd/io.containerd.runtime.v2.task/k8s.io") / self.number
        described.mkdir(parents=True)
        prefix = "io.kubernetes.cri."
        annotations = {
            prefix + "container-type": "container", prefix + "sandbox-namespace": "shop",
            prefix + "sandbox-name": pod, prefix + "container-name": "main",
        }  # fmt: skip
        (described / "config.json").write_text(json.dumps({"annotations": annotations}))
        self.orders, self.tries = home / f"{pod}.orders", home / f"{pod}.tries"
        os.mkfifo(self.orders)
        self.tries.touch()
        # It works a little all the time, and does what it is told.
        program = f"""
        exec 3<>{self.orders}
        while :; do
            if read -r -t 0.5 order <&3; then eval "$order"; fi
            /bin/true
        done
        """
        self.shell = subprocess.Popen(
            ["bash", "-c", program], preexec_fn=lambda: (self.cgroup / "cgroup.procs").write_text(str(os.getpid()))
        )

    def tell(self, order):
        with open(self.orders, "w") as orders:
            orders.write(order + "\n")

    def attack(self, place):
        """A program out of a writable place calls the database of another node."""
        implant = f"{place}/{self.pod}"
        self.tell(f"cp /bin/bash {implant}; {implant} -c 'exec 3<>/dev/tcp/{DATABASE_ADDRESS}/{DATABASE}; sleep 8' &")

    def connects(self):
        """Whether it reaches the database now."""
        before = len(self.tries.read_text())
        self.tell(
            f"if timeout 5 bash -c 'exec 3<>/dev/tcp/{DATABASE_ADDRESS}/{DATABASE}' 2>/dev/null; "
            f"then echo y; else echo n; fi >>{self.tries}"
        )
        told = until(30, f"{self.pod} tried", lambda: self.tries.read_text()[before:])
        return told.startswith("y")

    def end(self):
        for line in (self.cgroup / "cgroup.procs").read_text().split():
            os.kill(int(line), signal.SIGKILL)
        self.shell.wait()
        time.sleep(0.5)
        self.cgroup.rmdir()
        self.cgroup.parent.rmdir()


class Hedgerow:
    """The daemon, and its commands."""

    def __init__(self, home, program, token):
        self.program, self.findings = program, []
        (home / "token").write_text(token)
        (home / "token").chmod(0o600)
        (home / "kubeconfig").write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {
                "server": f"https://127.0.0.1:{API}",
                "certificate-authority-data": base64.b64encode((home / "ca.crt").read_bytes()).decode(),
            }}],
            "users": [{"name": "u", "user": {"tokenFile": str(home / "token")}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }))  # fmt: skip
        self.config = home / "hedgerow.toml"
        self.config.write_text(
            f'state = "{home}/state"\n[kubernetes]\nenabled = true\nnode = "{NODE}"\nkubeconfig = "{home}/kubeconfig"\n'
        )
        self.log = open(home / "hedgerow.log", "w")
        self.daemon = subprocess.Popen(
            [program, "run", "--json", "--learn", f"{LEARN_S}s", "--config", self.config],
            stdout=subprocess.PIPE, stderr=self.log, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.daemon.stdout:
            told = json.loads(line)
            if "finding" in told:
                self.findings.append(told["finding"])

    def ask(self, *words):
        return subprocess.run([self.program, *words, "--config", self.config], capture_output=True, text=True)

    def status(self):
        asked = self.ask("status", "--json")
        return json.loads(asked.stdout) if asked.returncode == 0 else {}

    def api(self):
        return self.status().get("kubernetes", {})

    def doctor(self):
        told = json.loads(self.ask("doctor", "--json").stdout)
        return {check["what"]: check for check in told["kubernetes"]}

    def of_pod(self, workload, wants):
        for finding in self.findings:
            if finding["subject"]["workload"] == workload and wants(finding):
                return finding
        return None


def listen():
    """A database on another node."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "address", "add", f"{DATABASE_ADDRESS}/32", "dev", "lo")
    program = (
        "import socket, time\n"
        f"s = socket.create_server(('{DATABASE_ADDRESS}', {DATABASE}))\n"
        "held = []\n"
        "while True: held = (held + [s.accept()])[-64:]\n"
    )
    return subprocess.Popen([sys.executable, "-c", program])


def attacked(hedgerow, container, place):
    """A report that has both names; what a busy API had no time to answer is in a later one."""
    now = time.monotonic()
    if now - container.attacked > 25:
        container.attacked = now
        container.attack(place)
    for one in hedgerow.findings:
        if one.get("pod", {}).get("name") == container.pod and one.get("peer_pods") and one["pod"].get("owner"):
            if one["pod"]["owner"]["kind"] not in ("ReplicaSet", "Job"):
                return one
    return None


def names(cluster, hedgerow, containers, wanted, place):
    step("a finding has labels, the owner in the end, and both names")
    for pod, container in containers.items():
        app, _, (kind, name) = wanted[pod]
        workload = f"k8s:shop/{app}/main" if app != "nightly" else None
        told = until(150, f"a finding of {pod}", lambda: attacked(hedgerow, container, place))
        if workload and told["subject"]["workload"] != workload:
            fail(f"its workload is {told['subject']['workload']}")
        if told["pod"].get("owner") != {"kind": kind, "name": name}:
            fail(f"owner: {told['pod']}")
        if told["pod"]["labels"] != {"app": app, "tier": "front"}:
            fail(f"labels: {told['pod']}")
        [peer] = told["peer_pods"]
        if (peer["address"], peer["namespace"], peer["name"]) != (DATABASE_ADDRESS, "shop", "db-0"):
            fail(f"peer: {peer}")
        if peer.get("owner") != {"kind": "StatefulSet", "name": "db"}:
            fail(f"peer's owner: {peer}")
        print(f"k8s-truth:   {told['subject']['workload']}: {pod} of {kind} {name}, called shop/db-0 of StatefulSet db")


def denies(hedgerow, containers):
    step("a denial by selector says whom it means, and refuses them")
    web, agent = containers["web-5d4f8c6b7d-q8x2z"], containers["agent-x7k2p"]
    selector = ["deny", "add", "--selector", "app in (web,api),tier!=back", "--namespace", "shop"]
    told = hedgerow.ask(*selector, "--dry-run")
    print("   ", told.stdout.strip().replace("\n", "\n    "))
    if "shop/web-5d4f8c6b7d-q8x2z" not in told.stdout or "agent" in told.stdout or told.returncode:
        fail(told.stdout + told.stderr)
    if not web.connects():
        fail("a dry run refuses")
    told = hedgerow.ask(*selector)
    if told.returncode:
        fail(told.stderr)
    if web.connects() or not agent.connects():
        fail("the wrong ones are refused")
    hedgerow.ask("deny", "remove", "--all")
    if not web.connects():
        fail("it stays refused")
    for words, said in [
        (["--selector", "app=none", "--namespace", "shop"], "no pod of node node-1 is meant"),
        (["--pod", "shop/db-0"], "no pod of node node-1 is meant"),
        (["--selector", "app=", "--namespace", "shop"], "no pod of node node-1 is meant"),
        (["--selector", ",", "--namespace", "shop"], "is no part of a selector"),
    ]:
        told = hedgerow.ask("deny", "add", *words, "--dry-run")
        if told.returncode == 0 or said not in told.stderr:
            fail(f"{words}: {told.stdout} {told.stderr}")
    told = hedgerow.ask("deny", "add", "--pod", "shop/agent-x7k2p", "--peer", "192.0.2.1", "--dry-run", "--json")
    if json.loads(told.stdout)["pods"] != ["shop/agent-x7k2p"]:
        fail(told.stdout + told.stderr)


def forbidden(cluster, hedgerow):
    step("what RBAC forbids is said in its words, with the way out")
    path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    cluster.ask("DELETE", f"{path}/hedgerow")
    told = until(120, "the daemon is told", lambda: "forbidden" in (hedgerow.api().get("down") or "") and hedgerow.api())
    print("   ", told["down"])
    if "packaging/kubernetes/rbac.yaml" not in told["down"] or "system:serviceaccount:hedgerow:hedgerow" not in told["down"]:
        fail(told["down"])
    checks = hedgerow.doctor()
    for what in ["pods", "replicasets", "jobs"]:
        if checks[what]["good"] or "rbac.yaml" not in checks[what]["way_out"]:
            fail(f"doctor: {checks[what]}")
    if not checks["the API is reached"]["good"]:
        fail(f"doctor: {checks}")
    [binding] = [one for one in yaml.safe_load_all(MANIFESTS.read_text()) if one["kind"] == "ClusterRoleBinding"]
    cluster.make(path, binding)
    until(120, "it asks again", lambda: not hedgerow.api().get("down"))
    # Each of its questions has ten seconds, which a busy machine may take.
    until(120, "doctor finds nothing missing", lambda: all(one["good"] for one in hedgerow.doctor().values()))


def loss(cluster, hedgerow, containers, place):
    step("without the API names are as before, and nothing is denied by what it said")
    before = {one["workload"] for one in hedgerow.status()["workloads"]}
    cluster.stop()
    until(90, "status says so", lambda: hedgerow.api().get("down"))
    told = hedgerow.ask("deny", "add", "--selector", "app=web", "--namespace", "shop", "--dry-run")
    if told.returncode == 0 or "the Kubernetes API is not there" not in told.stderr:
        fail(told.stdout + told.stderr)
    print("   ", told.stderr.strip())
    time.sleep(10)
    after = {one["workload"] for one in hedgerow.status()["workloads"] if one["workload"].startswith("k8s:")}
    if not after <= before:
        fail(f"workloads changed: {before} {after}")
    cluster.start()
    until(120, "it is there again", lambda: not hedgerow.api().get("down"))
    uid = cluster.pod("late", "late", {"apiVersion": "v1", "kind": "Node", "name": NODE, "uid": "n", "controller": True})
    until(30, f"a pod that came since is known ({uid})", lambda: hedgerow.api().get("pods") == len(containers) + 1)


def main(program, apiserver):
    run("mount", "--make-rprivate", "/")
    run("mount", "-t", "tmpfs", "tmpfs", "/run/containerd")
    home = pathlib.Path(tempfile.mkdtemp(prefix="hedgerow-k8s."))
    place = tempfile.mkdtemp(prefix="k8s-truth.", dir="/tmp")
    os.chmod(place, 0o1777)
    ended, containers = [], {}
    try:
        database = listen()
        ended.append(database.kill)
        step("an API server with etcd")
        cluster = Cluster(home, apiserver)
        ended += [cluster.etcd.kill, lambda: cluster.server.kill()]
        for namespace in ["hedgerow", "shop"]:
            cluster.make("/api/v1/namespaces", {"metadata": {"name": namespace}})
        cluster.rbac()
        wanted = controllers(cluster)
        uids = {}
        for pod, (app, own, _) in wanted.items():
            away = (OTHER, DATABASE_ADDRESS) if app == "db" else (NODE, None)
            uids[pod] = cluster.pod(pod, app, own, *away)
        for number, pod in enumerate(pod for pod in wanted if pod != "db-0"):
            containers[pod] = Container(home, pod, uids[pod], number + 1)
        step("Hedgerow, as the service account of the manifest")
        hedgerow = Hedgerow(home, program, cluster.token())
        ended.append(lambda: (hedgerow.daemon.send_signal(signal.SIGINT), hedgerow.daemon.wait()))
        until(120, "it knows the node's pods", lambda: hedgerow.api().get("pods") == len(containers))
        print("   ", next(line for line in hedgerow.ask("status").stdout.splitlines() if line.startswith("kubernetes:")))
        if not all(check["good"] for check in hedgerow.doctor().values()):
            fail(f"doctor: {hedgerow.doctor()}")
        until(600, "it scores", lambda: hedgerow.status().get("phase") == "scoring")
        names(cluster, hedgerow, containers, wanted, place)
        denies(hedgerow, containers)
        forbidden(cluster, hedgerow)
        loss(cluster, hedgerow, containers, place)
        step("passed")
    except BaseException:
        for log in ["hedgerow.log", "apiserver.log"]:
            if (home / log).exists():
                print(f"--- {log}\n" + (home / log).read_text()[-3000:], file=sys.stderr)
        raise
    finally:
        for end in reversed(ended):
            try:
                end()
            except Exception as why:
                print(f"k8s-truth: {why}", file=sys.stderr)
        for container in containers.values():
            container.end()
        if containers:
            next(iter(containers.values())).cgroup.parent.parent.rmdir()
        shutil.rmtree(home)
        shutil.rmtree(place)


if __name__ == "__main__":
    main(*sys.argv[1:])
