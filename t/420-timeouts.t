# SPDX-License-Identifier: Apache-2.0
# Deadlines: whatever a command does to outlive its time, it ends within deadline + grace, nothing of it
# stays in the namespace, and the next command there works. A client that goes away ends its run too.
use lib 't/lib';
use Brood;
use Time::HiRes qw(time);

use constant {TIMEOUT => 0.4, GRACE => 0.3, SLACK => 1};

my $brood = Brood->start('runs-grace' => '300ms');
my $strangers = 'for p in /proc/[0-9]*; do p=${p##*/}; [[ $p == 1 || $p == $$ ]] || echo "stranger $p $(tr "\0" " " < /proc/$p/cmdline)"; done; echo done';

# Does the namespace work, and is nobody but us in it?
sub is_clean {
    my ($ns, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $r = $brood->sh($ns => $strangers);
    is($r->{stdout}, "done\n", "$what: the next command works and finds no stranger");
}

my @at_deadline = (
    ['sleep 60' => 'sleep 60', 'TERM'],
    ['a busy loop' => 'while :; do :; done', 'TERM'],
    ['a busy program' => q{exec perl -e '1 while 1'}, 'TERM'],
    ["trap '' TERM" => q{trap '' TERM; while :; do sleep 60; done}, 'KILL'],
    ["trap '' TERM and children that ignore it" => q{trap '' TERM; sleep 60 & sleep 60 & wait; wait; sleep 60}, 'KILL'],
    ['setsid in the foreground' => 'setsid -w sleep 60', undef],
    ['a stopped process' => 'kill -STOP $$; sleep 60', undef],
    ['stopped children' => 'sleep 60 & kill -STOP $!; wait; sleep 60', undef],
    ['a pipeline' => 'yes | (trap "" PIPE; sleep 60)', undef],
    ['reading a fifo nobody writes' => 'mkfifo -m 600 f$$; cat f$$', undef],
    ['a command in a command substitution' => 'x=$(sleep 60); echo $x', undef],
);
for (@at_deadline) {
    my ($what, $cmd, $signal) = @$_;
    my $begin = time;
    my $r = $brood->sh(tough => "echo begin; $cmd", timeout => TIMEOUT);
    my $took = time - $begin;
    is($r->{http}, 200, "$what: answered");
    is($r->{reason}, 'timeout', "$what: reason timeout");
    is($r->{stdout}, "begin\n", "$what: what it wrote before is there");
    is($r->{exit_code}, undef, "$what: no exit code") if defined $signal;
    is($r->{signal}, $signal, "$what: by SIG$signal") if defined $signal;
    cmp_ok($took, '>=', TIMEOUT - 0.02, "$what: not before the deadline");
    cmp_ok($took, '<', TIMEOUT + GRACE + SLACK, "$what: within deadline + grace");
    is_clean(tough => $what);
}

# These end by themselves; what they leave behind is killed with them.
my @left_behind = (
    ['a background process' => 'sleep 60 &'],
    ['setsid in the background' => 'setsid sleep 60 & sleep 0.05'],
    ['nohup and disown' => 'nohup sleep 60 >/dev/null 2>&1 & disown; sleep 0.05'],
    ['a double fork' => q{(setsid bash -c '(trap "" HUP TERM; exec sleep 60) & ' & ) ; sleep 0.1}],
    ['a daemon in Perl' => q{perl -MPOSIX -e 'fork and exit; setsid; $SIG{TERM} = $SIG{HUP} = "IGNORE"; fork and exit; sleep 60'; sleep 0.1}],
    ['a process that holds stdout' => '(trap "" TERM HUP; sleep 60) & sleep 0.05'],
    ['a stopped process left' => 'sleep 60 & kill -STOP $!'],
    ['forty of them' => 'for i in {1..40}; do sleep 60 & done'],
);
for (@left_behind) {
    my ($what, $cmd) = @$_;
    my $begin = time;
    my $r = $brood->sh(left => "$cmd\necho end", timeout => 5);
    my $took = time - $begin;
    is_deeply([@$r{qw(reason exit_code stdout)}], ['exit', 0, "end\n"], "$what: a normal end");
    cmp_ok($took, '<', 2, "$what: not held up by it");
    is_clean(left => $what);
}

subtest 'a grace to tidy up' => sub {
    my $r = $brood->sh(tidy => 'trap "echo tidied; exit 7" TERM; while :; do sleep 0.05; done', timeout => 0.2);
    is($r->{reason}, 'timeout', 'reason timeout');
    is($r->{stdout}, "tidied\n", 'a TERM trap runs');
    is($r->{exit_code}, 7, 'and its exit code is given');
    is_clean(tidy => 'after it');
};

subtest 'fractions' => sub {
    for my $timeout (0.05, 0.25) {
        my $begin = time;
        my $r = $brood->sh(fraction => 'sleep 60', timeout => $timeout);
        my $took = time - $begin;
        is($r->{reason}, 'timeout', "timeout $timeout");
        cmp_ok($took, '<', $timeout + SLACK, sprintf '%.3f s', $took);
        cmp_ok($r->{wall_ms}, '>=', $timeout * 1000 - 1, 'the fact agrees');
    }
    is($brood->sh(fraction => 'sleep 0.1; echo in time', timeout => 1.5)->{stdout}, "in time\n", 'in time');
};

subtest 'time in the queue does not count' => sub {
    my $first = $brood->post(queue => 'touch queue-started; sleep 0.8');
    $brood->wait_file('queue-started');
    my $r = $brood->sh(queue => 'sleep 0.1; echo done', timeout => 0.5);
    is($r->{stdout}, "done\n", 'a run that waited longer than its timeout');
    cmp_ok($r->{queue_ms}, '>', 500, 'did wait');
    is($brood->result($first)->{reason}, 'exit', 'for the other');
};

subtest 'the client goes away' => sub {
    my $conn = $brood->post(gone => 'touch gone-started; sleep 60');
    $brood->wait_file('gone-started');
    my $begin = time;
    $conn->close;
    is($brood->sh(gone => 'echo next', timeout => 5)->{stdout}, "next\n", 'the next command of the namespace runs');
    cmp_ok(time - $begin, '<', 1, 'within a second');
    is_clean(gone => 'after it');

    $conn = $brood->post(gone => q{trap '' TERM; touch gone-stubborn; while :; do :; done});
    $brood->wait_file('gone-stubborn');
    $begin = time;
    $conn->close;
    is($brood->sh(gone => 'echo next', timeout => 5)->{stdout}, "next\n", 'one that ignores TERM');
    cmp_ok(time - $begin, '<', 1.3, 'is gone as soon');
    is_clean(gone => 'after it');

    my $first = $brood->post(gone => 'touch gone-first; sleep 0.7');
    $brood->wait_file('gone-first');
    my $waiting = $brood->post(gone => 'touch gone-never');
    my $after = $brood->post(gone => 'echo after');
    ok(!$after->readable(0.2), 'two are waiting');
    $waiting->close;
    is($brood->result($first)->{reason}, 'exit', 'the running one is not disturbed');
    is($brood->result($after)->{stdout}, "after\n", 'the last one runs');
    is($brood->find('gone-never'), undef, 'the one whose client left while waiting never ran');
};

subtest 'cancelled while it writes' => sub {
    my $conn = $brood->post(writer => 'touch writer-started; yes');
    $brood->wait_file('writer-started');
    my $begin = time;
    $conn->close;
    is($brood->sh(writer => 'echo next', timeout => 5)->{stdout}, "next\n", 'the next command runs');
    cmp_ok(time - $begin, '<', 1, 'within a second');
};

$brood->stop;
done_testing;
