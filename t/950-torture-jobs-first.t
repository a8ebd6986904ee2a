# SPDX-License-Identifier: Apache-2.0
# A job of a namespace that cannot be handed to the engine for want of room (a call of the frontend's is made to fail) rests,
# and nobody goes before it meanwhile: no younger job, and no run.
BEGIN { $ENV{B} = 'build/fault' }
use lib 't/lib';
use Brood;
use Brood::Jobs;
use Brood::Torture;

my $dir = Brood::_temp_dir();
my $t = Brood::Torture->new;
my $line = 0;
for (split /\n/, slurp(Brood::root() . '/frontend/jobs_output.c')) { $line++; last if /SYS\(epoll_create1/ }
$t->write_record('', 0, 0, 0, 0, '', '');
my $brood = Brood->start('languages-dir' => '', 'runs-timeout-max' => '100s', env => {BROOD_FAULT => $t->{file}});
sub order_is {
    my ($ns, @want) = @_;
    my $r;
    until_true(60, sub { $r = $brood->sh($ns => 'cat order'); $r->{http} == 200 && ($r->{stdout} =~ tr/\n//) >= @want });
    return is($r->{stdout}, join('', map { "$_\n" } @want), 'in the order in which they were accepted');
}

subtest 'behind others' => sub {
    submit($brood, 'touch began; until [ -e go ]; do sleep 0.02; done', namespace_id => 'a', timeout => 90);
    ok($brood->wait_file('began'), 'a job runs');
    my @ids = submit($brood, 'echo 1 >>order', namespace_id => 'a')->{executionId};
    $t->arm(frontend => 1, "frontend/jobs_output.c:$line");
    push @ids, submit($brood, 'echo 2 >>order', namespace_id => 'a')->{executionId};
    ok(until_true(10, sub { $t->has_fired }), 'there is no room for the third');
    my $r = $brood->sh(a => 'echo early >>order');
    $t->disarm;
    is_deeply([$r->{http}, $r->{error}{code}], [429, 'behind_jobs'], 'a run does not go before it') or diag explain $r;
    push @ids, map { submit($brood, "echo $_ >>order", namespace_id => 'a')->{executionId} } 3 .. 5;
    spew(($brood->find('began') =~ s/began\z/go/r), '');
    is_deeply([map { my $s = ended($brood, $_); "$s->{status} $s->{attempts}" } @ids], [('completed 1') x 5], 'all run, once');
    order_is(a => 1 .. 5);
};

subtest 'the first one' => sub {
    $t->arm(frontend => 1, "frontend/jobs_output.c:$line");
    my @ids = submit($brood, 'echo 1 >>order', namespace_id => 'b')->{executionId};
    ok(until_true(10, sub { $t->has_fired }), 'there is no room for it');
    $t->disarm;
    push @ids, map { submit($brood, "echo $_ >>order", namespace_id => 'b')->{executionId} } 2 .. 4;
    is_deeply([map { my $s = ended($brood, $_); "$s->{status} $s->{attempts}" } @ids], [('completed 1') x 4], 'all run, once');
    order_is(b => 1 .. 4);
};

subtest 'a language' => sub {
    $t->arm(frontend => 1, "frontend/jobs_output.c:$line");
    my $first = submit($brood, 'echo 1')->{executionId};
    ok(until_true(10, sub { $t->has_fired }), 'there is no room for one');
    $t->disarm;
    my $s = ended($brood, submit($brood, 'echo 2')->{executionId});
    is($s->{stdoutPreview}, "2\n", 'another one needs not wait for it');
    $s = ended($brood, $first);
    is("$s->{status} $s->{attempts}", 'completed 1', 'which runs later');
};
$brood->stop;
done_testing;
