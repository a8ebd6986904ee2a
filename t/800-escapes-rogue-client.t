# SPDX-License-Identifier: Apache-2.0
# The attacker is an allowed client of the engine's socket - or a frontend gone rogue - and speaks its protocol wrongly: broken
# frames, forged numbers, other people's tags, replays, descriptors of every kind. It may lose its own connection, nothing else.
use lib 't/lib';
use Brood;

require_layer('root', 'cgroup', 'python3');
my $brood = Brood->start;
$brood->sh(alice => 'echo kept > note.txt');
my $engine = ($brood->pids('engine'))[0];
my @service = sort map { $_->{pid} } grep { $_->{role} =~ /^(?:priv|engine|frontend|primordial)$/ } $brood->processes;
my $client = <<'PYTHON';
import array, os, random, socket, struct, sys, time
path, what = sys.argv[1], sys.argv[2]

def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128]); n >>= 7
    return out + bytes([n])
def num(field, n): return varint(field << 3) + varint(n)
def text(field, b): return varint(field << 3 | 2) + varint(len(b)) + b
def frame(kind, body, flags=0, magic=b"brd1"): return magic + struct.pack("<HH", kind, flags) + body
def execute(tag, ns, cmd, **more):
    return frame(2, num(1, tag) + text(2, ns) + text(3, cmd) + num(6, more.get("timeout", 5000)) + more.get("extra", b""))
def connect():
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect(path); s.settimeout(10)
    assert s.recv(32776)[4] == 1
    return s
def send(s, data, fds):
    s.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
def pipes():
    r, w = os.pipe(); os.fchmod(w, 0o666)
    return r, w
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
            size = take(); out[key >> 3] = data[at:at + size]; at += size
        else: out[key >> 3] = take()
    return out
def result(s, kinds=(4,)):
    while True:
        data = s.recv(32776)
        if not data: return None
        if data[4] in kinds: return fields(data)
def run(s, tag, ns, cmd, fds=None, **more):
    r, w = pipes(); null = os.open("/dev/null", os.O_RDWR)
    send(s, execute(tag, ns, cmd, **more), fds or [null, w, w])
    os.close(w); os.close(null)
    return r
def ended(s):
    try:
        while True:
            if not s.recv(32776): return True
    except socket.timeout: return False
    except OSError: return True
def say(name, ok, detail=""): print(name, "ok" if ok else "not", detail, sep="\t", flush=True)
null = os.open("/dev/null", os.O_RDWR)
PYTHON

sub rogue {
    my ($code, @args) = @_;
    spew("$brood->{dir}/rogue.py", "$client\n$code");
    my %said;
    open my $out, '-|', 'python3', "$brood->{dir}/rogue.py", $brood->{socket}, @args or die;
    while (<$out>) { chomp; my ($name, @rest) = split /\t/; $said{$name} = \@rest }
    close $out;
    is($?, 0, 'the client came to its end');
    return \%said;
}

