# SPDX-License-Identifier: Apache-2.0
# A client of the engine's socket for tests: reads one JSON list of requests, makes them one after the other on one connection, and
# prints a JSON list of what came back. Text is latin-1, so that any bytes pass.
#   {kind: 0 command | 1 code | 2 files, ns, cmd, language, code, args: [..], places: [[path, text | {fd: KIND}], ..], work: [files_max, bytes_max], stdin,
#    env: {..}, cwd, timeout, files: {op, flags, count_max, bytes_max, path, after}, hold: S (before hanging up on artifacts)}
import array, json, os, socket, struct, sys, time

def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128]); n >>= 7
    return out + bytes([n])
def num(field, n): return varint(field << 3) + varint(n)
def raw(text): return text.encode("latin-1")
def text(field, t):
    b = t if isinstance(t, bytes) else raw(t)
    return varint(field << 3 | 2) + varint(len(b)) + b
def fields(data):
    out, at = {}, 8
    def take():
        nonlocal at
        n = shift = 0
        while True:
            b = data[at]; at += 1; n |= (b & 127) << shift; shift += 7
            if b < 128: return n
    while at < len(data):
        key = take()
        if key & 7 == 2:
            size = take(); out[key >> 3] = data[at:at + size].decode("latin-1"); at += size
        else: out[key >> 3] = take()
    return out
def memfd(b):
    fd = os.memfd_create("wire", os.MFD_ALLOW_SEALING)
    os.write(fd, b); os.lseek(fd, 0, 0)
    import fcntl
    fcntl.fcntl(fd, 1033, 15)
    return fd
def descriptor(of):
    if isinstance(of, str): return memfd(raw(of))
    kind = of["fd"]
    if kind == "pipe": return os.pipe()[0]
    if kind == "open": return os.memfd_create("open")
    if kind == "zero": return os.open("/dev/zero", os.O_RDONLY)
    if kind == "dir": return os.open("/", os.O_RDONLY)
    return socket.socket(socket.AF_UNIX).detach()
ANSWER = struct.Struct("=IIIIIIQqQ")
def answers(sock):
    out = []
    while True:
        data, control, _, _ = sock.recvmsg(8192, 4096)
        if not data: return out
        _, status, last, kind, mode, size_of_name, size, mtime, dropped = ANSWER.unpack_from(data)
        one = dict(status=status, last=last, kind=chr(kind) if kind else "", mode=mode, size=size, dropped=dropped,
                   name=data[ANSWER.size:ANSWER.size + size_of_name].decode("latin-1"))
        for _, _, fds in control:
            a = array.array("i"); a.frombytes(fds)
            for fd in a:
                one["content"] = os.pread(fd, 4096, 0).decode("latin-1"); os.close(fd)
        out.append(one)
        if last: return out
def read_all(fd):
    out = b""
    while True:
        b = os.read(fd, 65536)
        if not b: os.close(fd); return out.decode("latin-1")
        out += b
def ask(f):
    return (num(1, f["op"]) + num(2, f.get("flags", 0)) + num(3, f.get("count_max", 0)) + num(4, f.get("bytes_max", 0)) +
            text(5, f.get("path", "")) + text(6, f.get("after", "")))

engine = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
engine.connect(sys.argv[1]); engine.settimeout(60); engine.recv(32776)
results = []
for tag, r in enumerate(json.load(sys.stdin), 1):
    kind, null = r.get("kind", 0), os.open("/dev/null", os.O_RDWR)
    body = num(1, tag) + text(2, r["ns"]) + text(3, r.get("cmd", "")) + num(6, r.get("timeout", 20000)) + num(12, kind)
    for name, value in r.get("env", {}).items(): body += text(4, text(1, name) + text(2, value))
    if "cwd" in r: body += text(5, r["cwd"])
    for a in r.get("args", []): body += text(14, a)
    for path, _ in r.get("places", []): body += text(15, path)
    stdin = memfd(raw(r["stdin"])) if "stdin" in r else null
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.settimeout(60)
    pipes = []
    if kind == 2:
        body += text(19, ask(r["files"]))
        fds = [stdin, far.fileno(), null]
    else:
        pipes = [os.pipe(), os.pipe()]
        for p in pipes: os.fchmod(p[1], 0o666)
        fds = [stdin, pipes[0][1], pipes[1][1]]
        if kind == 1:
            body += text(13, r["language"])
            fds += [null, null, memfd(raw(r["code"]))]
        if "work" in r:
            body += num(16, 1) + num(17, r["work"][1]) + num(18, r["work"][0])
            fds.append(far.fileno())
    placed = [descriptor(of) for _, of in r.get("places", [])]
    engine.sendmsg([b"brd1" + struct.pack("<HH", 2, 0) + body],
                   [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds + placed))])
    far.close()
    for p in pipes: os.close(p[1])
    out = {}
    if kind == 2: out["answers"] = answers(near)
    else: out["stdout"], out["stderr"] = read_all(pipes[0][0]), read_all(pipes[1][0])
    while True:
        data = engine.recv(32776)
        if not data or data[4] == 4: break
    f = fields(data)
    out.update(outcome=f.get(2, 0), field=f.get(3, ""), text=f.get(4, ""), reason=f.get(7, 0), exited=f.get(8, 0), exit_code=f.get(9, 0),
               signal=f.get(10, 0), collecting=f.get(22, 0))
    if "work" in r: out["artifacts"] = answers(near)
    time.sleep(r.get("hold", 0)); near.close()
    for fd in set(placed + fds[5:6] * (kind == 1) + [null, stdin]): os.close(fd)
    results.append(out)
print(json.dumps(results))
