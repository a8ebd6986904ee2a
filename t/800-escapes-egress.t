# SPDX-License-Identifier: Apache-2.0
# The attacker's program has a network and wants more of it: other ports, other addresses, the metadata server, the
# host, its gateway, a neighbour, another resolver, other protocols. Nobody out there hears of it.
use lib 't/lib';
use Brood;
use Brood::Attack;
use Brood::Net;

my $net = Brood::Net->new;
my $brood = Brood->start($net->egress('network-allow' => '203.0.113.0/24:80, 10.99.0.0/24:5432, 0.0.0.0/0:8080, udp://203.0.113.10:7000, udp://203.0.113.0/24:1-99, 203.0.113.54:53',
    'network-resolvers' => '203.0.113.53', 'namespaces-spares' => 1));
# A neighbour that listens on everything it has, and says who came.
my $conn = $brood->post(victim => 'exec perl -', timeout => 120, stdin => <<'PERL');
use Socket;
socket my $l, PF_INET, SOCK_STREAM, 0; bind $l, pack_sockaddr_in(8080, INADDR_ANY) or die; listen $l, 5;
socket my $u, PF_INET, SOCK_DGRAM, 0; bind $u, pack_sockaddr_in(7000, INADDR_ANY) or die;
open my $f, '>', 'up'; close $f;
select undef, undef, undef, 0.02 until -e 'done';
vec(my $set = '', fileno $l, 1) = 1; vec($set, fileno $u, 1) = 1;
print select($set, undef, undef, 0) ? "visited\n" : "alone\n";
PERL
ok($brood->wait_file('up'), 'a neighbour serves');
my $own; # the neighbour's and the next spare's
until_true(10, sub { 2 <= ($own = join ' ', map { /inet (10\.213\.\d+\.\d+)/ ? $1 : () } split /\n/, `ip -o -4 addr`) =~ tr/ // + 1 });
my @neighbours = map { s/(\d+)$/$1 + 1/er } split ' ', $own;
cmp_ok(scalar @neighbours, '>=', 2, 'addresses in use: ' . join ' ', @neighbours);

my @tcp = (qw(203.0.113.10:81 203.0.113.10:443 203.0.113.10:53 203.0.113.54:53 198.51.100.1:80 198.51.100.1:443),
    qw(169.254.169.254:80 169.254.169.254:8080 10.99.1.5:5432 10.99.1.5:8080 10.99.0.5:80 10.99.0.5:8080 192.168.7.7:8080 172.16.3.3:8080),
    qw(100.64.0.9:8080 198.18.0.1:8080 192.0.0.9:8080 192.0.2.2:9000 192.0.2.2:8080 192.0.2.2:80));
my @gateways = map { ("$_:8080", "$_:9000", "$_:80") } split ' ', $own;
my @udp = (qw(203.0.113.10:7001 203.0.113.11:7000 203.0.113.10:53 203.0.113.54:53 169.254.169.254:53 169.254.169.254:7000 192.0.2.2:9000),
    qw(255.255.255.255:7000 224.0.0.1:7000 192.0.2.3:7000), map { "$_:9000" } split ' ', $own);
my $lists = sprintf 'my @tcp = qw(%s); my @udp = qw(%s); my @near = qw(%s);', join(' ', @tcp, @gateways), join(' ', @udp), join(' ', @neighbours);
my $code = <<'PERL';
my $me = '';
if (open my $fib, '<', '/proc/net/fib_trie') { my $last; while (<$fib>) { $last = $1 if /(\d+\.\d+\.\d+\.\d+)/; $me = $last if /32 host LOCAL/ && $last =~ /^10\.213/ } }
sub tcp { # Perl's own: a Timeout would be a lie here
    my ($addr, $port) = split /:/, $_[0];
    socket my $s, PF_INET, SOCK_STREAM, 0 or die;
    local $SIG{ALRM} = sub { die "timeout\n" };
    alarm 2;
    my $r = connect $s, pack_sockaddr_in($port, inet_aton($addr));
    my $why = error();
    if ($r) { syswrite $s, "who\n"; sysread $s, my $l, 200; alarm 0; return $l }
    alarm 0; die "$why\n";
}
sub udp {
    my ($addr, $port) = split /:/, $_[0];
    socket my $s, PF_INET, SOCK_DGRAM, 0 or die;
    setsockopt $s, SOL_SOCKET, SO_BROADCAST, 1;
    my $to = pack_sockaddr_in($port, inet_aton($addr));
    send $s, ("\0" x 17) . "\0\0\1\0\1", 0, $to or die error() . "\n";
    vec(my $set = '', fileno $s, 1) = 1;
    select($set, undef, undef, 0.1) or die "silence\n";
    defined(recv $s, my $l, 200, 0) or die error() . "\n";
    return $l;
}
try("tcp $_", sub { tcp($_) }) for @tcp;
try("udp $_", sub { udp($_) }) for @udp;
for my $n (grep { $_ ne $me } @near) { try("near tcp $n", sub { tcp("$n:8080") }); try("near udp $n", sub { udp("$n:7000") }) }
try('icmp', sub { socket my $s, PF_INET, SOCK_DGRAM, 1 or die error() . "\n"; send $s, pack('CCnnn', 8, 0, 0xf7ff, 0, 0), 0, pack_sockaddr_in(0, inet_aton('203.0.113.10')) or die error() . "\n"; vec(my $set = '', fileno $s, 1) = 1; select($set, undef, undef, 0.5) or die "silence\n"; defined(recv $s, my $l, 200, 0) or die error() . "\n"; 1 });
try('sctp', sub { socket my $s, PF_INET, SOCK_STREAM, 132 or die error() . "\n"; connect $s, pack_sockaddr_in(80, inet_aton('203.0.113.10')) or die error() . "\n"; 1 });
try("control $_", sub { tcp($_) }) for qw(203.0.113.10:80 198.51.100.1:8080 10.99.0.5:5432);
try('control udp', sub { udp('203.0.113.10:7000') });
PERL
$net->seen;
my $got = attack($brood, mallory => $lists . $code, timeout => 120);
my @tried = grep { /^(?:tcp|udp|near|icmp|sctp)/ } keys %$got;
cmp_ok(scalar @tried, '>=', @tcp + @gateways + @udp + 4, scalar(@tried) . ' targets were tried');
is(join(' ', map { "$_=$got->{$_}[1]" } grep { $got->{$_}[0] ne 'refused' } @tried), '', 'none was reached');
like($got->{$_}[1], qr/^ECONNREFUSED/, "$_: at once, not by waiting") for 'tcp 169.254.169.254:80', 'tcp 192.0.2.2:9000';
done($got, $_, "$_: what is listed") for 'control 203.0.113.10:80', 'control 198.51.100.1:8080', 'control 10.99.0.5:5432', 'control udp';
my @seen = $net->seen;
is(join(', ', sort @seen), join(', ', map { "$_ from 192.0.2.2" } 'tcp 10.99.0.5:5432', 'tcp 198.51.100.1:8080', 'tcp 203.0.113.10:80', 'udp 203.0.113.10:7000'),
    'seen from out there: the listed ones, and no other knocked');

# The same targets answer whoever may ask: the host.
my $host = on_host($lists . $code);
done($host, "tcp $_", "control: the host reaches $_") for '169.254.169.254:80', '192.168.7.7:8080', '192.0.2.2:9000', '203.0.113.54:53', '10.99.0.5:80';
done($host, "udp $_", "control: the host asks $_") for '203.0.113.54:53', '203.0.113.10:7001';

# And from outside, or from the host, nobody comes in.
my $knock = 'my $s = IO::Socket::INET->new(PeerAddr => shift, PeerPort => 8080, Timeout => 1); print $s ? "in" : "out"';
for my $target (@neighbours) {
    is($net->in_world('perl', '-MIO::Socket::INET', '-e', $knock, $target), 'out', "the world does not come in at $target");
    is(scalar(`perl -MIO::Socket::INET -e '$knock' $target`), 'out', 'nor does the host');
}
spew("$brood->{fs_root}/victim/done");
is($brood->result($conn, 10)->{stdout}, "alone\n", 'nobody came to the neighbour');

$brood->stop;
done_testing;