sub holds {
    my ($said, @names) = @_;
    for my $name (@names) { is(($said->{$name} // ['was not tried'])->[0], 'ok', $name) or diag($said->{$name}[1] // '') }
}

subtest 'frames that break the rules' => sub {
    my $said = rogue(<<'PYTHON', 'frames');
random.seed(4711)
good = execute(1, b"mallory", b"echo hi")
bad = {
    "empty": b"\0", "half a header": b"brd1\2", "wrong magic": frame(2, good[8:], magic=b"brd2"), "type 0": frame(0, b""), "type 99": frame(99, b""), "type 65535": frame(65535, b""),
    "unknown flag": frame(2, good[8:], flags=2), "memfd without one": frame(2, b"", flags=1), "memfd and a body": frame(2, b"x", flags=1),
    "what only the engine says: Hello": frame(1, num(1, 1)), "Result": frame(4, num(1, 7) + num(6, 1)), "Stats": frame(6, num(1, 1)), "List": frame(8, num(1, 1)), "Done": frame(10, num(1, 1)),
    "a length beyond the end": frame(2, b"\x12\xff\xff\xff\x7f"), "a varint without end": frame(2, b"\x08" + b"\xff" * 30), "field 0": frame(2, b"\0\0"), "group": frame(2, b"\x0b\x0b\x0b"), "cut": good[:-1],
    "namespace ..": execute(1, b"..", b"id"), "namespace .lock": execute(1, b".lock", b"id"), "namespace with /": execute(1, b"a/../b", b"id"), "namespace with NUL": execute(1, b"a\0b", b"id"),
    "files of no namespace": frame(2, num(1, 1) + num(12, 2)), "65 letters": execute(1, b"x" * 65, b"id"), "NUL in cmd": execute(1, b"mallory", b"a\0b"),
    "LD_PRELOAD": execute(1, b"mallory", b"id", extra=text(4, text(1, b"LD_PRELOAD") + text(2, b"x"))), "a name with =": execute(1, b"mallory", b"id", extra=text(4, text(1, b"A=B") + text(2, b"x"))),
    "257 variables": execute(1, b"mallory", b"id", extra=b"".join(text(4, text(1, b"V%d" % i) + text(2, b"")) for i in range(257))),
    "remove ..": frame(9, num(1, 1) + text(2, b"../mallory")), "remove .lock": frame(9, num(1, 1) + text(2, b".lock")), "remove nothing": frame(9, num(1, 1)),
}
alive = []
for name, data in bad.items():
    s = connect(); s.settimeout(3)
    try: send(s, data, [null, null, null] if data[4:5] == b"\2" and not data[6:7] == b"\1" else [])
    except OSError: pass
    if not ended(s): alive.append(name)
    s.close()
say("each of them ends the connection", not alive, " ".join(alive))
# Mutations of a good one: whatever becomes of it, the engine answers or hangs up.
hung = 0
for i in range(300):
    s = connect(); s.settimeout(8); data = bytearray(good)
    for j in range(random.randint(1, 4)): data[random.randrange(len(data))] = random.randrange(256)
    if data[4] == 3: continue
    try:
        r, w = pipes(); send(s, bytes(data), [null, w, w]); os.close(w); os.close(r)
        if data[4:6] == b"\2\0":
            if s.recv(32776) is None: hung += 1
    except socket.timeout: hung += 1
    except OSError: pass
    s.close()
say("300 mutations are answered or refused", hung == 0, str(hung))
s = connect()
try:
    send(s, b"brd1\2\0\0\0" + b"x" * 40000, [])
    say("a frame beyond the limit", ended(s))
except OSError: say("a frame beyond the limit", True)
PYTHON
    holds($said, 'each of them ends the connection', '300 mutations are answered or refused', 'a frame beyond the limit');
};

subtest 'forged numbers, replays, the runs of others' => sub {
    my $conn = $brood->post(alice => 'touch alice-runs; while [ ! -e alice-done ]; do sleep 0.05; done; echo survived', timeout => 30);
    ok($brood->wait_file('alice-runs'), 'alice runs, by way of the frontend');
    my $said = rogue(<<'PYTHON', 'forged');
a, b = connect(), connect()
ra = run(a, 7, b"victim", b"touch victim-runs; sleep 1; echo victim", timeout=20000)
for tag in list(range(0, 300)) + [2**32, 2**63, 2**64 - 1]: send(b, frame(3, num(1, tag)), []) # every tag that anybody may have
rb = run(b, 7, b"mallory", b"echo mine")
res = result(b)
say("the rogue's own run is answered", res is not None and os.read(rb, 100) == b"mine\n", str(res))
res = result(a)
say("cancels reach no other connection", os.read(ra, 100) == b"victim\n" and res.get(7, 0) == 0, str(res))
# A run id, an outcome, an exit code where none belongs: they are fields that Execute has not.
r = run(b, 1, b"mallory", b"echo forged", extra=num(215, 3) + num(216, 1) + text(220, b"root"))
res = result(b)
say("unknown fields change nothing", os.read(r, 100) == b"forged\n" and res.get(2, 0) == 0, str(res))
ids = [res[6]]
for i in range(3): # the same frame again and again: each is a run of its own
    r = run(b, 1, b"mallory", b"echo again >> replayed; wc -l < replayed"); res = result(b); ids.append(res[6]); last = os.read(r, 100)
say("a replay is another run", len(set(ids)) == 4 and last == b"3\n", str(ids))
rs = [run(b, 5, b"mallory", b"echo %d" % i) for i in range(20)]
out = [result(b) for r in rs]
say("twenty runs of one tag are twenty answers", len(set(o[6] for o in out)) == 20)
send(b, frame(9, num(1, 9) + text(2, b"alice")), []); res = result(b, (10,))
say("a namespace in use cannot be removed", res.get(2) == 7, str(res))
send(b, frame(9, num(1, 9) + text(2, b"nobody-here")), []); res = result(b, (10,))
say("one that is not there is not found", res.get(2) == 6, str(res))
r = run(b, 3, b"mallory", b"id", timeout=2**40); res = result(b)
say("a timeout beyond the limit is refused", res is None or res.get(2) == 1, str(res))
PYTHON
    holds($said, "the rogue's own run is answered", 'cancels reach no other connection', 'unknown fields change nothing', 'a replay is another run', 'twenty runs of one tag are twenty answers',
        'a namespace in use cannot be removed', 'one that is not there is not found', 'a timeout beyond the limit is refused');
    spew("$brood->{fs_root}/alice/alice-done");
    is($brood->result($conn, 20)->{stdout}, "survived\n", 'alice was not cancelled');
};

subtest 'descriptors of every kind' => sub {
    my $fds = sub { scalar(my @l = glob "/proc/$engine/fd/*") };
    my $before = $fds->();
    my $said = rogue(<<'PYTHON', 'descriptors');
import select
s = connect()
odd = {"a directory": os.open("/", os.O_RDONLY), "a path only": os.open("/etc", os.O_PATH), "an epoll": select.epoll().fileno(), "a listener": None,
       "the client's memory": os.open("/proc/self/mem", os.O_RDWR), "a file": os.open("/tmp", os.O_TMPFILE | os.O_RDWR), "a namespace": os.open("/proc/self/ns/mnt", os.O_RDONLY), "a pidfd": os.pidfd_open(os.getpid())}
l = socket.socket(); l.bind(("127.0.0.1", 0)); l.listen(1); odd["a listener"] = l.fileno()
bad = []
for name, fd in odd.items():
    for place in range(3):
        fds = [null, null, null]; fds[place] = fd
        run(s, 1, b"mallory", b"echo x; echo y >&2; read z; true", fds=fds)
        if result(s) is None: bad.append(name); s = connect()
say("each kind as stdin, stdout and stderr is answered", not bad, " ".join(bad))
wrong = []
for n in (0, 1, 2, 4, 8, 20, 253):
    try:
        t = connect(); send(t, execute(1, b"mallory", b"id"), [null] * n); res = result(t)
        if res is not None and res.get(2, 0) != 1: wrong.append(n)
    except OSError: pass
say("another number of descriptors is refused", not wrong, str(wrong))
for i in range(200):
    for kind, body in ((3, num(1, 1)), (5, num(1, 1)), (7, num(1, 1))):
        try: send(s, frame(kind, body), [null] * 8)
        except OSError: s = connect()
say("200 messages with descriptors that do not belong", True)
# Its own engine connection inside a run would be the way out of every namespace: it must not be usable there by accident of ours.
r = run(s, 2, b"mallory", b"ls -l /proc/$$/fd | grep -c socket")
res = result(s, (4,))
say("no socket of the service is in a run", os.read(r, 100) == b"0\n", str(res))
# Who gives a run its own connection has given it away: what the run prints there is no frame, and the engine hangs up.
t = connect(); run(t, 1, b"mallory", b"echo x; sleep 20", fds=[null, t.fileno(), t.fileno()])
say("the connection itself as stdout: it ends", ended(t))
# Full pipes, pipes without a reader: the run hangs or dies, not the engine.
full_r, full_w = os.pipe(); os.set_blocking(full_w, False)
try:
    while True: os.write(full_w, b"x" * 4096)
except BlockingIOError: pass
os.set_blocking(full_w, True); os.fchmod(full_w, 0o666)
run(s, 3, b"mallory", b"echo stuck", fds=[null, full_w, full_w], timeout=300)
res = result(s)
say("a full pipe: the run ends at its deadline", res is not None and res.get(7) == 2, str(res))
dead_r, dead_w = os.pipe(); os.fchmod(dead_w, 0o666); os.close(dead_r)
run(s, 4, b"mallory", b"echo x", fds=[null, dead_w, dead_w]); res = result(s)
say("a pipe without a reader: the run ends", res is not None, str(res))
PYTHON
    holds($said, 'each kind as stdin, stdout and stderr is answered', 'another number of descriptors is refused', '200 messages with descriptors that do not belong', 'no socket of the service is in a run', 'the connection itself as stdout: it ends',
        'a full pipe: the run ends at its deadline', 'a pipe without a reader: the run ends');
    ok(until_true(5, sub { $fds->() <= $before }), "the engine keeps none of them ($before, " . $fds->() . ')');
};

subtest 'a client that does not read, many that do nothing' => sub {
    my $said = rogue(<<'PYTHON', 'deaf');
s = connect(); s.settimeout(0.5); sent = 0
try:
    for i in range(20000):
        send(s, frame(5, num(1, i)), []); sent += 1
except OSError: pass
say("one that asks and never reads is stopped", sent < 20000, str(sent))
idle = []
try:
    for i in range(600):
        t = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); t.settimeout(0.2); t.connect(path); idle.append(t)
except OSError: pass
say("idle connections are kept waiting", True, str(len(idle)))
PYTHON
    holds($said, 'one that asks and never reads is stopped', 'idle connections are kept waiting');
};

is($brood->sh(alice => 'cat note.txt')->{stdout}, "kept\n", 'alice has what she had');
is_deeply([sort map { $_->{pid} } grep { $_->{role} =~ /^(?:priv|engine|frontend|primordial)$/ } $brood->processes], \@service, 'and every process of the service is the same');
is(join(' ', grep { !/^(?:[A-Za-z0-9_][A-Za-z0-9._-]{0,63}|\.lock|\.blank-.*)$/ } $brood->volumes), '', 'nothing of another kind of name came to be');
$brood->stop;
done_testing;
