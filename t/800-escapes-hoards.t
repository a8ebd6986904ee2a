# SPDX-License-Identifier: Apache-2.0
# The attacker puts memory where killing its processes may not free it: memfds, also in flight in rings of sockets that
# nobody holds, pipes, mapped files that are deleted - so that the next run, or pid 1, is the one to die of it.
use lib 't/lib';
use Brood;

require_layer('root', 'cgroup', 'python3');
my $brood = Brood->start('limits-memory' => '128M', 'limits-tmp' => '16M', 'limits-nofile' => 1024);
my $zygote = $brood->zygote_of('mallory');
my $enough = q{perl -e 'my $x = "x"; $x x= 80 << 20; print length $x'}; # of 128 MiB: not beside a hoard of 60, even if some 20 are counted late
my %hoards = (
    'memfds' => <<'PYTHON',
fds = [os.memfd_create("m%d" % i) for i in range(60)]
for fd in fds: os.write(fd, b"x" * (1 << 20))
PYTHON
    'memfds in a ring of sockets' => <<'PYTHON',
for i in range(40):
    m = os.memfd_create("m"); os.write(m, b"x" * (1 << 20))
    a, b = socket.socketpair(); c, d = socket.socketpair()
    send(a, [m, c.fileno(), b.fileno()]); send(d, [a.fileno(), m])
    os.close(m)
PYTHON
    'a pipe in a pipe of sockets' => <<'PYTHON',
for i in range(30):
    r, w = os.pipe(); fcntl.fcntl(w, 1031, 1 << 20); os.set_blocking(w, False); os.write(w, b"x" * (1 << 20))
    a, b = socket.socketpair(); send(a, [r, w, a.fileno(), b.fileno()]); os.close(r); os.close(w)
PYTHON
    'deleted files of /tmp, mapped' => <<'PYTHON',
for i in range(14):
    f = open("/tmp/d%d" % i, "w+b"); f.truncate(1 << 20); m = mmap.mmap(f.fileno(), 1 << 20); m[:] = b"x" * (1 << 20); keep.append(m); os.unlink(f.name)
PYTHON
    'shared anonymous memory of children' => <<'PYTHON',
m = mmap.mmap(-1, 60 << 20)
for i in range(60): m[i << 20:(i + 1) << 20] = b"x" * (1 << 20)
for i in range(20):
    if os.fork() == 0: signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)
PYTHON
    'a memfd behind a descriptor of a stopped child' => <<'PYTHON',
m = os.memfd_create("m")
for i in range(60): os.write(m, b"x" * (1 << 20))
if os.fork() == 0: os.setsid(); os.kill(os.getpid(), signal.SIGSTOP)
PYTHON
);
my $head = <<'PYTHON';
import array, fcntl, mmap, os, signal, socket, time
keep = []
def send(s, fds):
    s.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
PYTHON
# Files last: their pages may be on their way to a slow disk for seconds, and v1 cannot hurry them for the next attack.
for my $what (sort { ($a =~ /files/) <=> ($b =~ /files/) || $a cmp $b } keys %hoards) {
    my $r = $brood->sh(mallory => 'exec python3 -', stdin => "$head$hoards{$what}print('hoarded', flush=True); os._exit(0)\n", timeout => 20);
    is($r->{stdout}, "hoarded\n", "$what: done") or diag("$r->{stderr} $r->{reason}");
    cmp_ok($r->{max_rss_kb}, '>', 12_000, "control: it took memory ($r->{max_rss_kb} KiB)") if $what !~ /pipe/;
    is($brood->sh(mallory => $enough, timeout => 20)->{stdout}, 80 << 20, 'the next run has the memory it may use');
}
for (1 .. 4) {
    my $r = $brood->sh(mallory => 'exec python3 -', stdin => $head . "while True: m = os.memfd_create('m'); keep.append(m); os.write(m, b'x' * (4 << 20))\n", timeout => 20);
    is($r->{reason}, 'oom', 'who hoards without end is killed');
    is($brood->sh(mallory => $enough, timeout => 20)->{stdout}, 80 << 20, 'not who comes after');
}
is($brood->zygote_of('mallory'), $zygote, 'nor pid 1: it is the same');

$brood->stop;
done_testing;
