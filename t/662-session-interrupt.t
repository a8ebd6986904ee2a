# SPDX-License-Identifier: Apache-2.0
# A call that takes too long is interrupted and its session goes on; one that does not heed that is killed with its session.
# Which of the two, the answer says. A client that leaves interrupts, too.
use lib 't/lib';
use Brood;
use Time::HiRes qw(time);

my $brood = Brood->start('runs-grace' => '700ms', 'sessions-per-namespace' => 8);

sub facts {
    my ($r) = @_;
    return join ' ', $r->{reason} // 'none', $r->{exit_code} // 'null', $r->{signal} // '-', ($r->{session_interrupted} ? 'interrupted' : ()), ($r->{session_ended} ? 'ended' : ());
}

subtest 'SIGINT is enough' => sub {
    my @s = (session => 's');
    $brood->sh(alice => 'x=kept; f() { sleep 60; }; mkfifo p', @s);
    for my $cmd ('sleep 60', 'echo a; sleep 60; echo never', 'while :; do :; done', 'f; echo never', 'for i in 1 2 3; do sleep 60; done',
        '(sleep 60); echo never', 'sleep 60 | cat; echo never', 'x2=$(sleep 60); echo never', 'sleep 60 & wait; echo never', 'read l <p', 'cat p; echo never',
        'echo x | while read a; do sleep 60; done; echo never', 'trap "echo e" ERR; sleep 60', 'eval "sleep 60"; echo never', 'sleep 60 > >(cat); echo never',
        '{ sleep 60; } >out; echo never', 'coproc sleep 60; wait', 'kill -STOP $$; echo never', 'trap "echo bye" EXIT; sleep 60', 'time sleep 60', 'bash -c "sleep 60"; echo never',
        'printf "%s\n" {1..3}; until false; do false; done', 'local_() { local y=1; while :; do y=2; done; }; local_', 'A=1 f', 'source <(echo "sleep 60")') {
        my $begin = time;
        my $r = $brood->sh(alice => $cmd, @s, timeout => 0.15);
        my $took = time - $begin;
        is(facts($r), 'timeout 130 - interrupted', $cmd);
        unlike($r->{stdout}, qr/never/, 'nothing of it follows');
        cmp_ok($took, '<', 0.7, sprintf 'in %.2f s', $took);
        $r = $brood->sh(alice => 'echo "$? $x [${y-}] $(pwd) $-"; echo e >&2; trap - EXIT ERR', @s);
        is($r->{stdout} . $r->{stderr}, "130 kept [] /work hB\ne\n", 'the session goes on') or last;
    }
    is($brood->sh(alice => 'echo ok', @s)->{session_started} ? 1 : 0, 0, 'it was one all the time');
};

subtest 'each call has its own deadline' => sub {
    my @s = (session => 'd');
    is($brood->sh(alice => 'echo a', @s, timeout => 0.1)->{stdout}, "a\n", 'a short one, not used up');
    is(facts($brood->sh(alice => 'sleep 0.4; echo b', @s)), 'exit 0 -', 'is not that of the next');
    is(facts($brood->sh(alice => 'sleep 60', @s, timeout => 0.2)), 'timeout 130 - interrupted', 'nor is a long one');
    is(facts($brood->sh(alice => 'sleep 0.3', @s, timeout => 0.6)), 'exit 0 -', 'again');
    is(facts($brood->sh(alice => 'sleep 60', @s, timeout => 0.8)), 'timeout 130 - interrupted', 'and again');
};

subtest 'what a script makes of it' => sub {
    my @s = (session => 't');
    my $r = $brood->sh(alice => 'trap "echo trapped" INT; sleep 60; echo after', @s, timeout => 0.2);
    is(facts($r), 'timeout 0 - interrupted', 'a trap');
    is($r->{stdout}, "trapped\nafter\n", 'goes on behind it, as in a script');
    $brood->sh(alice => 'trap - INT', @s);
    $r = $brood->sh(alice => 'sleep 60', @s, timeout => 0.2);
    is(facts($r), 'timeout 130 - interrupted', 'reset');
    $r = $brood->sh(alice => 'kill -INT $$; echo never', @s);
    is(facts($r), 'exit 130 - interrupted', 'its own SIGINT drops the call as well');
    $r = $brood->sh(alice => 'sleep 30 & p=$!; sleep 60', @s, timeout => 0.2);
    is($brood->sh(alice => 'kill -0 $p && echo alive; kill $p', @s)->{stdout}, "alive\n", 'what is in the background stays');
};

subtest 'SIGINT is not enough' => sub {
    for my $cmd ('trap "" INT; while :; do :; done', 'bash -c \'trap "" INT; while :; do sleep 1; done\'', 'set -m; sleep 60', 'perl -e \'$SIG{INT} = "IGNORE"; sleep 60\'') {
        $brood->sh(alice => 'x=1; sleep 60 >/dev/null 2>&1 &', session => 'u');
        my $begin = time;
        my $r = $brood->sh(alice => $cmd, session => 'u', timeout => 0.2);
        my $took = time - $begin;
        like(facts($r), qr/^timeout (?:null KILL ended|130 - interrupted)$/, $cmd);
        cmp_ok($took, '<', 2, sprintf 'in %.2f s', $took);
        next unless $r->{session_ended};
        cmp_ok($took, '>', 0.8, 'after the grace');
        $r = $brood->sh(alice => 'echo "[$x]"; ps -e | grep -c sleep', session => 'u');
        ok($r->{session_started} && $r->{stdout} eq "[]\n0\n", 'the next one is new, and nothing of the old is left');
    }
    my $r = $brood->sh(alice => 'exec sleep 60', session => 'u', timeout => 0.2);
    is(facts($r), 'timeout null INT ended', 'another program in its place dies of it');
    ok($brood->sh(alice => 'true', session => 'u')->{session_started}, 'and the session with it');
};

subtest 'a client that leaves' => sub {
    my @s = (session => 'v');
    $brood->sh(alice => 'x=1', @s);
    my $conn = $brood->post(alice => 'touch there; sleep 60; touch never', @s);
    ok($brood->wait_file('there'), 'its call is on');
    undef $conn;
    my $r = $brood->sh(alice => 'echo $x; ls never', @s, timeout => 10);
    is($r->{stdout}, "1\n", 'the call is dropped, the session is there');
    $conn = $brood->post(alice => 'trap "" INT; touch there2; while :; do :; done', @s);
    ok($brood->wait_file('there2'), 'one that ignores SIGINT');
    undef $conn;
    $r = $brood->sh(alice => 'echo "[$x]"', @s, timeout => 10);
    is_deeply([$r->{stdout}, $r->{session_started} ? 1 : 0], ["[]\n", 1], 'is ended with its session');
};

subtest 'processor time' => sub {
    my $r = $brood->sh(alice => 'x=1; while :; do :; done', session => 'w', limits => {cpu_ms => 200}, timeout => 20);
    is($r->{reason}, 'cpu_limit', 'a call has used up its own');
    is($brood->sh(alice => 'echo $x', session => 'w', limits => {cpu_ms => 200})->{stdout}, "1\n", 'the next one has its own');
};

$brood->stop;
done_testing;
