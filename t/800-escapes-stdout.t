# SPDX-License-Identifier: Apache-2.0
# The attacker abuses its pipes: opens them again for reading, keeps them, makes them huge or blocking, sends
# descriptors, floods - to hang the frontend, to read back, or to write into the next run's output.
use lib 't/lib';
use Brood;
use Brood::Attack;
use Time::HiRes qw(time);

my $brood = Brood->start;
my $begin = time;
my $r = $brood->sh(mallory => 'exec perl -', stdin => <<'PERL', timeout => 10);
use Fcntl;
sysopen my $in, '/proc/self/fd/1', O_RDONLY | O_NONBLOCK or print STDERR "no read end\n";
sysopen my $rw, '/proc/self/fd/1', O_RDWR or print STDERR "no rw end\n";
syswrite STDOUT, "first\n";
if ($in && sysread $in, my $text, 100) { print STDERR "read back: $text" }
fcntl STDOUT, F_SETFL, O_NONBLOCK;
fcntl STDOUT, 1031, 4096;
syswrite STDOUT, "second\n";
PERL
is($r->{http}, 200, 'a run that opens its own pipe in both directions: answered');
like($r->{stdout}, qr/second\n\z/, 'with what was written');
cmp_ok(time - $begin, '<', 3, 'at once');
# Taking bytes out of its own stdout harms the run alone: its own answer.
is($brood->sh(mallory => 'echo next')->{stdout}, "next\n", 'the next run has a pipe of its own');
for (['held open by a child that is deaf' => '(trap "" TERM HUP; sleep 60) & echo out'], ['opened again and again' => 'for i in {1..300}; do exec {f}>/proc/self/fd/1; done; echo out'],
    ['as a read end in the background' => 'sleep 60 < /proc/self/fd/1 & echo out >&2; sleep 0.05'], ['with a lock on it' => 'flock -x 1 true; echo out; (flock -x 1 sleep 60) & sleep 0.05']) {
    my ($what, $cmd) = @$_;
    $begin = time;
    $r = $brood->sh(mallory => $cmd, timeout => 8);
    is($r->{http}, 200, "$what: answered");
    like($r->{stdout} . $r->{stderr}, qr/out\n/, 'with its output');
    cmp_ok(time - $begin, '<', 4, 'in time');
}
# Closed while the run goes on: the end of the output is not the end of the run, nor the other way round.
for (['both closed' => 'exec >&- 2>&-; sleep 0.2; touch closed-and-on', '', 0], ['one closed' => 'echo a; exec >&-; sleep 0.05; echo b >&2; exit 5', "a\n", 5], ['all three' => 'exec <&- >&- 2>&-; exit 4', '', 4],
    ['closed by a child' => "perl -e 'close STDOUT; close STDERR; exit 0'; echo still", "still\n", 0], ['put upon each other' => 'exec 3>&1 1>&2 2>&3 3>&-; echo to-stderr; echo to-stdout >&2', "to-stdout\n", 0]) {
    my ($what, $cmd, $out, $code) = @$_;
    $r = $brood->sh(mallory => $cmd, timeout => 8);
    is_deeply([@$r{qw(http reason exit_code stdout)}], [200, 'exit', $code, $out], "$what: answered as it was");
}
is($brood->sh(mallory => 'ls closed-and-on')->{stdout}, "closed-and-on\n", 'who closed its output ran on to its end');
# A descriptor of the pipe sent away in a socket that nobody reads any more.
$r = $brood->sh(mallory => q{exec python3 -c '
import socket, array, os
a, b = socket.socketpair(); c, d = socket.socketpair()
a.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [1, 2, c.fileno(), b.fileno()]))])
d.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [a.fileno(), 1]))])
print("sent", flush=True); os._exit(0)'}, timeout => 8);
is_deeply([@$r{qw(http stdout)}], [200, "sent\n"], 'a pipe in flight in a ring of sockets: the answer comes');
# Bytes in packets, splices and tees; an output that ends in the middle of everything.
$r = $brood->sh(mallory => q{head -c 70000 /dev/zero | tr '\0' a | tee /dev/stderr | cat; kill -9 $$}, timeout => 8);
is_deeply([length $r->{stdout}, length $r->{stderr}, $r->{signal}], [70000, 70000, 'KILL'], 'killed at the end: nothing is lost');
$r = $brood->sh(mallory => q{perl -e 'use Fcntl; fcntl STDOUT, F_SETFL, 040000; syswrite STDOUT, "p$_\n" for 1 .. 50'}); # O_DIRECT: packet mode
is($r->{stdout}, join('', map { "p$_\n" } 1 .. 50), 'a pipe in packet mode');
is($brood->sh(alice => 'echo alice')->{stdout}, "alice\n", 'another namespace does not notice');
my $frontend = ($brood->pids('frontend'))[0];
my $fds = () = glob "/proc/$frontend/fd/*";
$brood->sh(mallory => 'exec {f}>/proc/self/fd/1; sleep 30 & true') for 1 .. 50;
my $after;
ok(until_true(3, sub { $after = () = glob "/proc/$frontend/fd/*"; $after <= $fds + 2 }), "the frontend keeps no descriptor of it ($fds, $after)");

$brood->stop;
done_testing;
