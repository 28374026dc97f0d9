if [ "$1" = 0 ]; then
	[ ! -d /run/systemd/system ] || systemctl disable --now hedgerow.service
	hedgerow disarm --remove || echo "hedgerow: entries may be left in the kernel until they expire" >&2
fi
