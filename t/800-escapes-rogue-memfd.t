# SPDX-License-Identifier: Apache-2.0
# The attacker is an allowed client and sends its message in a memfd that it goes on writing to, that is not what it says, or that
# is no memfd at all: what was checked must be what is used, and reading it must not hang the engine.
use lib 't/lib';
use Brood;

require_layer('root', 'cgroup', 'python3');
my $brood = Brood->start;
my $engine = ($brood->pids('engine'))[0];
my $program = <<'PYTHON';
import array, fcntl, os, socket, struct, sys, threading
SEAL = 1033; SHRINK, GROW, WRITE = 2, 4, 8
head = b"brd1" + struct.pack("<HH", 2, 1)
def varint(n):
    out = b""
    while n > 127: out += bytes([n & 127 | 128]); n >>= 7
    return out + bytes([n])
def text(field, b): return varint(field << 3 | 2) + varint(len(b)) + b
def message(cmd): return b"\x08\x07" + text(2, b"mallory") + text(3, cmd)
def memfd(data, seals=SHRINK | GROW | WRITE, size=None):
    fd = os.memfd_create("m", os.MFD_ALLOW_SEALING); os.write(fd, data)
    if size is not None: os.ftruncate(fd, size)
    if seals: fcntl.fcntl(fd, SEAL, seals)
    return fd
null = os.open("/dev/null", os.O_RDWR)
def attempt(name, fd, want):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect(sys.argv[1]); s.settimeout(5); s.recv(32776)
    r, w = os.pipe(); os.fchmod(w, 0o666)
    fds = [null, w, w] + ([fd] if fd is not None else [])
    try:
        s.sendmsg([head], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
        os.close(w)
        data = s.recv(32776); got = "answered" if data else "ended"
        if data and os.read(r, 100) == b"hi\n": got = "ran"
    except socket.timeout: got = "hung"
    except OSError: got = "ended"
    print(name, got == want, got, sep="\t", flush=True)
    s.close(); os.close(r)
good = message(b"echo hi #" + b"x" * 40000)
attempt("control: sealed", memfd(good), "ran")
attempt("not sealed", memfd(good, 0), "ended")
attempt("not sealed against writing", memfd(good, SHRINK | GROW), "ended")
attempt("not sealed against shrinking", memfd(good, GROW | WRITE), "ended")
attempt("not sealed against growing", memfd(good, SHRINK | WRITE), "ended")
attempt("sealed against future writing only", memfd(good, SHRINK | GROW | 16), "ended")
attempt("empty", memfd(b""), "ended")
attempt("one byte too large", memfd(good, size=524289), "ended")
attempt("sparse, 1 TiB", memfd(good, size=1 << 40), "ended")
attempt("zeros", memfd(b"\0", size=524288), "ended")
attempt("no descriptor at all", None, "ended")
attempt("a pipe", os.pipe()[0], "ended")
attempt("/dev/zero", os.open("/dev/zero", os.O_RDONLY), "ended")
attempt("a file", os.open("/etc/passwd", os.O_RDONLY), "ended")
attempt("a directory", os.open("/", os.O_RDONLY), "ended")
attempt("a fifo that nobody writes", (os.mkfifo(sys.argv[2]), os.open(sys.argv[2], os.O_RDWR))[1], "ended")
# 32,000 variables, each five bytes on the wire and a struct in memory: the cap of the arena is the limit.
attempt("a bomb of variables", memfd(b"\x08\x07" + text(2, b"mallory") + text(3, b"id") + text(4, text(1, b"A")) * 100000), "ended")
attempt("control: still served", memfd(good), "ran")
PYTHON
spew("$brood->{dir}/memfd.py", $program);
my @said = map { chomp; [split /\t/] } `timeout 100 python3 $brood->{dir}/memfd.py $brood->{socket} $brood->{dir}/fifo`;
is($?, 0, 'the client came to its end');
is(scalar @said, 18, '18 attempts');
is($_->[1], 'True', "$_->[0]: $_->[2]") for @said;
is(($brood->pids('engine'))[0], $engine, 'the engine is the same');
my ($rss) = slurp("/proc/$engine/status") =~ /^VmHWM:\s+(\d+)/m;
cmp_ok($rss, '<', 32 << 10, "and never held more than $rss KiB");

$brood->stop;
done_testing;
