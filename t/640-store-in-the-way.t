# SPDX-License-Identifier: Apache-2.0
# Stored runs whose store is slow, or full, at the wrong moment (strace holds up or fails a call of the store's thread): what
# cannot be promised is refused and never left hanging, no id is told before it can be found.
use lib 't/lib';
use Brood;
use Brood::Events;
use POSIX ();

require_layer('root', 'strace');
my $brood = Brood->start('languages-dir' => '');

# Of the frontend: its pid, once it has lived so long that its death is none in a crash loop (supervisor/engine.c), and the store's thread.
sub grown_up {
    my ($pid) = $brood->pids('frontend');
    until_true(10, sub {
        my ($began) = ((slurp("/proc/$pid/stat") // '') =~ /\) (.*)/)[0] =~ /^(?:\S+ ){19}(\d+)/;
        my ($up) = slurp('/proc/uptime') =~ /^(\S+)/;
        return $up - $began / POSIX::sysconf(&POSIX::_SC_CLK_TCK) > 1.2;
    }) or fail('the frontend grows old');
    return ($pid, grep { $_ != $pid } map { m{(\d+)\z} } glob "/proc/$pid/task/*");
}
my $log = "$brood->{dir}/strace";
sub trace { # the pid of strace, once it is there
    my ($thread, $call, $inject) = @_;
    unlink $log;
    defined(my $tracer = fork) or die;
    if (!$tracer) {
        open STDERR, '>', "$log.err";
        exec 'strace', '-o', $log, '-p', $thread, '-e', "trace=$call,futex", '-e', "inject=$call:$inject" or POSIX::_exit(9);
    }
    until_true(10, sub { (slurp("/proc/$thread/status") // 'TracerPid: 1') =~ /^TracerPid:\s+[1-9]/m }) or fail("strace attaches: $inject");
    return $tracer;
}
sub untrace { kill TERM => $_[0]; waitpid $_[0], 0 }

# The run has ended when its note fails; its end could be stored. Which write is the note's, and which its name's, differs.
subtest 'no room for the note' => sub {
    my %ends;
    for my $nth (1 .. 14) {
        my ($pid, $thread) = grown_up();
        my $tracer = trace($thread, 'pwrite64', "error=ENOSPC:delay_enter=300000:when=$nth");
        my $send = sub { return $brood->request(POST => '/v1/runs', body => {cmd => 'true', namespace_id => 'a', detach => \1}, headers => {'Idempotency-Key' => "n$nth"}, timeout => 30) };
        my $first = $send->();
        untrace($tracer);
        my $again;
        until_true(10, sub { $again = $send->(); ($again->{json}{code} // '') ne 'in_progress' });
        my ($a, $b) = map { $_->{status} . ($_->{json}{code} // '') } $first, $again;
        $ends{"$a, $b"}++;
        ok($a =~ /^(?:202|503storage)$/ && $b =~ /^(?:202|409attempt_lost)$/, "write $nth fails: $a, and then $b") or diag explain $first, $again;
        is($again->{json}{id}, $first->{json}{id}, 'the same run') if $a eq '202';
    }
    note explain \%ends;
    ok($ends{'503storage, 409attempt_lost'}, 'that of a note did fail');
};

subtest 'killed before the note is there' => sub {
    my ($pid, $thread) = grown_up();
    my $tracer = trace($thread, 'pwrite64', 'delay_enter=20000000:when=1');
    my $s = Brood::Events->open($brood, POST => '/v1/runs', body => {cmd => 'true', namespace_id => 'a', detach => \1}, later => 1);
    my $told = $s->head(2) && $s->next(2); # the run has long ended
    kill KILL => $pid;
    untrace($tracer);
    delete $brood->{conn};
    until_true(20, sub { my ($new) = $brood->pids('frontend'); $new && $new != $pid }) && $brood->wait_ready(20) or fail('it comes back');
    is($told && $brood->request(GET => "/v1/runs/$told->{data}{id}")->{status}, $told && 200, 'no id was told, or it is found');
};

subtest 'and told when it is' => sub {
    my ($pid, $thread) = grown_up();
    my $tracer = trace($thread, 'pwrite64', 'delay_enter=1500000:when=1');
    my $s = Brood::Events->open($brood, POST => '/v1/runs', body => {cmd => 'echo out', namespace_id => 'a', detach => \1});
    my @events = $s->rest(20);
    untrace($tracer);
    is_deeply([map { $_->{event} } @events], [qw(started stdout result)], 'all of a run that ended while it was noted') or diag explain \@events;
};
$brood->stop;
done_testing;
