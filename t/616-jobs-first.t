# SPDX-License-Identifier: Apache-2.0
# Runs of a namespace begin in the order in which they were accepted, also where more jobs of it wait than its queue in the
# engine holds: what would overtake one is refused (429 behind_jobs), and nothing that was accepted is overtaken.
use lib 't/lib';
use Brood;
use Brood::Jobs;
use Time::HiRes qw(time);

my $brood = Brood->start('languages-dir' => '', 'runs-queue-max' => 4, 'runs-max-wait' => '90s', 'http-threads' => 1, 'runs-timeout-max' => '100s', 'v1-runs-timeout-default' => '90s', 'v1-runs-timeout-max' => '90s');
sub ask {
    my ($method, $path, $body) = @_;
    my $res = $brood->request($method, $path, (defined $body ? (body => $body) : ()), timeout => 100) // {status => 0, headers => {}};
    return {http => $res->{status}, headers => $res->{headers}, ref $res->{json} eq 'HASH' ? %{$res->{json}} : ()};
}
sub go_on { my $at = $brood->find($_[0]) or return fail("$_[0] is there"); spew(($at =~ s/\Q$_[0]\E\z/go-$_[0]/r), '') }
sub gate { my ($name) = @_; return "touch $name; until [ -e go-$name ]; do sleep 0.02; done" }

subtest 'what would overtake' => sub {
    my @ids = submit($brood, gate('one') . '; echo 0 >>order', namespace_id => 'q', timeout => 90)->{executionId};
    ok($brood->wait_file('one'), 'a job runs');
    push @ids, map { submit($brood, "echo $_ >>order", namespace_id => 'q')->{executionId} } 1 .. 9;
    my $r = $brood->sh(q => 'echo early >>order');
    is_deeply([$r->{http}, $r->{error}{code}], [429, 'behind_jobs'], 'a run: 429') or diag explain $r;
    ok(($brood->execute({namespace_id => 'q', cmd => 'echo early >>order'}))[2]{'retry-after'}, 'with Retry-After');
    $r = ask(POST => '/v1/runs', {namespace_id => 'q', cmd => 'echo early >>order'});
    is_deeply([@$r{qw(http code)}], [429, 'behind_jobs'], 'a stored one, in the shape of its path');
    is(ask(POST => '/v1/runs', {namespace_id => 'q', cmd => 'echo early >>order', detach => \1})->{http}, 429, 'a detached one');
    is(ask($_->[0], "/v1/namespaces/q/$_->[1]", $_->[2])->{http}, 429, "$_->[0] $_->[1]") for ['GET', 'files/order'], ['PUT', 'files/order', 'x'], ['DELETE', 'files/order'], ['GET', 'archive'];
    is($brood->sh(other => 'echo hi')->{stdout}, "hi\n", 'another namespace does not notice');
    is($brood->sh(q => 'echo in', session => 's')->{stdout}, "in\n", 'nor does a session, which stands in no line');
    is(submit($brood, 'echo 10 >>order', namespace_id => 'q')->{http}, 202, 'another job stands behind them');
    go_on('one');
    ok(until_true(60, sub { $r = $brood->sh(q => 'echo late >>order; cat order'); $r->{http} == 200 }), 'later it may');
    is($r->{stdout}, join('', map { "$_\n" } 0 .. 10, 'late'), 'and everything had its turn') or diag explain $r;
    is(ended($brood, $_)->{status}, 'completed', 'a job') for @ids[0, 9];
};

# Whoever has an answer is in line: jobs and runs by turns, the namespace busy or not.
subtest 'accepted is accepted' => sub {
    srand(my $seed = $ENV{SEED} // time);
    my (@accepted, %refused);
    for my $n (1 .. 120) {
        my $cmd = 'sleep 0.0' . int(rand 3) . "; echo $n >>order";
        my $r = rand() < 0.6 ? submit($brood, $cmd, namespace_id => 'mixed') : ask(POST => '/v1/runs', {namespace_id => 'mixed', cmd => $cmd, detach => \1});
        if ($r->{http} == 202) { push @accepted, $n }
        else { $refused{$r->{code} // $r->{error}{code}}++ }
        select undef, undef, undef, rand 0.1 if rand() < 0.15;
    }
    my $r;
    ok(until_true(100, sub { $r = $brood->sh(mixed => 'cat order'); $r->{http} == 200 && ($r->{stdout} =~ tr/\n//) == @accepted }), 'all of them end');
    is($r->{stdout}, join('', map { "$_\n" } @accepted), @accepted . ' in the order in which they were accepted; refused: ' . join ', ', map { "$_ $refused{$_}" } sort keys %refused) or diag("SEED=$seed");
};

# Jobs that wait for the next process come before whatever is asked of it.
subtest 'a restart' => sub {
    submit($brood, gate('two'), namespace_id => 'r', timeout => 90);
    ok($brood->wait_file('two'), 'a job runs');
    my @ids = map { submit($brood, "echo $_ >>order", namespace_id => 'r')->{executionId} } 1 .. 12;
    my ($old) = $brood->pids('frontend');
    kill KILL => $old;
    delete $brood->{conn};
    ok(until_true(20, sub { my ($new) = $brood->pids('frontend'); $new && $new != $old }) && $brood->wait_ready(20), 'the frontend is killed');
    go_on('two');
    my $r;
    until_true(60, sub { $r = $brood->sh(r => 'echo late >>order; cat order'); $r->{http} == 200 });
    is($r->{stdout}, join('', map { "$_\n" } 1 .. 12, 'late'), 'they are first') or diag explain $r;
    is(ended($brood, $ids[-1])->{attempts}, 1, 'each was begun once');
};
$brood->stop;
done_testing;
