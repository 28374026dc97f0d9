getent group hedgerow >/dev/null || groupadd --system hedgerow
mkdir -p -m 0755 /etc/hedgerow/conf.d
mkdir -p -m 0700 /var/lib/hedgerow
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	if [ "$1" = 1 ]; then
		systemctl enable --now hedgerow.service
	else
		systemctl try-restart hedgerow.service
	fi
fi
