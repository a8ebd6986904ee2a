# SPDX-License-Identifier: Apache-2.0
# Many namespaces that each keep to their limits do not take the machine: together they have a limit, too. Whoever dies of
# it is told so, and the service goes on.
use lib 't/lib';
use Brood;

require_layer('root', 'cgroup');
my $brood = Brood->start('namespaces-memory-total' => '256M', 'namespaces-pids-total' => 48, 'limits-memory' => '160M', 'limits-pids' => 40);

my $hold = q{exec perl -e 'my $n = 110 << 20; my $x = "x" x $n; open my $f, ">", "held"; close $f; sleep 1 until -e "go"; print "held\n"'};
my %conn = map { $_ => $brood->post($_ => $hold, timeout => 30) } qw(a b c);
my @first;
ok(until_true(20, sub { @first = grep { $conn{$_}->readable } keys %conn; @first >= 1 }), 'three that hold 110 MiB each do not fit into 256');
my $died = $brood->result(delete $conn{$first[0]});
is($died->{reason}, 'oom', 'one of them is killed, and told why');
is($brood->sh(fresh => 'echo hi')->{stdout}, "hi\n", 'a namespace beside them works');
$brood->sh($first[0] => 'true');
for my $ns (sort keys %conn) {
    open my $go, '>', "$brood->{fs_root}/$ns/go" or diag("$ns: $!");
}
is($brood->result($conn{$_})->{stdout}, "held\n", "$_ keeps what it had") for sort keys %conn;

my $fork = q{exec perl -e 'for (1 .. 35) { my $p = fork // next; $p or exec "sleep", 20 } open my $f, ">", "forked"; close $f; sleep 20'};
my @forkers = map { $brood->post("f$_" => $fork, timeout => 20) } 1 .. 3;
ok(until_true(15, sub { 2 <= grep { -e "$brood->{fs_root}/f$_/forked" } 1 .. 3 }), 'namespaces that fork as much as they may');
my $most = 0;
for my $p ($brood->processes) { $most++ if $p->{name} =~ m{^(?:perl|sleep)$} }
cmp_ok($most, '<=', 48, "have no more than 48 processes together: $most");
undef @forkers;
ok(until_true(10, sub { $brood->sh(late => 'echo $(echo hi)')->{stdout} eq "hi\n" }), 'and are none when they are over');
$brood->stop;
done_testing;
