# SPDX-License-Identifier: Apache-2.0
# The zygotes of fresh namespaces that were served are ended together: never more than three quarters of the pool's
# number, all in a pause, at once for whoever wants the place; nothing that ran in one outlives the answer.
use lib 't/lib';
use Brood;
use Brood::Killed;
require_layer('root', 'cgroup');

sub fresh { my ($brood, $cmd) = @_; return ($brood->request(POST => '/v1/runs', body => {cmd => $cmd}) // {})->{json} // {} }

subtest 'kept for a pause' => sub {
    my $brood = Brood->start;
    wait_stat($brood, spares => 8);
    my ($most, $wrong) = (0, 0);
    for (1 .. 40) {
        $wrong++ if fresh($brood, '[ -e kept ] || echo new; echo >kept')->{stdout} ne "new\n";
        my $spent = stats($brood)->{spent};
        $most = $spent if $spent > $most;
    }
    is($wrong, 0, 'forty in a row: each is new');
    ok($most >= 2, "some are spent meanwhile ($most at most)");
    ok($most < 6, '... never three quarters of the pool');
    wait_stat($brood, spent => 0);
    ok(until_true(5, sub { my $s = stats($brood); $s->{ending} == 0 && $s->{spares} == 8 && $brood->pids('zygote') == 8 + $s->{ahead} }),
        'all are ended in the pause, and the pool is full');
    fresh($brood, 'sleep 98765 & setsid sleep 98765 & true');
    is(scalar(grep { /^sleep\x{0}98765/ } map { slurp($_) // '' } glob '/proc/[0-9]*/cmdline'), 0, 'nothing that a run left outlives its answer');
    wait_stat($brood, spent => 0);
    my $held = 0;
    for (1 .. 10) {
        fresh($brood, 'head -c 40M /dev/zero >big');
        $held += stats($brood)->{spent};
    }
    is($held, 0, 'what holds much memory is not kept');
    fresh($brood, 'true');
    $brood->stop;
    is_deeply([$brood->cgroup_dirs], [], 'a stop meanwhile leaves no cgroup');
};

subtest 'for whoever wants the place' => sub {
    my $brood = Brood->start('namespaces-active-max' => 6);
    wait_stat($brood, spares => 8);
    for my $round (1 .. 5) {
        fresh($brood, 'true') for 1 .. 2;
        my @conns = map { $brood->post("n-$round-$_" => 'sleep 0.2; echo hi') } 1 .. 6;
        is(join('', map { $brood->result($_)->{stdout} } @conns), "hi\n" x 6, 'six places, six namespaces at once');
        ok(stats($brood)->{spent} <= 3, 'half of the places at most are held');
    }
    $brood->stop;
};

subtest 'its zygote dies' => sub {
    my $brood = Brood->start;
    wait_stat($brood, spares => 8);
    my %before = map { $_ => 1 } $brood->pids('zygote');
    my $caught;
    for (1 .. 50) {
        fresh($brood, 'true');
        last if $caught = stats($brood)->{spent};
    }
    ok($caught, 'one is spent');
    kill KILL => $brood->pids('zygote');
    ok(until_true(10, sub { (fresh($brood, 'echo hi')->{stdout} // '') eq "hi\n" }), 'with all others: the next is served');
    wait_stat($brood, spent => 0);
    $brood->stop;
};

done_testing;
