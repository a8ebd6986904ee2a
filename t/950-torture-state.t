# SPDX-License-Identifier: Apache-2.0
# Torture of the frontend's start over a state directory that a killed service left: jobs that wait, one that ran, one
# that has ended, a request with an Idempotency-Key that was under way, what a crash leaves of a job's output. Each
# handled call of reading all that fails in turn, SQLite's among them (t/957-torture-life.t has the rest). Whatever
# becomes of that start - in the end each accepted job has ended, and nothing that was answered is another.
BEGIN { $ENV{B} = 'build/fault' }
use lib 't/lib';
use Brood;
use Brood::Jobs;
use Brood::Torture;

my @settings = ('languages-dir' => '', 'jobs-concurrency' => 1);
my $old = Brood->start(@settings);
my $done = submit($old, 'echo done')->{executionId};
is(ended($old, $done)->{status}, 'completed', 'a job has ended');
my @same = (POST => '/execute', headers => {'Idempotency-Key' => 'under-way'}, body => {namespace_id => 'base', cmd => 'sleep 60'});
my $conn = $old->connect;
$conn->put(Brood::Conn->request(@same));
my @waiting = map { submit($old, "echo x >begun; until [ -e go ]; do sleep 0.01; done; echo $_", namespace_id => 'jobs')->{executionId} } 1 .. 3;
my $begun = $old->wait_file('begun', 20);
is(($old->request(@same) // {})->{status}, 409, 'a request is under way');
kill KILL => $old->pids('priv');
until_true(20, sub { $old->exited && !$old->processes }) or diag('somebody is left');
is(scalar(grep { defined } $done, @waiting), 4, 'four jobs were accepted');
spew("$old->{fs_root}.state/outputs/$waiting[0].txt", 'of an attempt that nobody knows'); # a crash behind its rename
spew("$old->{fs_root}.state/outputs/.new-7", 'half of it');
spew($begun =~ s/begun\z/go/r, '');
unlink glob "$old->{dir}/*.sock";

my $t = Brood::Torture->new(@settings, seconds => 0);

sub copy {
    my $dir = Brood::_temp_dir();
    system('cp', '-a', "$old->{dir}/.", $dir) == 0 or die 'cp';
    unlink "$dir/log";
    return $dir;
}

sub look {
    my $brood = $t->brood;
    my @end = map { ended($brood, $_) // {} } $done, @waiting;
    my @open = grep { ($_->{status} // 'unknown') ne 'completed' } @end;
    return 'jobs: ' . join ', ', map { $_->{status} // "$_->{http}" } @end if @open;
    my @out = map { output($brood, $_) // 'none' } $done, @waiting;
    return "outputs: @out" if join('', @out) ne "done\n1\n2\n3\n";
    my $r = $brood->request(@same) // {status => 0, body => ''};
    return "the request that was interrupted: $r->{status} $r->{body}" if $r->{status} != 409 || $r->{json}{error}{code} ne 'attempt_lost';
    return 'temporary files' if grep { -e } glob "$brood->{fs_root}.state/*/.new-*";
    return '';
}

$t->torture_life(start => 'frontend', dir => \&copy, after => \&look, only => qr/^store\/(?:faults|outputs|database)/, mostly => 0.5); # what comes behind its being ready may be too late
$t->finish;
