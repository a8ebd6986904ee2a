# SPDX-License-Identifier: Apache-2.0
# A session beside the runs of its namespace: the same files, /tmp, /dev/shm and loopback; a run does not kill what a session
# has in the background, and neither waits for the other. Output of the background goes nowhere once its call is over.
use lib 't/lib';
use Brood;
use Time::HiRes qw(time);

my $brood = Brood->start;
my @s = (session => 's');

subtest 'the same files' => sub {
    $brood->sh(alice => 'echo run >/work/f; echo run >/tmp/f; echo run >/dev/shm/f');
    is($brood->sh(alice => 'cat /work/f /tmp/f /dev/shm/f; for f in /work/f /tmp/f /dev/shm/f; do echo session >>$f; done; id -u; hostname', @s)->{stdout},
        "run\nrun\nrun\n1000\nalice\n", 'a session sees those of a run');
    is($brood->sh(alice => 'cat /work/f /tmp/f /dev/shm/f; stat -c %u /work/f')->{stdout}, "run\nsession\n" x 3 . "1000\n", 'and the other way');
};

subtest 'one loopback' => sub {
    my $server = q{perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(Listen => 5, LocalAddr => "127.0.0.1:7777", ReuseAddr => 1) or die; }
      . q{open F, ">/tmp/up"; close F; while ($c = $s->accept) { $l = <$c>; print $c "served $l"; close $c }' >/dev/null 2>&1 & echo $!};
    my $pid = $brood->sh(alice => $server, @s)->{stdout} + 0;
    cmp_ok($pid, '>', 1, 'a server in the background');
    is($brood->sh(alice => 'until [ -e /tmp/up ]; do sleep 0.01; done; echo up')->{stdout}, "up\n", 'is up');
    my $client = 'exec 3<>/dev/tcp/127.0.0.1/7777; echo hello >&3; cat <&3';
    is($brood->sh(alice => $client)->{stdout}, "served hello\n", "answers run $_") for 1 .. 3;
    is($brood->sh(alice => $client, session => 'other')->{stdout}, "served hello\n", 'and another session');
    is($brood->sh(alice => "$client 2>&1; echo \$?", @s)->{stdout}, "served hello\n0\n", 'and its own');
    isnt($brood->sh(bob => "$client")->{exit_code}, 0, 'not another namespace');
    is($brood->sh(alice => "kill -0 $pid && echo alive", @s)->{stdout}, "alive\n", 'runs have not ended it');
    is($brood->sh(alice => "kill $pid 2>&1 | grep -c .; ps -e | grep -c perl")->{stdout}, "1\n0\n", 'nor can they see or kill it');
    is($brood->sh(alice => "kill $pid; wait; echo \$?", @s)->{stdout}, "0\n", 'its session can');
};

subtest 'neither waits for the other' => sub {
    my $conn = $brood->post(alice => 'touch /tmp/on; until [ -e /tmp/go ]; do sleep 0.01; done; echo done', @s);
    is($brood->sh(alice => 'until [ -e /tmp/on ]; do sleep 0.01; done; echo ran')->{stdout}, "ran\n", 'a run beside a call');
    is($brood->sh(alice => 'echo other', session => 'other')->{stdout}, "other\n", 'another session beside it');
    $brood->sh(alice => 'touch /tmp/go');
    is($brood->result($conn)->{stdout}, "done\n", 'the call');
    $brood->sh(alice => 'kill -9 -1; kill -9 $$'); # all that it can
    is($brood->sh(alice => 'echo still', @s)->{session_started} ? 1 : 0, 0, 'which is no session');
};

subtest 'background' => sub {
    my $begin = time;
    my $r = $brood->sh(alice => '(trap "" PIPE; until [ -e /work/over ]; do sleep 0.01; done; echo late; echo $? >/work/status; echo late >&2) & echo now', @s);
    is($r->{stdout}, "now\n", 'a call does not wait for it');
    cmp_ok(time - $begin, '<', 1, 'at all');
    is($brood->sh(alice => 'touch over; wait; cat status', @s)->{stdout}, "1\n", 'its output is an error for it');
    $r = $brood->sh(alice => 'yes & sleep 0.05; echo end', @s);
    like($r->{stdout}, qr/^(?:y\n)+/, 'until then it is seen');
    is($brood->sh(alice => 'wait $!; echo $?', @s)->{stdout}, "141\n", 'SIGPIPE is what ends it');
    $r = $brood->sh(alice => 'sleep 60 & exit 3', @s);
    is_deeply([$r->{exit_code}, $r->{session_ended} ? 1 : 0], [3, 1], 'the end of the session');
    is($brood->sh(alice => 'ps -e | grep -c sleep', @s)->{stdout}, "0\n", 'is the end of its background');
    $r = $brood->sh(alice => 'trap "echo bye; sleep 0.1; echo really" EXIT; exit 4', @s);
    is_deeply([@$r{qw(stdout exit_code)}], ["bye\nreally\n", 4], 'a trap for EXIT belongs to the call that ended it');
    $r = $brood->sh(alice => 'trap "echo bye" EXIT; (sleep 0.2; kill $$) & echo begun', session => 'dying');
    is($r->{stdout}, "begun\n", 'a session that is killed between two calls');
    ok(until_true(10, sub { !grep { $_->{name} eq 'dying' } @{$brood->request(GET => '/v1/namespaces/alice/sessions')->{json}{sessions}} }), 'is gone');
    ok($brood->sh(alice => 'true', session => 'dying')->{session_started}, 'and begins anew');
};

subtest 'the end of its namespace' => sub {
    $brood->sh(bob => 'echo x >f', session => 'b');
    my $res = $brood->request(DELETE => '/v1/namespaces/bob');
    if ($res->{status} == 409) {
        is($brood->request(DELETE => '/v1/namespaces/bob/sessions/b')->{status}, 200, 'closed first');
        $res = $brood->request(DELETE => '/v1/namespaces/bob');
    }
    is($res->{status}, 200, 'removed');
    my $r = $brood->sh(bob => 'ls; echo on', session => 'b');
    is_deeply([$r->{stdout}, $r->{session_started} ? 1 : 0], ["on\n", 1], 'its session is another');
};

$brood->stop;
done_testing;
