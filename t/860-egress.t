# SPDX-License-Identifier: Apache-2.0
# What a namespace with egress can do: reach what is listed and nothing else, ask the listed resolver for names, no
# faster than allowed; its facts tell how many bytes that were; and when the service ends nothing of it is left.
use lib 't/lib';
use Brood;
use Brood::Attack;
use Brood::Net;

my $net = Brood::Net->new;
my $before = $net->state;
my $allow = join ', ', 'tcp://203.0.113.0/24:80', '203.0.113.0/24:443-445', 'udp://203.0.113.10:7000', '10.99.0.0/24:5432',
  '0.0.0.0/0:8080', '192.0.2.2:9001';

sub netns_found {
    my ($brood) = @_;
    my ($layer) = grep { $_->{name} eq 'netns' } @{$brood->request(GET => '/v1/capabilities')->{json}{layers}};
    return "$layer->{state}, $layer->{detail}";
}

# ---- a host that does not forward ----
my $plain = Brood->start($net->egress('network-allow' => $allow, 'network-manage-forwarding' => 'false'), ready => 0);
ok($plain->wait_exit(10) && $plain->{status} != 0, 'a host that does not forward: the start fails');
like((join ' ', map { $_->{error} // '' } $plain->log_lines), qr/net\.ipv4\.ip_forward=1.*network\.manage_forwarding/, 'and says what to do');
ok(until_true(10, sub { $net->state eq $before }), 'it has left nothing');

# ---- a subnet that is in use ----
system qw(ip link add other type veth peer name rehto);
system qw(ip link set other up);
system qw(ip addr add 10.213.7.1/24 dev other);
my $taken = Brood->start($net->egress('network-allow' => $allow), ready => 0);
ok($taken->wait_exit(10) && $taken->{status} != 0, 'a subnet that has a route: the start fails');
like((join ' ', map { $_->{error} // '' } $taken->log_lines), qr{network\.subnet: a route to 10\.213\.7\.0/24}, 'and names the route');
system qw(ip link del other);

# ---- mode none: as if there were no network code at all ----
my $none = Brood->start('namespaces-spares' => 1, 'network-allow' => $allow, 'network-resolvers' => '203.0.113.53');
is(scalar $none->pids('netd'), 0, 'mode none: no netd');
my $r = $none->sh(alice => 'tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d " "; cat /etc/resolv.conf');
is($r->{stdout}, "lo\n# no network: see SECURITY.md\n", 'only lo, no resolver');
ok(!exists $r->{net_rx_bytes}, 'and no bytes in the facts');
is(netns_found($none), 'held, 4 attacks refused', 'four questions were asked of its netns');
$none->stop;
is($net->state, $before, 'nothing of the host has changed');

# ---- egress ----
my $brood = Brood->start($net->egress('network-allow' => $allow, 'network-resolvers' => '203.0.113.53'));
is(scalar $brood->pids('netd'), 1, 'egress: one netd');
is(netns_found($brood), 'held, 5 attacks refused', 'at start it was tried to reach the host, and what is not listed');
my ($netd) = grep { $_->{role} eq 'netd' } $brood->processes;
cmp_ok($netd->{uid}, '>', 100_000, 'it is a user that nobody is');
my %caps = (slurp("/proc/$netd->{pid}/status") // '') =~ /^(Cap\w+):\s*(\w+)/mg;
is($caps{$_}, '0000000000001000', "$_: NET_ADMIN and nothing else") for qw(CapPrm CapEff CapBnd);

my $reach = <<'PERL';
use IO::Socket::INET;
sub tcp { my ($addr, $port) = @_; my $s = IO::Socket::INET->new(PeerAddr => $addr, PeerPort => $port, Timeout => 3) or die "$!\n"; print $s "who\n"; my $l = <$s> // die "no answer\n"; chomp $l; $l }
sub udp { my ($addr, $port) = @_; my $s = IO::Socket::INET->new(PeerAddr => $addr, PeerPort => $port, Proto => 'udp'); local $SIG{ALRM} = sub { die "silence\n" }; alarm 3; $s->send('who'); defined $s->recv(my $l, 200) or die "$!\n"; alarm 0; chomp $l; $l }
try("tcp $_", sub { tcp(split /:/) }) for qw(203.0.113.10:80 203.0.113.200:80 203.0.113.11:443 203.0.113.11:445 10.99.0.5:5432 198.51.100.1:8080 192.0.2.2:9001);
try('udp', sub { udp('203.0.113.10', 7000) });
try('name', sub { inet_ntoa(scalar gethostbyname('example.test') || die "no such name\n") });
try('by name', sub { tcp('example.test', 80) });
PERL
my $got = attack($brood, alice => $reach, timeout => 60);
done($got, $_, "$_ is reached") for map { "tcp $_" } qw(203.0.113.10:80 203.0.113.200:80 203.0.113.11:443 203.0.113.11:445 10.99.0.5:5432 198.51.100.1:8080 192.0.2.2:9001);
done($got, 'udp', 'a datagram is answered');
done($got, 'by name', 'a server is reached by its name');
is($got->{name}[1], '203.0.113.10', 'the listed resolver answers');
like($got->{'tcp 203.0.113.10:80'}[1], qr/^world tcp 203\.0\.113\.10:80 from 192\.0\.2\.2$/, 'which sees the host, not the namespace');
my %sources = map { (split)[3] => 1 } grep { !/ 192\.0\.2\.2:/ } $net->seen;
is(join(' ', sort keys %sources), '192.0.2.2', 'no packet left with an inner address');

# ---- facts ----
my $get = 'exec 3<>/dev/tcp/203.0.113.10/80 && echo GET 1000000 >&3 && wc -c <&3';
$r = $brood->sh(bob => $get);
is($r->{stdout}, "1000000\n", 'a million bytes');
cmp_ok($r->{net_rx_bytes}, '>=', 1_000_000, "net_rx_bytes $r->{net_rx_bytes}");
cmp_ok($r->{net_rx_bytes}, '<', 1_150_000, 'with headers, no more than that');
cmp_ok($r->{net_tx_bytes}, '>', 100, "net_tx_bytes $r->{net_tx_bytes}");
cmp_ok($r->{net_tx_bytes}, '<', 100_000, 'acknowledgements');
$r = $brood->sh(bob => 'exec 3<>/dev/tcp/203.0.113.10/80; echo PUT 500000 >&3; head -c 500000 /dev/zero >&3; cat <&3');
is($r->{stdout}, "500000\n", 'half a million the other way');
cmp_ok($r->{net_tx_bytes}, '>=', 500_000, "net_tx_bytes $r->{net_tx_bytes}");
cmp_ok($r->{net_tx_bytes}, '<', 600_000, 'with headers');
$r = $brood->sh(bob => 'true');
cmp_ok(($r->{net_rx_bytes} // 0) + ($r->{net_tx_bytes} // 0), '<', 2000, 'the next run is not told so');
$r = $brood->sh(carol => 'true');
cmp_ok(($r->{net_rx_bytes} // 0) + ($r->{net_tx_bytes} // 0), '<', 2000, 'nor is another');

# ---- what the namespace has ----
$r = $brood->sh(bob => 'tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d " "; grep -v " lo$" /proc/net/if_inet6; cat /etc/resolv.conf; echo x >/etc/resolv.conf || echo refused');
is($r->{stdout}, "lo\neth0\nnameserver 203.0.113.53\nrefused\n", 'lo and eth0, no IPv6, its resolvers, which it can not change');
$r = $brood->sh(bob => 'python3 -c "
import socket
print(socket.gethostbyname(\"localhost\"))" 2>&1 || true; df /tmp >/dev/null && ls -A /tmp /dev/shm');
unlike($r->{stdout}, qr/resolv|nsswitch/, 'where they come from can not be seen');

$brood->stop;
ok(until_true(5, sub { $net->state eq $before }), 'nothing is left: links, addresses, routes, rules, forwarding') || diag($net->state);

# ---- how fast ----
my $slow = Brood->start($net->egress('network-allow' => '203.0.113.0/24:80', 'network-rate-kbit' => 8000));
$slow->sh(alice => 'true');
$r = $slow->sh(alice => 'exec 3<>/dev/tcp/203.0.113.10/80 && echo GET 3000000 >&3 && wc -c <&3', timeout => 60);
is($r->{stdout}, "3000000\n", 'three million bytes at one a second arrive');
cmp_ok($r->{wall_ms}, '>', 1500, "they take their time: $r->{wall_ms} ms");
cmp_ok($r->{wall_ms}, '<', 30_000, 'not too much of it');
$r = $slow->sh(alice => 'exec 3<>/dev/tcp/203.0.113.10/80; echo PUT 3000000 >&3; head -c 3000000 /dev/zero >&3; cat <&3', timeout => 60);
is($r->{stdout}, "3000000\n", 'the other way too');
cmp_ok($r->{wall_ms}, '>', 1500, "in $r->{wall_ms} ms");
cmp_ok($r->{wall_ms}, '<', 30_000, 'not too slow');
$slow->stop;
ok(until_true(5, sub { $net->state eq $before }), 'again nothing is left');

done_testing;
