# SPDX-License-Identifier: Apache-2.0
# The attacker queues a thousand runs - over HTTP up to its limit, over the socket on several connections, in one namespace and in
# many - and a neighbour must not stand behind them.
use lib 't/lib';
use Brood;
use Time::HiRes qw(time);

require_layer('root', 'cgroup', 'python3');
my $brood = Brood->start('runs-queue-max' => 1200, 'runs-max-wait' => '60s');
sub once { my $at = time; my $r = $brood->sh(neighbour => 'echo hi', timeout => 20); return $r->{stdout} eq "hi\n" ? time - $at : 99 }

# A thousand runs of one namespace on four connections; says when all are sent, ends them when its stdin does.
my $client = <<'PYTHON';
import array, os, socket, struct, sys
path, ns, count, per, cmd = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5].encode()
def varint(n):
    out = b""
    while n > 127: out += bytes([n & 127 | 128]); n >>= 7
    return out + bytes([n])
def text(field, b): return varint(field << 3 | 2) + varint(len(b)) + b
null = os.open("/dev/null", os.O_RDWR); keep = []
for i in range(count):
    if i % per == 0:
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect(path); keep.append(s); s.recv(32776)
    body = b"\x08" + varint(i + 1) + text(2, (ns % i if "%" in ns else ns).encode()) + text(3, cmd)
    s.sendmsg([b"brd1" + struct.pack("<HH", 2, 0) + body], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [null, null, null]))])
# A request that is answered behind all of them: they are queued.
for s in keep: s.sendall(b"brd1\5\0\0\0\x08\x63")
for s in keep:
    while True:
        data = s.recv(32776)
        if not data: print("lost a connection", flush=True); break
        if data[4] == 6: break
print("queued", count, flush=True)
sys.stdin.read()
PYTHON
spew("$brood->{dir}/queue.py", $client);

sub behind {
    my ($what, $ns, $count, $per, $cmd) = @_;
    my ($quiet, $p50, $said);
    for my $try (1 .. 3) {
        once() for 1 .. 20;
        $quiet = median(map { once() } 1 .. 60);
        pipe my $end, my $hold;
        defined(my $pid = open my $out, '-|') or die;
        if (!$pid) {
            close $hold;
            open STDIN, '<&', $end;
            exec 'python3', "$brood->{dir}/queue.py", $brood->{socket}, $ns, $count, $per, $cmd or POSIX::_exit(99);
        }
        close $end;
        $said = <$out> // '';
        my @times = map { once() } 1 .. 60;
        $p50 = median(@times);
        close $hold;
        close $out;
        last if $said eq "queued $count\n" && $p50 < 3 * $quiet + 0.005;
    }
    is($said, "queued $count\n", "$what: $count runs are queued");
    return cmp_ok($p50, '<', 3 * $quiet + 0.005, sprintf 'a neighbour: p50 %.2f ms beside them, %.2f ms when quiet', 1000 * $p50, 1000 * $quiet);
}

behind('one tenant, four connections', 'mallory', 1000, 250, 'sleep 30');
behind('one tenant, one connection', 'mallory', 1000, 1000, 'sleep 30');
# Their end takes none of the neighbour's time either: a thousand cancels.
is($brood->sh(mallory => 'echo free', timeout => 20)->{stdout}, "free\n", 'who hangs up gives the queue back');
behind('with commands of 30 KiB', 'mallory', 800, 200, 'sleep 30 #' . 'x' x 30_000);

# Within the queue's limit by default, over HTTP: the tenant's excess is refused, nobody else's.
$brood->stop;
$brood = Brood->start;
my $first = $brood->post(mallory => 'touch holds; sleep 30', timeout => 40);
ok($brood->wait_file('holds'), 'one run is on');
my @conns = map { $brood->post(mallory => 'echo queued') } 1 .. 150;
ok(until_true(10, sub { 86 <= grep { $_->readable } @conns }), 'of 150 more those beyond the limit are answered');
my @early = map { $brood->result($_) } grep { $_->readable } @conns;
is(scalar(grep { $_->{http} == 503 && $_->{headers}{'retry-after'} } @early), 86, 'with 503 and Retry-After: 64 wait');
is($brood->sh("other-$_" => 'echo hi')->{stdout}, "hi\n", "another tenant is served ($_)") for 1 .. 3;
$first->close;
$_->close for @conns;
ok(until_true(10, sub { $brood->sh(mallory => 'echo free', timeout => 20)->{stdout} eq "free\n" }), 'and this one, when it has hung up');

$brood->stop;
done_testing;
