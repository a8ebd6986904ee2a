# SPDX-License-Identifier: Apache-2.0
# The attacker keeps its data in the kernel: full buffers of TCP, UDP and netlink are memory of no process, and what the kernel
# allows TCP and UDP is one number for the whole machine. A namespace of 64 MiB once held 2 GiB that way, each.
use lib 't/lib';
use Brood;
use Brood::Attack;

require_layer('root', 'cgroup', 'python3');
my $brood = Brood->start('limits-memory' => '64M', 'limits-tmp' => '16M', 'limits-nofile' => 1024);
my $fill = <<'PYTHON';
import os, socket, sys, time
what, keep, total = sys.argv[1], [], 0

def push(s, data):
    global total
    s.setblocking(False)
    try:
        while True:
            total += s.send(data)
    except OSError:
        pass

try:
    if what == "tcp":
        l = socket.socket(); l.bind(("127.0.0.1", 0)); l.listen(500); keep.append(l)
        for i in range(400):
            c = socket.socket(); c.connect(l.getsockname()); s, _ = l.accept(); keep += [c, s]
            push(c, b"x" * (1 << 20)); push(s, b"x" * (1 << 20))
    elif what == "udp":
        for i in range(300):
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.1", 0)); keep.append(s)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 25)
            c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); c.connect(s.getsockname())
            for j in range(60):
                total += c.send(b"x" * 60000)
    elif what == "netlink": # NETLINK_USERSOCK: from user to user
        a = socket.socket(16, socket.SOCK_RAW, 2); a.bind((0, 0)); a.setsockopt(1, 7, 1 << 23); a.setblocking(False)
        for i in range(100):
            s = socket.socket(16, socket.SOCK_RAW, 2); s.bind((0, 0)); s.setsockopt(1, 8, 1 << 22); keep.append(s)
            try:
                while True:
                    total += a.sendto(b"x" * 200000, (s.getsockname()[0], 0))
            except OSError:
                pass
except OSError as e:
    print(os.strerror(e.errno), end=" ")
print(what, "held", total >> 20, "MiB", flush=True)
open("held-" + what, "w").close()
while not os.path.exists("done-" + what):
    time.sleep(0.02)
PYTHON

# What TCP and UDP of the whole machine hold, and what the machine has left, in MiB.
sub held {
    my ($kind) = @_;
    my ($pages) = slurp('/proc/net/sockstat') =~ /^\U$kind\E: .*mem (\d+)/m;
    return ($pages // 0) >> 8;
}

sub unused {
    my $info = slurp('/proc/meminfo');
    my %kb = $info =~ /^(\w+):\s+(\d+) kB/mg;
    return ($kb{MemFree} + $kb{Cached} + $kb{Buffers}) >> 10;
}

$brood->sh(mallory => 'cat > fill.py', stdin => $fill);
my %most = (tcp => 128, udp => 32); # a TCP socket may always hold one packet; 800 of them do
for my $what (qw(tcp udp netlink)) {
    my ($before, $free) = (held($what), unused());
    my $conn = $brood->post(mallory => "exec python3 fill.py $what", timeout => 60);
    ok($brood->wait_file("held-$what", 60), "$what: mallory has sent what it could");
    my ($took, $lost) = (held($what) - $before, $free - unused());
    cmp_ok($took, '<=', $most{$what}, "which takes $took MiB of the machine's share for $what") if $most{$what};
    # Others use this machine, too: three times the namespace's limit is far from the 600 MiB and more it was.
    cmp_ok($lost, '<', 192, "and $lost MiB of its memory");
    is($brood->sh(alice => q{perl -MIO::Socket::INET -e 'my $l = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1"); my $c = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $l->sockport); my $s = $l->accept; print $c "works\n"; close $c; print <$s>'})->{stdout},
        "works\n", 'a neighbour has its TCP');
    spew("$brood->{fs_root}/mallory/done-$what");
    my $r = $brood->result($conn, 20);
    like($r->{stdout}, qr/held [1-9]\d* MiB/, "control: $r->{stdout}") if $what ne 'netlink';
    like($r->{stdout}, qr{^(?:Operation not permitted|Protocol not supported) netlink held 0 MiB$}, 'netlink between users is not to be had') if $what eq 'netlink';
}
is($brood->sh(mallory => q{perl -e 'my $x = "x"; $x x= 12 << 20; print length $x'})->{stdout}, 12 << 20, 'the next run has memory');

$brood->stop;
done_testing;
