#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs in the guest of scripts/package-test: installs /files/previous.deb, uses it, upgrades to
# /files/hedgerow.deb, asks of that what a package is to do, removes and purges it; then the same with the
# .rpm, as far as that differs. Nothing is asked of the previous package but what is to outlast it.
. /files/common.sh
evidence() {
	systemctl status --no-pager --full hedgerow 2>&1 | tail -n 20
	journalctl --no-pager -u hedgerow -n 40 2>&1
}
said() { grep -q -- "$1" "$2"; }
passed() { # since when, in ns
	awk -v from="$1" -v to="$(date +%s%N)" 'BEGIN { printf "%.1f s", (to - from) / 1e9 }'
}
licences() { # each that is in force for a part of the program
	for file in LICENSE LICENSES/GPL-2.0-only.txt LICENSES/BSD-2-Clause.txt THIRD-PARTY; do
		[ -s "/usr/share/doc/hedgerow/$file" ] || fail "$file is not installed"
	done
	said "Rust's standard library" /usr/share/doc/hedgerow/THIRD-PARTY || fail "no licence of Rust's standard library"
}
closed_to_others() { # what may hold passwords, whatever umask it was written with
	[ "$(stat -c '%a %U %G' /etc/hedgerow/conf.d)" = '750 root root' ] || fail "others may read conf.d"
	! runuser -u nobody -- cat /etc/hedgerow/conf.d/40-guest.toml 2>/dev/null || fail "others read a password"
}
pages() { # are there with all that they point to
	(cd /usr/share/doc/hedgerow && for page in configuration.md runbook.md security.md metrics.md kafka.md benchmarks.md; do
		for linked in "$page" $(grep -oE '\]\([a-z/-]*\.(md|svg)' "$page" | cut -c3-); do
			[ -s "$linked" ] || fail "$linked, of $page, is not installed"
		done
	done)
	for named in prometheus/hedgerow.rules.yml grafana/hedgerow.json kafka/consume.py; do
		[ -s "/usr/share/doc/hedgerow/$named" ] || fail "$named is not installed"
	done
}
# What each of its threads holds, whether it could get more, and whether its calls are filtered.
capabilities() {
	grep -hE '^(Cap|NoNewPrivs|Seccomp:)' /proc/"$(systemctl show -P MainPID hedgerow)"/task/*/status | sort | uniq -c
}
kept_only() { # DAC_READ_SEARCH, SYS_PTRACE, and for single steps NET_ADMIN, SYS_ADMIN
	capabilities >/run/out
	[ "$(awk '{ print $2 $3 }' /run/out | tr '\n' ' ')" = "CapAmb:0000000000000000 CapBnd:0000000000281004 CapEff:0000000000080004 CapInh:0000000000000000 CapPrm:0000000000281004 NoNewPrivs:1 Seccomp:2 " ] ||
		fail "capabilities: $(cat /run/out)"
}
modes_stand() {
	hedgerow mode >/run/out && [ "$(head -n 1 /run/out)" = monitor ] &&
		said 'lab-client.service: enforce' /run/out
}
configured() { # with what state can be left behind by: it learns as briefly as it can, and scores soon
	mkdir -p /etc/hedgerow/conf.d
	chmod 755 /etc/hedgerow/conf.d
	# Nothing listens on the discard port: reports wait in the spool.
	cat >/etc/hedgerow/conf.d/40-guest.toml <<-'TOML'
		learn = "1m"
		[kafka]
		brokers = "127.0.0.1:9"
		[kafka.sasl]
		mechanism = "PLAIN"
		username = "u"
		password = "S3CRET"
		[journald]
		[metrics]
		listen = "127.0.0.1:9469"
	TOML
}
readable() { # by who is in the group
	[ "$(stat -c '%a %U %G' /run/hedgerow)" = '750 root hedgerow' ] || fail "the readers' directory"
	[ "$(stat -c '%a %U %G' /run/hedgerow/control.sock)" = '660 root hedgerow' ] || fail "the readers' socket"
}
installed() { # as whoever installs it finds it
	systemctl is-active hedgerow || fail "it is not active"
	systemctl is-enabled hedgerow || fail "it is not enabled"
	[ "$(stat -c '%a %U' /var/lib/hedgerow)" = '700 root' ] || fail "others may read the state"
	readable
	kept_only
	closed_to_others
	hedgerow config check >/run/out 2>&1 || fail "$(cat /run/out)"
	! said 'every user may read' /run/out || fail "$(cat /run/out)"
	licences
	pages
}
refused() { # orders it, for the unit that connects
	until_ 60 "an entry" hedgerow deny add --workload lab-client.service --for 1h
	until_ 20 "a refusal" newest_is denied
}
# Uid and level of what is refused by order: what the daemon itself counts may end meanwhile.
entries() { hedgerow deny list | awk '$2 == "enforce" { print $1, $2 }' | sort; }
# When the last of it ends, in s.
ends() { grep -o '"expires_ns":[0-9]*' | cut -d : -f 2 | sort -n | tail -n 1 | cut -c 1-10; }
closed() { grep -- "\"uid\":\"$finding\"" /var/lib/hedgerow/findings.jsonl | grep -q '"activity":"close"'; }
spooled() { grep -aoh -- "$finding" /var/lib/hedgerow/kafka/*.spool | wc -l; }
in_use() { # the previous package: entries, an allowance, orders, an open finding, and what waits for the broker
	until_ 60 "lab-client.service" sh -c 'hedgerow mode --json | grep -q lab-client.service'
	until_ 20 "a connection" newest_is ok
	refused
	hedgerow deny add --peer 198.51.100.7 --for 2h >/run/out 2>&1 || fail "$(cat /run/out)"
	hedgerow allow add 192.0.2.9 --workload lab-client.service >/run/out 2>&1 || fail "$(cat /run/out)"
	until_ 300 "scoring" sh -c "hedgerow status --json | grep -q '\"phase\":\"scoring\"'"
	hedgerow mode monitor >/run/out 2>&1 || fail "$(cat /run/out)"
	hedgerow mode enforce --workload lab-client.service >/run/out 2>&1 || fail "$(cat /run/out)"
	modes_stand || fail "modes: $(cat /run/out)"
	hedgerow test --json >/run/test.json 2>/run/out || fail "hedgerow test: $(cat /run/out)"
	finding=$(grep -o '"finding_uid":"[0-9a-f]*"' /run/test.json | head -n 1 | cut -d '"' -f 4)
	[ -n "$finding" ] || fail "$(cat /run/test.json)"
	journalctl --all -o cat --output-fields=HEDGEROW_EVENT HEDGEROW_KIND=finding >/run/out
	said "$finding" /run/out || fail "the journal has no report of it"
	! closed || fail "its case is closed"
	waiting=$(spooled)
	[ "$waiting" -gt 0 ] || fail "nothing of it waits for the broker: $(ls -l /var/lib/hedgerow/kafka)"
	entries >/run/entries
	[ "$(wc -l </run/entries)" -eq 2 ] || fail "entries: $(cat /run/entries)"
	ends=$(hedgerow deny list --json | ends)
	before=$(systemctl show -P MainPID hedgerow)
	: >/run/tries
}
all_stands() { # as in_use left it
	[ "$(systemctl show -P MainPID hedgerow)" != "$before" ] || fail "the old daemon runs on"
	entries | diff /run/entries - || fail "entries are gone"
	hedgerow deny list --json | ends | awk -v was="$ends" 'END { exit !($1 - was < 5 && was - $1 < 5) }' ||
		fail "an entry ends at another time: $ends, $(hedgerow deny list --json)"
	! (: 3<>/dev/tcp/198.51.100.7/9) 2>/run/out && said 'not permitted' /run/out || fail "the peer: $(cat /run/out)"
	hedgerow allow list >/run/out && said '^192.0.2.9.* to lab-client.service' /run/out || fail "allowed: $(cat /run/out)"
	modes_stand || fail "modes: $(cat /run/out)"
	hedgerow findings list --all --json >/run/out && said "$finding" /run/out || fail "the finding is gone: $(cat /run/out)"
	until_ 20 "the close of what was open" closed
	[ "$(spooled)" -gt "$waiting" ] || fail "its reports wait no longer, or its close doesn't: $waiting, $(spooled)"
	hedgerow status --json | grep -q '"phase":"scoring"' || fail "what was learned is gone"
	sleep 3
	all_refused 10 "the upgrade"
}

step "a unit that listens, and one that connects to it"
cat >/run/systemd/system/lab-listener.service <<'UNIT'
[Service]
# The kernel takes connections that nobody accepts.
ExecStart=/usr/bin/systemd-socket-activate -l 127.0.0.1:9999 /bin/sleep infinity
UNIT
cat >/run/systemd/system/lab-client.service <<'UNIT'
[Service]
ExecStart=/bin/bash /run/client.sh
UNIT
# It starts no program: where BPF LSM programs load, a refused workload can't.
mkfifo /run/never
cat >/run/client.sh <<'CLIENT'
exec 9<>/run/never
while :; do
	read -rt .2 -u 9
	if why=$( { exec 3<>/dev/tcp/127.0.0.1/9999; } 2>&1); then
		echo ok
	else
		case $why in *'not permitted'*) echo denied ;; *) echo "else: $why" ;; esac
	fi >>/run/tries
done
CLIENT
systemctl daemon-reload
systemctl start --no-block lab-listener.service lab-client.service
until_ 60 "a connection" newest_is ok

step "install the previous package, and use it"
configured
echo 'nameserver 192.0.2.53' >/etc/resolv.conf
dpkg -i /files/previous.deb >/run/install.log 2>&1 || { cat /run/install.log; fail "dpkg -i"; }
in_use

step "upgrade from $(dpkg-deb -f /files/previous.deb Version) to $(dpkg-deb -f /files/hedgerow.deb Version)"
dpkg -i /files/hedgerow.deb >/run/upgrade.log 2>&1 || { cat /run/upgrade.log; fail "dpkg -i of the next version"; }
[ "$(dpkg-query -Wf '${Version}' hedgerow)" = "$(dpkg-deb -f /files/hedgerow.deb Version)" ] || fail "it was not upgraded"
installed
all_stands

step "who may read and who may steer"
useradd --no-create-home --groups hedgerow alice
runuser -u alice -- hedgerow status >/run/out 2>&1 || { cat /run/out; fail "a member can't read"; }
said '^watched:' /run/out || fail "$(cat /run/out)"
runuser -u alice -- hedgerow findings list >/run/out 2>&1 || fail "findings: $(cat /run/out)"
for order in 'mode monitor' disarm 'deny remove --all' 'deny add --workload lab-client.service'; do
	# shellcheck disable=SC2086
	! runuser -u alice -- hedgerow $order >/run/out 2>&1 || fail "a member steers: $order"
	grep -qi 'only root\|permission denied' /run/out || fail "$order: $(cat /run/out)"
done
! runuser -u nobody -- hedgerow status >/run/out 2>&1 || fail "nobody reads"
said 'members of the group hedgerow' /run/out || fail "$(cat /run/out)"
cat /run/out

step "what it reads of the host, it may read"
until_ 60 "a resolver" sh -c 'hedgerow deny add --peer 192.0.2.53 --dry-run 2>&1 | grep -q "a resolver"'
! journalctl _PID="$(systemctl show -P MainPID hedgerow)" -p warning -o cat |
	grep -E 'not implemented|not permitted|Permission denied' || fail "a call was refused"

step reload
echo 'budget = 0.0' >/etc/hedgerow/conf.d/50-wrong.toml
! hedgerow config check 2>/run/out || fail "a wrong budget is right"
said '50-wrong.toml: budget' /run/out || fail "$(cat /run/out)"
systemctl reload hedgerow || fail "reload"
until_ 20 "a warning in the journal" sh -c \
	'journalctl -u hedgerow -p warning..warning -o cat | grep -q "50-wrong.toml: budget"'
rm /etc/hedgerow/conf.d/50-wrong.toml
readable
systemctl is-active hedgerow >/dev/null || fail "a wrong file ended it"

step "a unit below another one is known, however deep it is"
cat >/run/deep.sh <<'DEEP'
below=/sys/fs/cgroup$(cut -d : -f 3- /proc/self/cgroup)/$(printf 'a%.0s' {1..200})/$(printf 'b%.0s' {1..200})/inner.service
mkdir -p "$below"
echo $$ >"$below/cgroup.procs"
exec 9<>/run/never
while :; do read -rt 1 -u 9; done
DEEP
cat >/run/systemd/system/lab-deep.service <<'UNIT'
[Service]
ExecStart=/bin/bash /run/deep.sh
Delegate=yes
UNIT
systemctl daemon-reload
systemctl start lab-deep.service
until_ 60 "lab-deep.service/a..." sh -c 'hedgerow mode --json | grep -q lab-deep.service/aaa'
systemctl stop lab-deep.service

step "a member may ask why"
runuser -u alice -- hedgerow why >/run/out 2>&1 || fail "why: $(cat /run/out)"
said 'by rule operator' /run/out || fail "$(cat /run/out)"

step "a bundle for who helps"
! runuser -u alice -- hedgerow support /tmp/bundle.tar.gz >/run/out 2>&1 || fail "a member has one"
hedgerow support /run/bundle.tar.gz >/run/out 2>&1 || fail "$(cat /run/out)"
[ "$(stat -c '%a %U' /run/bundle.tar.gz)" = '600 root' ] || fail "others may read the bundle"
tar -C /run -xzf /run/bundle.tar.gz
for part in versions.json doctor.json config.json status.json metrics.txt model.json files.json ledger.jsonl \
	findings.jsonl log.txt; do
	[ -s "/run/hedgerow-support/$part" ] || fail "no $part in the bundle: $(cat /run/out)"
done
said 50-wrong.toml /run/hedgerow-support/log.txt || fail "the journal isn't in it"
! grep -rl S3CRET /run/hedgerow-support || fail "there are secrets in it"

step "killed again and again, then stopped: none of it is a gap"
# From the next start on it refuses by itself, as below.
mkdir -p /run/systemd/system/hedgerow.service.d
cat >/run/systemd/system/hedgerow.service.d/at-once.conf <<'UNIT'
[Service]
ExecStart=
ExecStart=/usr/bin/hedgerow run --enforce-provisional
UNIT
systemctl daemon-reload
comes_back() { # seconds, signal
	before=$(systemctl show -P MainPID hedgerow)
	kill "-$2" "$before"
	until_ "$1" "a start after SIG$2" sh -c \
		"[ \$(systemctl show -P MainPID hedgerow) != $before ] && systemctl is-active hedgerow"
}
# A start may take as long as the unit says.
for _ in $(seq 5); do comes_back 180 KILL; done
# Nobody says for it that it turns: WatchdogSec.
comes_back 300 STOP
journalctl -u hedgerow -o cat | grep -q 'Watchdog timeout' || fail "the watchdog had no part in it"
kept_only
! grep -v '^denied$' /run/tries || fail "a connection was let through"

step "what runs from memory is denied by itself, and the connection that it inherited is cut"
cat >/run/implant.pl <<'PERL'
my $memory = syscall(319, my $name = "implant", 0); # memfd_create
open(my $file, ">&=", $memory) or die;
open(my $shell, "<", "/bin/bash") or die;
local $/;
syswrite($file, <$shell>) or die;
exec {"/proc/self/fd/$memory"} "implant", "/run/implant.sh";
PERL
# It made the one, not the other.
cat >/run/implant.sh <<'IMPLANT'
exec 8<>/dev/tcp/127.0.0.1/9999
while read -rt .25 -u 7 _ || [ $? -gt 128 ]; do :; done
echo cut >/run/held
IMPLANT
cat >/run/held.sh <<'HELD'
exec 7<>/dev/tcp/127.0.0.1/9999 9<>/run/never
until [ -e /run/go ]; do read -rt .5 -u 9; done
perl /run/implant.pl &
exec 7>&-
while :; do read -rt 1 -u 9; done
HELD
cat >/run/systemd/system/lab-held.service <<'UNIT'
[Service]
ExecStart=/bin/bash /run/held.sh
UNIT
systemctl daemon-reload
systemctl start lab-held.service
until_ 60 "lab-held.service" sh -c 'hedgerow mode --json | grep -q lab-held.service'
hedgerow mode enforce --workload lab-held.service >/run/out 2>&1 || fail "$(cat /run/out)"
: >/run/go
until_ 60 "an entry" sh -c 'hedgerow deny list --json | grep -q lab-held.service'
until_ 20 "the cut" said cut /run/held
systemctl stop lab-held.service

step remove
dpkg -r hedgerow >/run/remove.log 2>&1 || { cat /run/remove.log; fail "dpkg -r"; }
cat /run/remove.log
! ls /sys/fs/bpf | grep hedgerow || fail "pins are left"
[ -e /var/lib/hedgerow/ledger.jsonl ] || fail "the state is gone"
until_ 20 "a connection" newest_is ok

step "installed again it refuses nothing until it is armed"
rm -r /run/systemd/system/hedgerow.service.d
dpkg -i /files/hedgerow.deb >/run/again.log 2>&1 || { cat /run/again.log; fail "dpkg -i"; }
modes_stand || fail "modes: $(cat /run/out)"
! hedgerow deny add --workload lab-client.service --for 1h >/run/out 2>&1 || fail "it is armed"
said disarmed /run/out || fail "$(cat /run/out)"
hedgerow arm >/run/out 2>&1 || fail "$(cat /run/out)"
refused

step "purge, with a live entry"
dpkg -P hedgerow >/run/purge.log 2>&1 || { cat /run/purge.log; fail "dpkg -P"; }
for path in /var/lib/hedgerow /var/log/hedgerow /etc/hedgerow /run/hedgerow /usr/bin/hedgerow /usr/share/doc/hedgerow \
	/usr/lib/systemd/system/hedgerow.service /etc/systemd/system/multi-user.target.wants/hedgerow.service; do
	[ ! -e "$path" ] || fail "$path is left"
done
! getent group hedgerow || fail "the group is left"
! ls /sys/fs/bpf | grep hedgerow || fail "pins are left"
until_ 20 "a connection" newest_is ok

step "install on a host that never had it"
configured
installs=$(date +%s%N)
dpkg -i /files/hedgerow.deb >/run/install.log 2>&1 || { cat /run/install.log; fail "dpkg -i"; }
echo "$(passed "$installs") from the start of dpkg -i to a daemon that watches"
until_ 60 "a line of health" sh -c 'systemctl show -P StatusText hedgerow | grep -q "scores in"'
echo "$(passed "$installs") from the start of dpkg -i to the first line of status:"
systemctl show -P StatusText hedgerow
installed
dpkg -P hedgerow >/run/purge.log 2>&1 || { cat /run/purge.log; fail "dpkg -P"; }

step "the .rpm: install, upgrade, remove"
rpm() { command rpm --nodeps "$@" >/run/rpm.log 2>&1 || { cat /run/rpm.log; fail "rpm $*"; }; }
configured
rpm -i /files/previous.rpm
in_use
rpm -U /files/hedgerow.rpm
[ "$(command rpm -q hedgerow)" = "$(command rpm -qp /files/hedgerow.rpm)" ] || fail "$(command rpm -qa)"
installed
all_stands
rpm -e hedgerow
! systemctl is-active hedgerow >/dev/null || fail "it still runs"
[ ! -e /usr/bin/hedgerow ] || fail "/usr/bin/hedgerow is left"
! ls /sys/fs/bpf | grep hedgerow || fail "pins are left"
until_ 20 "a connection" newest_is ok
echo "package-test: passed"
