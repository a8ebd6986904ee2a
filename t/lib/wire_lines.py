# SPDX-License-Identifier: Apache-2.0
# One connection to the engine's Unix socket, driven by JSON lines: what Brood::Wire talks to. It knows the wire and
# nothing else: every field of an Execute is given, every field of a Result is told.
import array, fcntl, json, os, socket, struct, sys

KINDS = {"command": 0, "code": 1, "files": 2, "terminal": 3}
COMPANIONS = {"": 0, "session": 1, "terminal": 2}
open_runs = {}


def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def num(field, n):
    return varint(field << 3) + varint(n) if n else b""


def text(field, b):
    b = b.encode() if isinstance(b, str) else b
    return varint(field << 3 | 2) + varint(len(b)) + b if b else b""


def fields(data):
    out, at = {}, 0

    def take():
        nonlocal at
        n = shift = 0
        while True:
            b = data[at]
            at, n, shift = at + 1, n | (b & 127) << shift, shift + 7
            if b < 128:
                return n

    while at < len(data):
        key = take()
        if key & 7 == 2:
            size = take()
            value, at = data[at:at + size], at + size
        else:
            value = take()
        out.setdefault(key >> 3, []).append(value)
    return out


def memfd(content):
    fd = os.memfd_create("wire", os.MFD_ALLOW_SEALING)
    os.write(fd, content.encode() if isinstance(content, str) else content)
    os.lseek(fd, 0, 0)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return fd


def pipe():
    r, w = os.pipe()
    os.fchmod(w, 0o666)
    return r, w


