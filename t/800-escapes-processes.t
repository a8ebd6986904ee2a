# SPDX-License-Identifier: Apache-2.0
# The attacker looks for processes of the host, of the service and of other namespaces, and signals them.
use lib 't/lib';
use Brood;
use Brood::Attack;

my $brood = Brood->start;
defined(my $victim = fork) or die;
if (!$victim) { exec 'sleep', '60' or POSIX::_exit(1) }
my $alice = $brood->post(alice => 'touch alice-runs; sleep 1.5; echo survived');
ok($brood->wait_file('alice-runs'), 'alice runs');
my @all = $brood->processes;
my @targets = ($victim, map { $_->{pid} } @all);
cmp_ok(scalar @targets, '>', 5, 'there are ' . @targets . ' processes to hit');

my $r = $brood->sh(mallory => 'cd /proc; echo [0-9]*; echo $$; ps -e -o pid= 2>/dev/null | wc -l');
my ($seen, $own) = split /\n/, $r->{stdout};
is_deeply([grep { $_ != $own } split ' ', $seen], [], "the run sees nobody but itself in /proc ($seen)");
my $got = attack($brood, mallory => 'for my $pid (' . join(',', @targets) . <<'PERL');
) {
    try("kill $pid" => sub { kill 'KILL', $pid });
    try("see $pid" => sub { -e "/proc/$pid/stat" && $pid != $$ });
    call("pidfd $pid" => 434, $pid, 0);
    call("tgkill $pid" => 234, $pid, $pid, 9);
    call("sched $pid" => 203, $pid, 8, pack 'Q', 1);
    call("prlimit $pid" => 302, $pid, 7, pack('QQ', 3, 3), 0);
    try("renice $pid" => sub { setpriority 0, $pid, 19 });
}
try('own child' => sub { my $p = fork; if (!$p) { sleep 20; exit } kill('KILL', $p) && waitpid($p, 0) == $p });
PERL
done($got, 'own child', 'control: a child of its own can be killed');
my %own = map { $_ => 1 } 1, $own; # the same number may exist inside, as pid 1 or itself
for my $verb (qw(kill see pidfd tgkill sched prlimit renice)) {
    my @hit = grep { $got->{"$verb $_"}[0] ne 'refused' } grep { $got->{"$verb $_"} && !$own{$_} } @targets;
    my @tried = grep { $got->{"$verb $_"} } @targets;
    ok(@tried == @targets && !@hit, "$verb: none of " . @tried . ' was reached') or diag("hit: @hit");
}
$r = $brood->sh(mallory => 'kill -KILL -1; kill -9 -- -0 2>/dev/null');
is($r->{http}, 200, 'kill everyone, oneself included: answered');
is($brood->result($alice)->{stdout}, "survived\n", 'alice did not notice');
ok(kill(0, $victim), 'the process of the host lives');
my %alive = map { $_->{pid} => 1 } $brood->processes;
is_deeply([grep { !$alive{$_->{pid}} } grep { $_->{role} ne 'child' } @all], [], 'so does everything of the service');
kill KILL => $victim;
waitpid $victim, 0;

$brood->stop;
done_testing;
