# SPDX-License-Identifier: Apache-2.0
# What guest.sh and pods.sh have in common. Whoever reads it in has `evidence`, which prints what tells why
# something failed. Somebody connects without end, and notes in /run/tries whether that was `ok` or `denied`.
set -u
export LC_ALL=C TERM=dumb

step() { echo "--- $*"; }
fail() {
	echo "FAILED: $*"
	evidence
	tail -n 5 /run/tries 2>&1
	exit 1
}
until_() { # seconds, what is waited for, command...
	local seconds=$1 what=$2
	shift 2
	local end=$((SECONDS + seconds))
	while [ "$SECONDS" -lt "$end" ]; do
		"$@" >/dev/null 2>&1 && return 0
		sleep .5
	done
	fail "$what did not come about within $seconds s"
}
newest_is() { [ "$(tail -n 1 /run/tries)" = "$1" ]; }
all_refused() { # tries that there must have been, over what
	local tries
	tries=$(grep -c '^denied$' /run/tries)
	[ "$tries" -gt "$1" ] || fail "only $tries tries"
	! grep -v '^denied$' /run/tries || fail "a connection was let through"
	echo "$tries tries refused over $2, none let through"
}
