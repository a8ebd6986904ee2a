# SPDX-License-Identifier: Apache-2.0
# What must work in spite of it all: a network of the namespace's own. Servers on its loopback, Unix sockets,
# abstract ones, pipes between processes - and none of them can be reached by a neighbour or by the host.
use lib 't/lib';
use Brood;
use Brood::Attack;
use IO::Socket::INET;

my $brood = Brood->start;
my $server = <<'PERL';
socket my $l, PF_INET, SOCK_STREAM, 0 or die; setsockopt $l, SOL_SOCKET, SO_REUSEADDR, 1;
try('bind' => sub { bind $l, pack_sockaddr_in(8765, INADDR_ANY) });
try('listen' => sub { listen $l, 5 });
try('bind 80' => sub { socket my $p, PF_INET, SOCK_STREAM, 0; bind $p, pack_sockaddr_in(80, INADDR_LOOPBACK) });
my $kid = fork // die;
if (!$kid) { accept my $c, $l or exit 1; syswrite $c, "hello\n"; exit }
try('connect' => sub { socket my $s, PF_INET, SOCK_STREAM, 0; connect $s, pack_sockaddr_in(8765, INADDR_LOOPBACK) or die error(); sysread $s, my $t, 100; $t eq "hello\n" });
waitpid $kid, 0;
try('udp' => sub { socket my $a, PF_INET, SOCK_DGRAM, 0; bind $a, pack_sockaddr_in(8766, INADDR_LOOPBACK); socket my $b, PF_INET, SOCK_DGRAM, 0; send $b, 'x', 0, pack_sockaddr_in(8766, INADDR_LOOPBACK); recv $a, my $t, 10, 0; $t eq 'x' });
try('ipv6' => sub { socket my $s, PF_INET6, SOCK_STREAM, 0; bind $s, pack_sockaddr_in6(8767, Socket::inet_pton(PF_INET6, '::1')) });
try('unix' => sub { socket my $s, PF_UNIX, SOCK_STREAM, 0; bind $s, pack_sockaddr_un('/tmp/own.sock'); listen $s, 1; socket my $c, PF_UNIX, SOCK_STREAM, 0; connect $c, pack_sockaddr_un('/tmp/own.sock') });
try('abstract' => sub { socket my $s, PF_UNIX, SOCK_STREAM, 0; bind $s, pack('Sa*', 1, "\0own") or die error(); listen $s, 1; socket my $c, PF_UNIX, SOCK_STREAM, 0; connect $c, pack('Sa*', 1, "\0own") });
try('names' => sub { gethostbyname('localhost') eq INADDR_LOOPBACK });
PERL
my $got = attack($brood, alice => $server, timeout => 10);
done($got, $_, "$_ works inside") for qw(bind listen connect udp ipv6 unix abstract names);
refused($got, 'bind 80', qr/^EACCES$/, 'a low port is not for a user');

# A server that stays up while others look for it.
my $conn = $brood->post(alice => 'exec perl -', timeout => 20, stdin => <<'PERL');
use Socket;
socket my $l, PF_INET, SOCK_STREAM, 0; bind $l, pack_sockaddr_in(8765, INADDR_ANY); listen $l, 5;
socket my $u, PF_UNIX, SOCK_STREAM, 0; bind $u, pack 'Sa*', 1, "\0alice"; listen $u, 5;
open my $f, '>', 'up'; close $f;
select undef, undef, undef, 0.02 until -e 'done';
vec(my $set = '', fileno $l, 1) = 1; vec($set, fileno $u, 1) = 1;
print select($set, undef, undef, 0) ? "visited\n" : "alone\n";
PERL
ok($brood->wait_file('up'), 'alice serves');
$got = attack($brood, bob => <<'PERL');
try('tcp' => sub { socket my $s, PF_INET, SOCK_STREAM, 0; connect $s, pack_sockaddr_in(8765, INADDR_LOOPBACK) });
try('abstract' => sub { socket my $s, PF_UNIX, SOCK_STREAM, 0; connect $s, pack 'Sa*', 1, "\0alice" });
try('bind' => sub { socket my $s, PF_INET, SOCK_STREAM, 0; bind $s, pack_sockaddr_in(8765, INADDR_ANY) });
PERL
refused($got, 'tcp', qr/^ECONNREFUSED$/, 'bob does not reach her port');
refused($got, 'abstract', qr/^(?:ECONNREFUSED|EPERM)$/, 'nor her abstract socket');
done($got, 'bind', 'the same port is free for him');
ok(!IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => 8765, Timeout => 1), 'the host does not see it either');
unlike(slurp('/proc/net/unix'), qr/\@alice/, 'nor her abstract socket');
spew("$brood->{fs_root}/alice/done");
is($brood->result($conn, 5)->{stdout}, "alone\n", 'nobody came');
# The port is free again in the next run: nothing of the server is left.
is(said(attack($brood, alice => $server, timeout => 10), 'bind') ne '' , 1, 'the next run can bind it again');

$brood->stop;
done_testing;
