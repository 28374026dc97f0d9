getent group hedgerow >/dev/null || groupadd --system hedgerow
# Its files may hold passwords, with whatever rights an editor gives them.
mkdir -p -m 0750 /etc/hedgerow/conf.d
chmod o= /etc/hedgerow/conf.d
mkdir -p -m 0700 /var/lib/hedgerow
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	if [ "$1" = 1 ]; then
		systemctl enable --now hedgerow.service
	else
		systemctl try-restart hedgerow.service
	fi
fi
