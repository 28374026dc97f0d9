import random, socket, time
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
until = time.monotonic() + @SECONDS@
payload = bytes(64)
while time.monotonic() < until:
    for port in random.sample(range(1024, 65536), 256):
        out.sendto(payload, ("@PEER@", port))
    time.sleep(0.002)
