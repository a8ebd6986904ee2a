# SPDX-License-Identifier: Apache-2.0
# The network when something dies: two services at once, netd killed during traffic, priv killed. What remains denies,
# a new netd takes over, the next start of a service removes what the killed one left, and no other's.
use lib 't/lib';
use Brood;
use Brood::Net;

my $net = Brood::Net->new;
my $before = $net->state;
my @allow = ('network-allow' => '203.0.113.0/24:80', 'network-resolvers' => '203.0.113.53');
my $who = 'exec 3<>/dev/tcp/203.0.113.10/80 && echo who >&3 && cat <&3';
my $denied = 'exec 3<>/dev/tcp/198.51.100.1/80 && echo who >&3 && cat <&3';

sub reaches { my ($brood, $ns) = @_; return $brood->sh($ns => $who, timeout => 10)->{stdout} =~ /^world tcp 203/ }
sub is_denied { my ($brood, $ns) = @_; my $r = $brood->sh($ns => $denied, timeout => 5); return $r->{exit_code} // 1 ? 1 : 0 }

# ---- two at once ----
my $a = Brood->start($net->egress(@allow));
# The second finds forwarding on; its table is its own all the same.
my $same = Brood->start($net->egress(@allow), ready => 0);
ok($same->wait_exit(10) && $same->{status} != 0, 'a second service with the same subnet does not start');
my $b = Brood->start($net->egress(@allow, 'network-subnet' => '10.214.0.0/16'));
ok(reaches($a, 'alice'), 'the first has its way out');
ok(reaches($b, 'alice'), 'so has the second');
ok(is_denied($a, 'alice') && is_denied($b, 'alice'), 'and both their limits');
is(scalar(() = `nft list tables` =~ /brood_/g), 2, 'two tables');
$b->stop;
is(scalar(() = `nft list tables` =~ /brood_/g), 1, 'the second took its own along');
is(scalar(() = `ip route` =~ /10\.214\./g), 0, 'and its links');
ok(reaches($a, 'alice'), 'the first goes on');

# ---- netd dies during traffic ----
my $long = $a->post(bob => 'exec 3<>/dev/tcp/203.0.113.10/80; echo GET 4000000 >&3; head -c 1000 <&3 >/dev/null; touch begun; until [ -e go ]; do read -t 0.05 <> <(:); done; wc -c <&3', timeout => 60);
ok($a->wait_file('begun'), 'bytes are flowing');
my ($netd) = $a->pids('netd');
kill KILL => $netd;
ok(until_true(5, sub { !-d "/proc/$netd" }), 'netd is dead');
spew("$a->{fs_root}/bob/go");
is($a->result($long, 30)->{stdout}, "3999000\n", 'what was flowing flows on');
ok(is_denied($a, 'alice'), 'the rules are still there');
ok(reaches($a, 'alice'), 'and let the same through');
for my $i (1 .. 6) { # more than there are spares: new zygotes need links
    my $r = $a->sh("new$i" => $who, timeout => 20);
    like($r->{stdout}, qr/^world tcp/, "a new namespace ($i) has its link") or diag $r->{error} // '';
    ok(is_denied($a, "new$i"), 'and its limits');
}
is(scalar $a->pids('netd'), 1, 'there is a netd again');
ok(reaches($a, 'alice'), 'the link of before is still good');

# ---- somebody flushes all rules of the machine ----
for my $i (1 .. 3) {
    system qw(nft flush ruleset);
    ok(until_true(5, sub { `nft list tables` =~ /brood_/ }), "flushed rules come back ($i)");
    ok(reaches($a, 'alice') && is_denied($a, 'alice'), 'and are the same');
}

# ---- addresses change hands ----
my $many = grep { reaches($a, "turn$_") } 1 .. 12;
is($many, 12, 'twelve more');

# ---- everything dies at once: the rules stay, the next start cleans up ----
my @all = map { $_->{pid} } grep { $_->{role} =~ /^(?:priv|netd)$/ } $a->processes;
kill STOP => $_ for $a->pids('netd');
kill KILL => @all;
ok($a->wait_exit(10), 'priv and netd are killed');
is(scalar(() = `nft list tables` =~ /brood_/g), 1, 'the table is still there and denies');
$a->_spawn;
ok($a->wait_ready(20), 'the next service starts');
is(scalar(() = `nft list tables` =~ /brood_/g), 1, 'with one table');
ok(reaches($a, 'alice'), 'a way out');
ok(is_denied($a, 'alice'), 'and limits');

# ---- priv dies and the next start does not wait: its rules are not the ones that the old netd removes ----
for my $i (1 .. 5) {
    $a->signal('KILL');
    ok($a->wait_exit(10), "priv is killed ($i)");
    $a->_spawn;
    ok($a->wait_ready(20), 'and started at once');
    ok(is_denied($a, 'alice') && reaches($a, 'alice'), 'limits hold, the way out is there');
}

# ---- priv alone dies: netd cleans up by itself ----
$a->signal('KILL');
ok($a->wait_exit(10), 'priv is killed');
ok(until_true(10, sub { $net->state eq $before }), 'netd removed everything, forwarding too') || diag $net->state;

done_testing;
