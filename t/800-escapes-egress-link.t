# SPDX-License-Identifier: Apache-2.0
# The attacker wants to be somebody else on the wire. A run can not touch its link; a zygote that was taken over could,
# and is played here by root inside its netns: other addresses, IPv6, ICMP, its own routes, the link's other half.
use lib 't/lib';
use Brood;
use Brood::Attack;
use Brood::Net;
use Socket qw(:DEFAULT AF_INET6 inet_pton pack_sockaddr_in6);

my $net = Brood::Net->new;
my $brood = Brood->start($net->egress('network-allow' => '203.0.113.0/24:80, udp://203.0.113.10:7000, 0.0.0.0/0:8080', 'namespaces-spares' => 2));

# ---- a run ----
my $got = attack($brood, mallory => <<'PERL');
sub nl { my ($bytes) = @_; socket my $n, 16, SOCK_RAW, 0 or die error() . "\n"; send $n, $bytes, 0 or die error() . "\n"; recv $n, my $b, 4096, 0; my $e = -(unpack 'x16 l', $b)[0]; if ($e) { $! = $e; die error() . "\n" } 1 }
my $index = do { open my $f, '<', '/proc/net/dev'; my $n = 0; my $at = 0; while (<$f>) { $n++; $at = $n - 2 if /eth0/ } $at };
try('raw', sub { socket my $s, PF_INET, SOCK_RAW, 6 });
try('packet', sub { socket my $s, 17, SOCK_RAW, 0x0300 });
try('packet dgram', sub { socket my $s, 17, SOCK_DGRAM, 0x0300 });
try('link down', sub { nl(pack 'LSSLL CxSlLL', 32, 16, 5, 1, 0, 0, 0, 2, 0, 1) });
try('add address', sub { nl(pack 'LSSLL CCCCl SSa4 SSa4', 40, 20, 0x605, 1, 0, 2, 32, 0, 0, 2, 8, 2, "\x0a\xd5\x00\x63", 8, 1, "\x0a\xd5\x00\x63") });
try('bind to another', sub { socket my $s, PF_INET, SOCK_DGRAM, 0; bind $s, pack_sockaddr_in(0, inet_aton('10.213.0.99')) });
try('freebind', sub { socket my $s, PF_INET, SOCK_DGRAM, 0; setsockopt $s, 0, 15, 1 or die error() . "\n"; bind $s, pack_sockaddr_in(0, inet_aton('10.213.0.99')) or die error() . "\n"; send $s, 'x', 0, pack_sockaddr_in(7000, inet_aton('203.0.113.10')) or die error() . "\n"; 1 });
try('transparent', sub { socket my $s, PF_INET, SOCK_DGRAM, 0; setsockopt $s, 0, 19, 1 or die error() . "\n"; 1 });
try('mark', sub { socket my $s, PF_INET, SOCK_DGRAM, 0; setsockopt $s, SOL_SOCKET, 36, 1 or die error() . "\n"; 1 });
try('ipv6', sub { socket my $s, PF_INET6, SOCK_DGRAM, 0; send $s, 'x', 0, pack_sockaddr_in6(7000, Socket::inet_pton(PF_INET6, 'ff02::1'), $index) or die error() . "\n"; 1 });
PERL
refused($got, $_, undef, "a run: $_") for 'raw', 'packet', 'packet dgram', 'link down', 'add address', 'bind to another', 'freebind', 'transparent', 'mark', 'ipv6';

# ---- a zygote's rights ----
my $zygote = $brood->zygote_of('mallory');
my $say = q{use Socket; my ($from, $addr, $port) = @ARGV; socket my $s, PF_INET, SOCK_DGRAM, 0 or die; bind $s, pack_sockaddr_in(0, inet_aton($from)) or die "bind $!";
    setsockopt $s, SOL_SOCKET, SO_BROADCAST, 1; print defined(send $s, 'x', 0, pack_sockaddr_in($port, inet_aton($addr))) ? 'sent ' : "refused ";
    vec(my $set = '', fileno $s, 1) = 1; print select($set, undef, undef, 0.3) && defined recv($s, my $l, 200, 0) ? "answer" : "silence"};
my ($own) = $net->inside($zygote, qw(ip -o -4 addr show eth0)) =~ /inet (10\.213\.\d+\.\d+)/;
ok($own, "mallory has $own");
$net->seen;
is($net->inside($zygote, 'perl', '-e', $say, $own, '203.0.113.10', 7000), 'sent answer', 'control: it may ask');
is(scalar(() = $net->seen), 1, 'and was heard');
my ($other) = grep { $_ ne $own } map { /inet (10\.213\.\d+\.)(\d+)/ ? $1 . ($2 + 1) : () } split /\n/, `ip -o -4 addr`;
my ($link) = map { /(brd[0-9a-f]{6}-\d+)\s+inet \Q${\($own =~ s{(\d+)$}{$1 - 1}er)}\E/ ? $1 : () } split /\n/, `ip -o -4 addr`;
ok($link, "the host's end is $link");
# Two layers look at that: the rules and the kernel's rp_filter. Each must do alone; here the rules.
spew("/proc/sys/net/ipv4/conf/$_/rp_filter", '0') for 'all', $link;
for my $fake ($other, '10.213.9.9', '192.0.2.2', '192.0.2.1', '203.0.113.11', '8.8.8.8', '127.0.0.2') {
    $net->inside($zygote, qw(ip addr add), "$fake/32", qw(dev eth0));
    my $said = $net->inside($zygote, 'perl', '-e', $say, $fake, '203.0.113.10', 7000);
    like($said, $fake =~ /^127/ ? qr/silence/ : qr/^sent silence$/, "as $fake: silence");
    $net->inside($zygote, qw(ip addr del), "$fake/32", qw(dev eth0));
}
is(join(', ', $net->seen), '', 'nobody out there heard of it');

