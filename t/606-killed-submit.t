# SPDX-License-Identifier: Apache-2.0
# kill -9 of the frontend around a POST /submit with an Idempotency-Key, at each call by which the store writes (strace
# delivers the signal) and at any time: who sends the same again has a job, the same one from then on, and there is never a
# second one. Nobody is told that an attempt was lost: the job and the answer to it are stored as one.
use lib 't/lib';
use Brood;
use Brood::Jobs;
use POSIX ();

require_layer('root', 'strace', 'sqlite3');
my $brood = Brood->start('languages-dir' => '', 'jobs-attempts-max' => 10);

# The frontend's pid, once it has lived so long that its death is none in a crash loop (supervisor/engine.c).
sub grown_up {
    my ($pid) = $brood->pids('frontend');
    until_true(10, sub {
        my ($began) = ((slurp("/proc/$pid/stat") // '') =~ /\) (.*)/)[0] =~ /^(?:\S+ ){19}(\d+)/;
        my ($up) = slurp('/proc/uptime') =~ /^(\S+)/;
        return $up - $began / POSIX::sysconf(&POSIX::_SC_CLK_TCK) > 1.2;
    }) or fail('the frontend grows old');
    return $pid;
}

sub is_back {
    my ($old) = @_;
    return until_true(20, sub { my ($new) = $brood->pids('frontend'); $new && $new != $old }) && $brood->wait_ready(20);
}

sub bytes_of {
    my ($n) = @_;
    return Brood::Conn->request(POST => '/submit', body => {userId => "user-$n", language => 'bash', code => "echo $n"}, headers => {'Idempotency-Key' => "key-$n"});
}

# Sends it on a connection of its own until it has an answer that is none of the moment.
sub answer_of {
    my ($n) = @_;
    my $res;
    until_true(20, sub {
        my $conn = $brood->connect or return;
        $conn->put(bytes_of($n));
        $res = $conn->get(20) or return;
        return $res->{status} != 503 && !($res->{status} == 409 && $res->{json}{error}{code} eq 'in_progress');
    });
    return $res // {status => 0, headers => {}, json => {}};
}

my (%ends, %id_of, $n);
my @steps = ((map { ['pwrite64', $_] } 1 .. 14), ['fdatasync', 1], ['fdatasync', 2], ['write', 1], ['write', 2]);
for (@steps) {
    my ($call, $nth) = @$_;
    my $what = "killed at $call $nth";
    my $pid = grown_up();
    my ($thread) = grep { $_ != $pid } map { m{(\d+)\z} } glob "/proc/$pid/task/*";
    my $log = "$brood->{dir}/strace-$call-$nth";
    $n++;
    defined(my $tracer = fork) or die;
    if (!$tracer) {
        open STDERR, '>', "$log.err";
        exec 'strace', '-o', $log, '-p', $thread, '-e', "trace=$call,futex", '-e', "inject=$call:signal=KILL:when=$nth" or POSIX::_exit(9);
    }
    until_true(10, sub { (slurp("/proc/$thread/status") // 'TracerPid: 1') =~ /^TracerPid:\s+[1-9]/m }) or fail("$what: strace attaches");
    my $conn = $brood->connect;
    my $first = $conn && $conn->put(bytes_of($n)) && $conn->get(20);
    if ($first) { # there are fewer such calls, or the answer was out before this one
        is($first->{status}, 202, "$what: not reached in time");
        $id_of{$n} = $first->{json}{executionId};
        kill TERM => $tracer;
    }
    waitpid $tracer, 0;
    is_back($pid) or fail("$what: it is started again") if !$first || !kill 0 => $pid;
    my $res = answer_of($n);
    $ends{$first ? 'answered' : $res->{headers}{'idempotency-replayed'} ? 'kept' : 'anew'}++;
    is($res->{status}, 202, "$what: the same again is accepted") or diag explain $res->{json};
    is($res->{json}{executionId}, $id_of{$n} // $res->{json}{executionId}, "$what: as the first time");
    $id_of{$n} = $res->{json}{executionId};
}
ok($ends{kept} && $ends{anew}, join ', ', map { "$_: $ends{$_}" } sort keys %ends);

# Many, killed at any time; each is sent again.
for my $round (1 .. 8) {
    my $pid = grown_up();
    my @conns = map { $brood->connect } 1 .. 8;
    $conns[$_]->put(bytes_of("r$round-$_")) for 0 .. $#conns;
    select undef, undef, undef, 0.001 * $round;
    kill KILL => $pid;
    for my $i (0 .. $#conns) {
        my $first = $conns[$i]->get(20) or next;
        $id_of{"r$round-$i"} = $first->{json}{executionId} if $first->{status} == 202;
    }
    is_back($pid) or fail('started again');
    my @wrong;
    for my $i (0 .. $#conns) {
        my $res = answer_of("r$round-$i");
        my $id = $res->{json}{executionId} // 'none';
        push @wrong, "$i: $res->{status} $id" if $res->{status} != 202 || $id ne ($id_of{"r$round-$i"} // $id);
        $id_of{"r$round-$i"} = $id;
    }
    is_deeply(\@wrong, [], "round $round: each has its job");
}
my @bad = grep { my $s = ended($brood, $id_of{$_}); ($s->{status} // '') ne 'completed' || $s->{stdoutPreview} ne "$_\n" } keys %id_of;
is_deeply(\@bad, [], keys(%id_of) . ' jobs, each its own, have run');
is(answer_of($_)->{json}{executionId}, $id_of{$_}, "and $_ is still answered so") for 1, 'r8-0';
$brood->stop;
is(`sqlite3 $brood->{fs_root}.state/store.db 'select count(*) from jobs'`, keys(%id_of) . "\n", 'there is no second job of any key');
done_testing;
