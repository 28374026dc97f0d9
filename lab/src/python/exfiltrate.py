import os, socket
data = os.urandom(1 << 20)
with socket.create_connection(("@PEER@", @PORT@)) as out:
    for _ in range(@MEBIBYTES@):
        out.sendall(data)