# To a neighbour, by routes of its own and the gateway's MAC address.
$net->inside($zygote, qw(ip route replace 10.213.0.0/16 dev eth0 onlink via), $own =~ s/(\d+)$/$1 - 1/er);
my $victim = (grep { $net->inside($_, qw(ip -o -4 addr show eth0)) =~ /\Q$other\E/ } $brood->pids('zygote'))[0];
ok($victim, 'a neighbour');
my $before = $net->inside($victim, 'cat', '/proc/net/dev') =~ /eth0:\s*(\d+)/ ? $1 : -1;
$net->inside($zygote, 'perl', '-e', $say, $own, $other, 8080) for 1 .. 3;
$net->inside($zygote, qw(ping -c 1 -W 1), $other) if -x '/usr/bin/ping';
my $after = $net->inside($victim, 'cat', '/proc/net/dev') =~ /eth0:\s*(\d+)/ ? $1 : -2;
is($after, $before, 'not a byte reaches it');

# IPv6: an address of its own, to the host's end and to everybody on the link.
$net->inside($zygote, 'sh', '-c', 'ip -6 addr add fe80::2/64 dev eth0 nodad; ip -6 addr add 2001:db8::2/64 dev eth0 nodad; ip -6 route add default via fe80::1 dev eth0');
my $six = q{use Socket qw(:all); my ($addr, $port, $scope) = @ARGV; socket my $s, PF_INET6, SOCK_DGRAM, 0 or die; send $s, 'x', 0, pack_sockaddr_in6($port, inet_pton(AF_INET6, $addr), $scope);
    vec(my $set = '', fileno $s, 1) = 1; print select($set, undef, undef, 0.3) && defined recv($s, my $l, 200, 0) ? "answer" : "silence"};
socket my $listener, AF_INET6, SOCK_DGRAM, 0 or die;
bind $listener, pack_sockaddr_in6(7777, inet_pton(AF_INET6, '::')) or die "bind: $!";
is(`ip -o -6 addr show dev $link`, '', 'which has no IPv6 address');
system qw(ip -6 addr add fe80::1/64 nodad dev), $link; # as if it had
my ($scope) = $net->inside($zygote, qw(ip -o link show eth0)) =~ /^(\d+)/;
is($net->inside($zygote, 'perl', '-e', $six, $_, 7777, $scope), 'silence', "IPv6 to $_: silence") for 'fe80::1', 'ff02::1', '2001:db8::1';
vec(my $set = '', fileno $listener, 1) = 1;
is(select($set, undef, undef, 0.1), 0, 'the host has heard nothing');
my ($table) = `nft list tables` =~ /(brood_\w+)/;
my ($netd) = $brood->pids('netd');
kill STOP => $netd; # or it loads them again
system qw(nft delete table inet), $table;
$net->inside($zygote, 'perl', '-e', $six, 'ff02::1', 7777, $scope);
vec($set = '', fileno $listener, 1) = 1;
is(select($set, undef, undef, 1), 1, 'control: without the rules it hears the same');
kill CONT => $netd;
ok(until_true(5, sub { `nft list tables` =~ /\Q$table\E/ }), 'they are back');

# ---- many connections: the host's table is not one tenant's to fill ----
my $count = sub { my ($n) = `nft list ruleset` =~ /ct count over (\d+)/; $n };
my $flood = $brood->sh(flood => 'exec perl -', timeout => 60, stdin => <<'PERL');
use Socket; use Fcntl;
my @keep; my $ok = 0;
$| = 1;
my $kid = fork // die; # 900 each: more would be too many open files
for (1 .. 900) { socket my $s, PF_INET, SOCK_DGRAM, 0 or last; push @keep, $s; send $s, 'x', 0, pack_sockaddr_in(7000, inet_aton('203.0.113.10')) }
for my $s (@keep) { vec(my $set = '', fileno $s, 1) = 1; $ok++ if select $set, undef, undef, 0.002 }
syswrite STDOUT, scalar(@keep) . " $ok\n";
if ($kid) { waitpid $kid, 0 } else { select undef, undef, undef, 0.5 }
PERL
my ($asked, $answered) = (0, 0);
$flood->{stdout} =~ s/^(\d+) (\d+)$/$asked += $1; $answered += $2; ''/gme;
cmp_ok($asked, '==', 1800, "$asked sockets");
my $most = $count->() // 0;
cmp_ok($answered, '<=', $most, "$answered answers: no more connections than $most");
cmp_ok($answered, '>', 50, 'but some') or diag $flood->{stderr};
my $r = $brood->sh(mallory2 => 'exec 3<>/dev/tcp/203.0.113.10/80 && echo who >&3 && cat <&3', timeout => 10);
like($r->{stdout}, qr/^world tcp/, 'a neighbour still gets its own');

$brood->stop;
done_testing;
