#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs in the guest of scripts/pod-test: a pod that connects, and Hedgerow's own, under containerd's CRI.
. /files/common.sh
evidence() {
	tail -n 30 /run/node/logs/*.log 2>&1
	journalctl --no-pager -u containerd -n 20 2>&1
	hedgerow status
	cat /run/out
}
export CRI_CONFIG_FILE=/run/crictl.yaml CONTAINER_RUNTIME_ENDPOINT=unix:///run/containerd/containerd.sock
crictl() { /files/crictl --timeout 60s "$@"; }
hedgerow() { crictl exec "$daemon" /usr/bin/hedgerow "$@"; }
probed() { # name: asks once as the kubelet does
	local name period failures seconds command
	read -r name period failures seconds command < <(grep "^$1 " /run/node/probes)
	# shellcheck disable=SC2086
	timeout "$seconds" /files/crictl --timeout 60s exec "$daemon" $command
}
comes() { # name: before so many tries have failed
	local name period failures command
	read -r name period failures _ command < <(grep "^$1 " /run/node/probes)
	echo "$name: $command, $failures times $period s"
	until_ $((period * failures)) "$1" probed "$1"
}
healthy() { # what a scraper asks
	timeout 10 bash -c 'exec 3<>/dev/tcp/127.0.0.1/9469 && printf "GET /healthz HTTP/1.0\r\n\r\n" >&3 &&
		read -r _ status _ <&3 && [ "$status" = 200 ]'
}
hold() { # takes more places of the metrics' port than there are, for a while
	local _
	for _ in {1..16}; do (exec 3<>/dev/tcp/127.0.0.1/9469 && exec sleep 30) & done
}
start_daemon() {
	pod=$(crictl runp /run/node/pod.json) || fail "its pod"
	daemon=$(crictl create "$pod" /run/node/container.json /run/node/pod.json) || fail "its container"
	crictl start "$daemon" >/dev/null || fail "it doesn't start"
	comes startupProbe
	comes livenessProbe
}

step "a node"
chmod +x /files/crictl
tar -C /run -xf /files/node.tar
mkdir -p /run/node/logs /run/node/empty/control /var/lib/hedgerow /run/containers
: >/run/crictl.yaml
touch /run/tries /etc/resolv.conf
echo "127.0.0.1 localhost" >/etc/hosts
mkdir -p /etc/containerd
cat >/etc/containerd/config.toml <<'TOML'
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
    SystemdCgroup = true
TOML
systemctl restart containerd || fail "containerd"
until_ 60 "the CRI" crictl version
for image in pause hedgerow; do
	ctr -n k8s.io images import /files/$image.tar || fail "image $image"
done

step "a service of the node, and a pod that connects to it"
cat >/run/systemd/system/lab-listener.service <<'UNIT'
[Service]
ExecStart=/usr/bin/systemd-socket-activate --accept --inetd -l 127.0.0.1:9999 /bin/echo hello
UNIT
systemctl daemon-reload
systemctl start lab-listener.service
cat >/run/client.sh <<'CLIENT'
while :; do
	busybox=/bin/busybox
	# Only who was answered was let through: a busy node may take seconds to start a program.
	why=$($busybox timeout 30 $busybox nc 127.0.0.1 9999 </dev/null 2>&1)
	case $why in *hello*) echo ok ;; *'not permitted'*) echo denied ;; *) echo "else: $why" ;; esac >>/run/tries
	$busybox sleep .3 2>/dev/null || read -t 1 never </run/never
done
CLIENT
mkfifo /run/never
cat >/run/web.json <<'JSON'
{"metadata": {"name": "web-5d4f8c6b7d-q8x2z", "namespace": "shop", "uid": "node-web", "attempt": 1},
 "log_directory": "/run/node/logs",
 "linux": {"cgroup_parent": "kubepods.slice", "security_context": {"namespace_options": {"network": 2}}}}
JSON
cat >/run/client.json <<'JSON'
{"metadata": {"name": "client"}, "image": {"image": "localhost/pause:1"},
 "command": ["/bin/busybox", "sh", "/run/client.sh"], "log_path": "client.log",
 "mounts": [{"container_path": "/run", "host_path": "/run"}],
 "linux": {"security_context": {"namespace_options": {"network": 2}}}}
JSON
web=$(crictl runp /run/web.json) || fail "the pod"
client=$(crictl create "$web" /run/client.json /run/web.json) || fail "the container"
crictl start "$client" >/dev/null || fail "the container doesn't start"
until_ 60 "a connection" newest_is ok

step "the DaemonSet's pod is alive and ready, and finds what it needs"
start_daemon
hedgerow doctor >/run/out 2>&1 || { cat /run/out; fail doctor; }
head -n 4 /run/out

step "of its capabilities it keeps four"
# Those of docs/security.md: permitted and bounding all, in effect the two that it always needs.
grep -hE '^(Cap|NoNewPrivs)' /proc/"$(pgrep -ox hedgerow)"/task/*/status | sort -u >/run/out
[ "$(awk '{ print $1 $2 }' /run/out | tr '\n' ' ')" = "CapAmb:0000000000000000 CapBnd:0000000000281004 CapEff:0000000000080004 CapInh:0000000000000000 CapPrm:0000000000281004 NoNewPrivs:1 " ] ||
	fail "its capabilities"

step "who holds the metrics' port neither has it restarted nor keeps a scraper out"
hold
probed livenessProbe >/dev/null || fail "livenessProbe"
until_ 20 "/healthz" healthy

step "the pod is known by namespace, owner and container, and refused"
named() { hedgerow mode --json | grep -q k8s:shop/web/client; }
until_ 120 "its name" named
hedgerow mode --json | grep -o 'k8s:[a-z/]*' | sort -u
add() { hedgerow deny add --workload k8s:shop/web/client --for 1h >/run/out 2>&1; }
until_ 60 "an entry" add
until_ 30 "a refusal" newest_is denied

step "a rollout is no gap"
crictl stopp "$pod" >/dev/null || fail "its pod doesn't stop"
crictl rmp "$pod" >/dev/null
: >/run/tries
start_daemon
hedgerow deny list >/run/out && grep -q k8s:shop/web/client /run/out || fail "the entry is gone: $(cat /run/out)"
sleep 5
all_refused 3 "the rollout"
comes livenessProbe

step "lifted"
hedgerow deny remove --all >/run/out 2>&1 || fail "$(cat /run/out)"
until_ 30 "a connection" newest_is ok
echo "pod-test: passed"
