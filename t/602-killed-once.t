# SPDX-License-Identifier: Apache-2.0
# kill -9 around a request with an Idempotency-Key: of the frontend at each call by which the store writes it down or keeps
# its answer (strace delivers the signal), while it runs, and of the engine. Nothing is done twice; what was answered is
# answered again; what nobody can know is said to be so.
use lib 't/lib';
use Brood;
use POSIX ();

require_layer('root', 'strace');
my $brood = Brood->start('namespaces-idle-s' => 600);

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
    my ($old, $what) = @_;
    ok(until_true(20, sub { my ($new) = $brood->pids('frontend'); $new && $new != $old }) && $brood->wait_ready(20), "$what: it is started again");
}

sub bytes_of {
    my ($n, $cmd) = @_;
    return Brood::Conn->request(POST => '/execute', body => {namespace_id => 'a', cmd => $cmd // "echo x >>done-$n; echo $n"}, headers => {'Idempotency-Key' => "key-$n"});
}

# Sends it on a connection of its own until it is neither refused nor broken.
sub answer_of {
    my ($n, $cmd) = @_;
    my $res;
    until_true(20, sub {
        my $conn = $brood->connect or return;
        $conn->put(bytes_of($n, $cmd));
        $res = $conn->get(20) or return;
        return $res->{status} == 200 || ($res->{status} == 409 && $res->{json}{error}{code} ne 'in_progress');
    });
    return $res // {status => 0, headers => {}};
}
sub times_done { my $r = $brood->sh(a => "cat done-$_[0] 2>/dev/null | wc -l"); return $r->{stdout} + 0 }

my (%ends, $n);
$brood->sh(a => 'true');
my @steps = ((map { ['pwrite64', $_] } 1 .. 14), ['fdatasync', 1], ['fdatasync', 2], ['write', 1], ['write', 2]);
for (@steps) {
    my ($call, $nth) = @$_;
    my $what = "killed at $call $nth";
    my $pid = grown_up();
    my ($thread) = grep { $_ != $pid } map { m{(\d+)\z} } glob "/proc/$pid/task/*";
    my $log = "$brood->{dir}/strace-$call-$nth";
    $n++;
    $brood->sh(a => 'true');
    defined(my $tracer = fork) or die;
    if (!$tracer) {
        open STDERR, '>', "$log.err";
        exec 'strace', '-o', $log, '-p', $thread, '-e', "trace=$call,futex", '-e', "inject=$call:signal=KILL:when=$nth" or POSIX::_exit(9);
    }
    # What the store writes meanwhile - sums of usage - may be what it is killed at.
    until_true(10, sub { (slurp("/proc/$thread/status") // 'TracerPid: 1') =~ /^TracerPid:\s+[1-9]/m }) or fail("$what: strace attaches");
    my $conn = $brood->connect;
    my $first = $conn && $conn->put(bytes_of($n)) && $conn->get(20);
    if ($first) { # there are fewer such calls
        is($first->{status}, 200, "$what: never reached");
        kill TERM => $tracer;
        waitpid $tracer, 0;
        next;
    }
    waitpid $tracer, 0;
    is_back($pid, $what);
    my $done = times_done($n);
    my $res = answer_of($n);
    my $then = times_done($n);
    my $kind = $res->{status} == 200 ? ($res->{headers}{'idempotency-replayed'} ? 'kept' : 'anew') : $res->{json}{error}{code} // 'none';
    $ends{$kind}++;
    my $good = $kind eq 'anew' ? $done == 0 && $then == 1 : $kind eq 'kept' ? $done == 1 && $then == 1 : $kind eq 'attempt_lost' && $done <= 1 && $then == $done;
    ok($good, "$what: done $done times, then answered: $kind");
    is(answer_of($n)->{status}, $res->{status}, "$what: and the same from then on");
    is(times_done($n), $then, "$what: without being done again");
}
ok($ends{attempt_lost} && $ends{kept} && $ends{anew}, join ', ', map { "$_: $ends{$_}" } sort keys %ends);

for my $who (qw(frontend engine)) {
    my $cmd = "echo x >>done-$who; touch began-$who; sleep 30";
    my ($pid) = grown_up();
    my ($victim) = $brood->pids($who);
    my $conn = $brood->connect;
    $conn->put(bytes_of($who, $cmd));
    ok($brood->wait_file("began-$who"), 'one runs');
    kill KILL => $victim;
    is($conn->get(20), undef, "$who killed: no answer") if $who eq 'frontend';
    if ($who eq 'engine') {
        ok($brood->wait_exit(20), 'the service ends');
        $brood->restart;
    } else {
        is_back($pid, "$who killed while it runs");
    }
    my $res = answer_of($who, $cmd);
    is_deeply([$res->{status}, $res->{json}{error}{code}], [409, 'attempt_lost'], "$who killed: nobody knows what became of it");
    is(times_done($who), 1, 'it is not done again');
}

# Many, killed at any time; each is sent again until somebody says what became of it.
{
    my (%said, $twice);
    for my $round (1 .. 6) {
        my $pid = grown_up();
        my @conns = map { $brood->connect } 1 .. 6;
        $conns[$_]->put(bytes_of("r$round-$_")) for 0 .. $#conns;
        select undef, undef, undef, 0.004 * $round;
        kill KILL => $pid;
        my @answered = map { ($_->get(20) // {status => 0})->{status} == 200 ? 1 : 0 } @conns;
        until_true(20, sub { my ($new) = $brood->pids('frontend'); $new && $new != $pid }) && $brood->wait_ready(20) or fail('started again');
        for my $i (0 .. $#conns) {
            my $res = answer_of("r$round-$i");
            my $times = times_done("r$round-$i");
            $said{$res->{status} == 200 ? $res->{headers}{'idempotency-replayed'} ? 'kept' : 'anew' : $res->{json}{error}{code} // 'none'}++;
            $twice++ if $times > 1 || ($res->{status} == 200 && $times != 1) || ($answered[$i] && !$res->{headers}{'idempotency-replayed'});
        }
    }
    is($twice, undef, 'none was done twice, none that was answered has another answer: ' . join ', ', map { "$_ $said{$_}" } sort keys %said);
}
$brood->stop;
done_testing;
