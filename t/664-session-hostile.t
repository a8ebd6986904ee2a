# SPDX-License-Identifier: Apache-2.0
# A session's bash keeps descriptors from 252 to 255: a /dev/null, its clock, the socket of its calls, and one to pid 1. A script
# can find, close, write to and replace them. It harms itself: its session ends with an answer, at the latest a second after its
# deadline, and the next call, other sessions and runs are as ever.
use lib 't/lib';
use Brood;
use Time::HiRes qw(time);

my $brood = Brood->start('runs-grace' => '300ms', 'sessions-per-namespace' => 8);

$brood->sh(alice => 'x=1', session => 'quiet');
my $r = $brood->sh(alice => "ls /proc/\$\$/fd | tr '\\n' ' '; cat /proc/\$\$/cmdline | tr '\\0' ' '; cat /proc/\$\$/comm", session => 'quiet');
is($r->{stdout}, "0 1 2 252 253 254 255 bash bash\n", 'what there is to be seen: four descriptors more');
is($brood->sh(alice => 'ls /proc/self/fd | wc -w', session => 'quiet')->{stdout}, "4\n", 'which no program gets');

my @attacks = (
    ['close it', 'exec 255>&-; echo said; (exit 3)', sub { $_[0]{exit_code} == 3 && $_[0]{stdout} eq "said\n" }],
    ['replace it by a file', 'exec 255>/tmp/f; echo said', sub { $_[0]{stdout} eq "said\n" && $_[0]{exit_code} == 0 }],
    ['write to it', 'echo rubbish >&255; sleep 60', sub { ($_[0]{signal} // '') eq 'KILL' }],
    ['write nothing to it', 'printf "" >&255; echo said', sub { 1 }],
    ['write a report that is too long', 'head -c 4096 /dev/zero >&255; sleep 60', sub { ($_[0]{signal} // '') eq 'KILL' }],
    ['write a report of another call', 'head -c 40 /dev/zero >&255; sleep 60', sub { ($_[0]{signal} // '') eq 'KILL' }],
    ['fill it', 'perl -e \'open F, ">&=255"; fcntl F, 2, 0; exec "bash", "-c", "while :; do echo >&255; done"\'; (while :; do echo x; done) >&255', sub { 1 }],
    ['take its calls away', '(while :; do read -u 254 x; done) & echo begun', sub { $_[0]{stdout} eq "begun\n" }],
    ['close the socket of its calls', 'exec 254>&-; echo said', sub { $_[0]{stdout} eq "said\n" }],
    ['write to the engine', 'for ((i = 0; i < 20000; i++)); do echo rubbish >&254; done 2>/dev/null', sub { 1 }],
    ['shut it down', 'perl -e \'1\'; exec 254<&-; exec 254<>/dev/null; echo said', sub { $_[0]{stdout} eq "said\n" }],
    ['stop its clock', 'exec 253>&-; echo said', sub { $_[0]{stdout} eq "said\n" }],
    ['stop its clock and stay', 'exec 253>&-; exec 253</dev/null; :', sub { $_[0]{exit_code} == 0 }],
    ['another stdin', 'exec 252</etc/passwd; echo said', sub { $_[0]{stdout} eq "said\n" }],
    ['it is stopped', 'kill -STOP $$', sub { $_[0]{reason} eq 'timeout' }],
    ['it is stopped from behind', '(sleep 0.1; kill -STOP $$) & echo said', sub { $_[0]{stdout} eq "said\n" }],
    ['read from it', '(while :; do read -u 255 x; done) & echo begun', sub { $_[0]{stdout} eq "begun\n" }],
    ['close the way to high numbers', 'ulimit -n 3; echo said', sub { $_[0]{stdout} eq "said\n" }],
    ['no memory', 'ulimit -v 1000; x=$(printf "%0100000d" 1); echo ${#x}', sub { 1 }],
    ['recursion', 'f() { f; }; f', sub { ($_[0]{signal} // '') eq 'SEGV' || $_[0]{session_ended} }],
    ['another program on it', 'exec perl -e \'open F, ">&=255" and print "there\n"; print "end\n"\'', sub { $_[0]{stdout} eq "end\n" && $_[0]{session_ended} }],
    ['a fork bomb', 'b() { b | b & b; }; b', sub { 1 }],
    ['set -n', 'set -n', sub { $_[0]{exit_code} == 0 }],
);
for (@attacks) {
    my ($what, $cmd, $fine) = @$_;
    my $begin = time;
    my $r = $brood->sh(alice => $cmd, session => 'loud', timeout => 3);
    is($r->{http}, 200, "$what: answered");
    ok($fine->($r), 'as it deserves') or diag(join ' ', map { "$_=" . ($r->{$_} // 'null') } sort keys %$r);
    cmp_ok(time - $begin, '<', 6, 'in time');
    is($brood->sh(alice => 'echo $x', session => 'quiet')->{stdout}, "1\n", 'another session does not notice');
    is($brood->sh(alice => 'echo run')->{stdout}, "run\n", 'nor does a run');
    my $second = $brood->sh(alice => 'cat; echo next', session => 'loud', timeout => 1);
    ok($second->{http} =~ /^[25]00$/ && $second->{stdout} =~ /^(?:next\n)?$/, 'a call of the session is answered') or diag(join ' ', map { "$_=" . ($second->{$_} // 'null') } sort keys %$second);
    $brood->request(DELETE => '/v1/namespaces/alice/sessions/loud');
    my $next = $brood->sh(alice => 'echo next', session => 'loud');
    is_deeply([$next->{stdout}, $next->{session_started} ? 1 : 0], ["next\n", 1], 'and begun anew');
    $brood->request(DELETE => '/v1/namespaces/alice/sessions/loud');
}

$r = $brood->sh(alice => 'echo fine', session => 'quiet');
is($r->{stdout}, "fine\n", 'the quiet session to the end');
ok(!$brood->exited, 'the service lives');
is(scalar(grep { ($_->{event} // '') eq 'engine_bug' } $brood->log_lines), 0, 'and saw nothing that cannot be');
$brood->stop;
done_testing;
