import select, socket, time
poll = select.poll()
for start in range(1, @PORTS@ + 1, 64):
    batch = []
    for port in range(start, min(start + 64, @PORTS@ + 1)):
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex(("@PEER@", port))
        batch.append(s)
    time.sleep(0.1)
    for s in batch:
        s.close()