def send(s, ask):
    kind, run = ask.get("kind", "command"), {"read": {}}
    fds = [memfd(ask["stdin"]) if ask.get("stdin") else os.open("/dev/null", os.O_RDWR)]
    if kind == "files":
        run["answers"], far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fds += [far.detach(), os.open("/dev/null", os.O_RDWR)]
    names = [] if kind == "files" else ["stdout", "stderr"] + (["compiler_out", "compiler_err"] if kind == "code" else [])
    for name in names:
        run["read"][name], w = pipe()
        fds.append(w)
    if kind == "code":
        fds.append(memfd(ask["code"]))
    if ask.get("work"):
        run["artifacts"], far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fds.append(far.detach())
    places = ask.get("places", {})
    fds += [memfd(content) for content in places.values()]
    body = num(1, ask["tag"]) + text(2, ask.get("ns", "")) + text(3, ask.get("cmd", ""))
    for name, value in ask.get("env", {}).items():
        body += text(4, text(1, name) + text(2, value))
    body += text(5, ask.get("cwd", "")) + num(6, ask.get("timeout", 20000)) + num(7, ask.get("cpu", 0))
    body += text(9, ask.get("policy", "")) + num(10, ask.get("memory", 0)) + num(11, ask.get("pids", 0))
    body += num(12, KINDS[kind]) + text(13, ask.get("language", ""))
    for arg in ask.get("args", []):  # also an empty one
        body += varint(14 << 3 | 2) + varint(len(arg.encode())) + arg.encode()
    body += b"".join(text(15, path) for path in places)
    if ask.get("work"):
        body += num(16, 1) + num(17, ask.get("bytes_max", 1 << 20)) + num(18, ask.get("files_max", 10))
    for companion in ("session", "terminal"):  # {session: NAME} or {terminal: NAME}
        if companion in ask:
            body += text(30, ask[companion]) + num(31, COMPANIONS[companion])
    if kind == "files":
        body += varint(19 << 3 | 2)
        files = num(1, ask["files"]["op"]) + num(3, 1000) + text(5, ask["files"].get("path", ""))
        body += varint(len(files)) + files
    fds = fds[:len(fds) - ask.get("drop", 0)] + ([os.dup(fds[0])] if ask.get("extra") else [])
    flags = 0
    if len(body) > 32000:
        fds, body, flags = fds + [memfd(body)], b"", 1
    try:
        s.sendmsg([b"brd1" + struct.pack("<HH", 2, flags) + body], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
    except (BrokenPipeError, ConnectionResetError):
        pass  # its result will be that it is lost
    for fd in fds:
        os.close(fd)
    open_runs[ask["tag"]] = run


def stage(data):
    f = fields(data)
    return {"name": f[1][0].decode(), "reason": f.get(2, [0])[0], "exited": f.get(3, [0])[0], "exit_code": f.get(4, [0])[0],
            "wall_us": f.get(6, [0])[0], "cpu_us": f.get(7, [0])[0], "max_rss_kb": f.get(8, [0])[0]}


results, others = {}, {}


def receive(s):
    try:
        data = s.recv(65536)
    except ConnectionResetError:
        data = b""
    if data:
        f = fields(data[8:])
        (results if data[4] == 4 else others)[f.get(1, [0])[0]] = f
    return bool(data)


def read_all(fd):
    out = b""
    while chunk := os.read(fd, 65536):
        out += chunk
    os.close(fd)
    return out.decode(errors="replace")


def result(s, tag):
    while tag not in results:
        if not receive(s):
            return {"lost": 1}
    f, one = results.pop(tag), lambda n: f.get(n, [0])[0]
    out = {"outcome": one(2), "field": (f.get(3) or [b""])[0].decode(), "text": (f.get(4) or [b""])[0].decode(), "run_id": one(6),
           "reason": one(7), "exited": one(8), "exit_code": one(9), "signal": one(10), "queue_us": one(11), "wall_us": one(12),
           "cpu_us": one(13), "max_rss_kb": one(14), "start": one(15), "ended": one(30), "new": one(31), "stages": [stage(d) for d in f.get(21, [])], "collecting": one(22)}
    for name, fd in open_runs[tag]["read"].items():
        out[name] = read_all(fd)
    return out


def other(s, tag, kind, body):
    """A message that is no Execute, and its answer's fields."""
    try:
        s.send(b"brd1" + struct.pack("<HH", kind, 0) + num(1, tag) + body)
    except (BrokenPipeError, ConnectionResetError):
        return {}
    while tag not in others:
        if not receive(s):
            return {}
    return others.pop(tag)


def sessions(s, ask):
    f = other(s, ask["tag"], 31, text(2, ask["ns"]) + num(3, COMPANIONS[ask.get("companion", "")]))
    out = []
    for data in f.get(2, []):
        e = fields(data)
        out.append({"session": e[1][0].decode(), "companion": e[2][0], "busy": e.get(3, [0])[0], "queued": e.get(4, [0])[0],
                    "idle_ms": e.get(5, [0])[0], "age_ms": e.get(6, [0])[0]})
    return {"entries": out}


def close(s, ask):
    f = other(s, ask["tag"], 33, text(2, ask["ns"]) + text(3, ask["session"]) + num(4, COMPANIONS[ask.get("companion", "session")]))
    return {"outcome": f.get(2, [0])[0], "text": (f.get(3) or [b""])[0].decode()}


def answers(sock):
    """struct proto_files_answer, until the last one or the end."""
    out = []
    sock.settimeout(20)
    while True:
        data, anc, _, _ = sock.recvmsg(65536, socket.CMSG_SPACE(4 * 8))
        if not data:
            return out
        fds = array.array("i")
        for _, _, d in anc:
            fds.frombytes(d[:len(d) - len(d) % 4])
        magic, status, last, kind, mode, name_bytes, size = struct.unpack_from("<IIIIIIQ", data)
        name = data[48:48 + name_bytes].decode()
        out.append({"status": status, "last": last, "kind": chr(kind) if kind else "", "size": size, "name": name,
                    "content": read_all(fds[0]) if fds else None})
        if last:
            return out


def hello(s):
    f = fields(s.recv(65536)[8:])
    out = {}
    for data in f.get(30, []):
        l = fields(data)
        out[l[1][0].decode()] = {"aliases": [a.decode() for a in l.get(2, [])], "version": (l.get(3) or [b""])[0].decode(),
                                 "available": l.get(4, [0])[0], "compiles": l.get(5, [0])[0]}
    return out


def main():
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(sys.argv[1])
    told = hello(s)
    for line in sys.stdin:
        ask = json.loads(line)
        out = {}
        if ask["op"] == "hello":
            out = told
        elif ask["op"] == "send":
            send(s, ask)
        elif ask["op"] == "cancel":
            s.send(b"brd1" + struct.pack("<HH", 3, 0) + num(1, ask["tag"]))
        elif ask["op"] == "signal":
            s.send(b"brd1" + struct.pack("<HH", 30, 0) + num(1, ask["tag"]) + num(2, ask["signal"]))
        elif ask["op"] == "result":
            out = result(s, ask["tag"])
        elif ask["op"] == "sessions":
            out = sessions(s, ask)
        elif ask["op"] == "close_session":
            out = close(s, ask)
        elif ask["op"] == "remove":
            out = {"outcome": other(s, ask["tag"], 9, text(2, ask["ns"])).get(2, [0])[0]}
        elif ask["op"] == "stats":
            out = {e[1][0].decode(): e.get(2, [0])[0] for e in map(fields, other(s, ask["tag"], 5, b"").get(2, []))}
        elif ask["op"] in ("artifacts", "answers"):
            out = answers(open_runs[ask["tag"]][ask["op"]])
        elif ask["op"] == "hang_up":
            open_runs[ask["tag"]].pop(ask["what"]).close()
        print(json.dumps(out), flush=True)


main()
