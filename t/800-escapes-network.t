# SPDX-License-Identifier: Apache-2.0
# The attacker speaks to the network: the host's loopback, the service itself, abstract sockets, raw packets.
use lib 't/lib';
use Brood;
use Brood::Attack;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Socket qw(SOCK_STREAM SOCK_DGRAM pack_sockaddr_un);

my $brood = Brood->start(tcp => 1);
my $listener = IO::Socket::INET->new(Listen => 5, LocalAddr => '0.0.0.0', LocalPort => 0) or die;
my $port = $listener->sockport;
my $name = "\0brood-test-$$";
my $abstract = IO::Socket::UNIX->new(Type => SOCK_STREAM, Local => $name, Listen => 5) or die "abstract socket: $!";
my $addresses = join ',', map { "'$_'" } '127.0.0.1', (split ' ', `hostname -I 2>/dev/null` // ''), '10.0.0.1', '169.254.169.254', '8.8.8.8';
$addresses =~ s/'[^']*:[^']*',?//g;

my $connect = <<"PERL";
for my \$ip ($addresses) {
    for my \$port ($port, $brood->{port}, 8080, 22) {
        socket my \$s, PF_INET, SOCK_STREAM, 0 or die;
        my \$alarm = 0; local \$SIG{ALRM} = sub { die "timeout\\n" };
        try("tcp \$ip \$port" => sub { alarm 1; my \$ok = connect \$s, pack_sockaddr_in(\$port, inet_aton(\$ip)); alarm 0; \$ok });
        alarm 0;
    }
}
socket my \$u, PF_UNIX, SOCK_STREAM, 0 or die;
try('abstract' => sub { connect \$u, pack 'Sa*', 1, "\\0brood-test-$$" });
PERL
my $got = attack($brood, mallory => $connect . <<'PERL', timeout => 30);
try('unix ' . $_ => sub { socket my $s, PF_UNIX, SOCK_STREAM, 0; connect $s, pack_sockaddr_un($_) }) for '/run/brood/brood.sock', '/var/run/docker.sock', '/run/dbus/system_bus_socket', '/run/systemd/private';
try('raw' => sub { socket my $s, PF_INET, SOCK_RAW, 1 });
try('packet' => sub { socket my $s, 17, SOCK_RAW, 0x0300 });
try('udp out' => sub { socket my $s, PF_INET, SOCK_DGRAM, 17; send $s, 'x', 0, pack_sockaddr_in(53, inet_aton('8.8.8.8')) });
try('vsock' => sub { socket my $s, 40, SOCK_STREAM, 0 or die error() . "\n"; connect $s, pack 'SSIIxxxx', 40, 0, 2024, 2 });
socket my $s, PF_INET, SOCK_DGRAM, 0 or die;
call(if_down => 16, fileno $s, 0x8914, pack('a16 S', 'lo', 0) . "\0" x 24); # SIOCSIFFLAGS
socket my $n, 16, SOCK_RAW, 0;
try('netlink new link' => sub { my $m = pack('LSSLL', 32, 16, 0x605, 1, 0) . pack 'CxSlLL', 0, 0, 0, 0, 0; send $n, $m, 0 or die error(); recv $n, my $b, 4096, 0; (unpack 'x16 l', $b)[0] == 0 });
PERL
my @tcp = grep { /^tcp / } keys %$got;
cmp_ok(scalar @tcp, '>=', 16, scalar(@tcp) . ' connections were tried');
is(join(' ', grep { $got->{$_}[0] ne 'refused' } @tcp), '', 'none came through');
refused($got, 'abstract', qr/^(?:ECONNREFUSED|EPERM)$/, "an abstract socket of the host");
refused($got, "unix $_", qr/^(?:ENOENT|EACCES)$/) for '/run/brood/brood.sock', '/var/run/docker.sock', '/run/dbus/system_bus_socket', '/run/systemd/private';
refused($got, $_, undef) for 'raw', 'packet', 'udp out', 'vsock', 'if_down', 'netlink new link';
my $host = on_host($connect);
done($host, "tcp 127.0.0.1 $port", 'control: outside the listener is reached');
done($host, "tcp 127.0.0.1 $brood->{port}", 'control: and the service');
done($host, 'abstract', 'control: and the abstract socket');
is($brood->sh(mallory => 'cd /sys/class/net 2>/dev/null && ls; tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d " "')->{stdout}, "lo\n", 'there is no interface but lo');
is($brood->sh(mallory => 'tail -n +2 /proc/net/route; tail -n +2 /proc/net/unix | grep -v "^$" | grep -c @')->{stdout}, "0\n", 'no route, nobody\'s abstract sockets');
vec(my $set = '', fileno $abstract, 1) = 1;
vec($set, fileno $listener, 1) = 1;
$listener->blocking(0);
1 while $listener->accept; # the controls'
$abstract->blocking(0);
1 while $abstract->accept;
attack($brood, mallory => $connect, timeout => 30);
is(select($set, undef, undef, 0.05), 0, 'seen from outside nobody knocks');

$brood->stop;
done_testing;
