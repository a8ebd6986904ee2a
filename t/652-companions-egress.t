# SPDX-License-Identifier: Apache-2.0
# A companion of a namespace with a network has its link, no other and no more: the same list, the same address, the same end.
use lib 't/lib';
use Brood;
use Brood::Attack;
use Brood::Net;
use Brood::Wire;

my $net = Brood::Net->new;
my $before = $net->state;
my $brood = Brood->start($net->egress('network-allow' => '203.0.113.0/24:80', 'network-resolvers' => '203.0.113.53', 'namespaces-spares' => 1));
my $wire = Brood::Wire->new($brood);
my $links = sub { scalar(() = `ip -o link` =~ /: brood\S*@/g) };
my $get = 'exec 3<>/dev/tcp/203.0.113.10/80 && echo who >&3 && read -u 3 line && echo "${line%% *}"';
my $own = q(sed 's/ *\(\w*\):.*/\1/; 1,2d' /proc/net/dev | sort; cat /etc/resolv.conf; cat /proc/net/fib_trie | grep -B1 '32 host LOCAL' | grep -o '10\.213\.[0-9.]*' | sort -u);
is($brood->sh(alice => $get)->{stdout}, "world\n", 'a run reaches what is listed');
my $of_run = $brood->sh(alice => $own)->{stdout};
ok(until_true(10, sub { my $s = $wire->stats; $s->{spares} == 1 && !$s->{starting} }), 'the pool is full: no link will come of that');
my $count = () = `ip -o link` =~ /\n/g;
is($wire->run(ns => 'alice', session => 's', cmd => $get)->{stdout}, "world\n", 'so does a session');
is($wire->run(ns => 'alice', session => 's', cmd => $own)->{stdout}, $of_run, 'by the same device, address and resolver');
is(scalar(() = `ip -o link` =~ /\n/g), $count, 'it got no link of its own');
my $got = attack($wire->beside, alice => <<'PERL', timeout => 30000);
use IO::Socket::INET;
try("tcp $_", sub { my ($a, $p) = split /:/; IO::Socket::INET->new(PeerAddr => $a, PeerPort => $p, Timeout => 3) }) for qw(203.0.113.10:81 198.51.100.1:80 169.254.169.254:80 192.0.2.2:9000 10.99.0.5:80);
call(raw => 41, 2, 3, 1); call(packet => 41, 17, 3, 0); call(netlink => 41, 16, 3, 12);
PERL
refused($got, $_) for (map { "tcp $_" } qw(203.0.113.10:81 198.51.100.1:80 169.254.169.254:80 192.0.2.2:9000 10.99.0.5:80)), qw(raw packet netlink);

my $big = 'exec 3<>/dev/tcp/203.0.113.10/80 && echo GET 1000000 >&3 && wc -c <&3';
my (undef, $r) = $brood->execute({namespace_id => 'alice', session => 'http', cmd => $big});
is($r->{stdout}, "1000000\n", 'a million bytes in a session');
cmp_ok($r->{net_rx_bytes}, '>=', 1_000_000, '... are in the facts of that call');
$r = $brood->sh(alice => 'true');
cmp_ok(($r->{net_rx_bytes} // 0) + ($r->{net_tx_bytes} // 0), '<', 2000, 'and not of the next run');
is($wire->run(ns => 'alice', session => 's', cmd => "{ $big; } >got 2>&1 & echo begun")->{stdout}, "begun\n", 'what goes on behind a call');
ok(until_true(20, sub { (Brood::slurp("$brood->{fs_root}/alice/got") // '') eq "1000000\n" }), 'and ends between two');
cmp_ok($brood->sh(alice => 'true')->{net_rx_bytes}, '>=', 1_000_000, '... is in the facts of whoever ends next: there is one link');

kill KILL => $brood->zygote_of('alice');
ok(until_true(10, sub { $wire->stats->{sessions} == 0 }), 'the namespace loses its zygote');
is($wire->run(ns => 'alice', session => 's', cmd => $get)->{stdout}, "world\n", 'the next session has a network again');
$wire->close;
$brood->stop;
ok(until_true(10, sub { $net->state eq $before }), 'nothing is left of the network');
done_testing;
