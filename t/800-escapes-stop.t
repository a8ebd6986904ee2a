# SPDX-License-Identifier: Apache-2.0
# The attacker stops: itself, its parent, its group, everybody it may - so that it is never reaped, or holds its place for ever.
use lib 't/lib';
use Brood;
use Time::HiRes qw(time);

my $brood = Brood->start('runs-grace' => '100ms');
my $zygote = $brood->zygote_of('mallory');
my %ways = (
    itself => 'kill -STOP $$; sleep 60',
    'itself, by an exec' => q{exec perl -e 'kill STOP => $$; sleep 60'},
    'its group' => 'kill -STOP 0; sleep 60',
    'everybody' => 'kill -STOP -1; kill -STOP $$; sleep 60',
    'its parent' => q{exec perl -e 'kill STOP => getppid; syscall 62, 1, 19; kill STOP => -getpgrp(getppid); kill STOP => $$; sleep 60'},
    'its parent, a shell' => '(kill -STOP $PPID; kill -STOP $$; sleep 60); sleep 60',
    'a ring that stops each other' => q{exec perl -e 'my $t = $$; for (1 .. 8) { my $p = fork; $t = $$, next unless $p; kill STOP => $t; sleep 60 } sleep 60'},
    'with TSTP, TTIN, TTOU' => 'kill -TSTP $$; kill -TTIN $$; kill -TTOU $$; sleep 60',
    'continued by its child again and again' => q{exec perl -e 'my $p = $$; if (!fork) { while (1) { kill STOP => $p; kill CONT => $p } } sleep 60'},
    'deaf to what would end it' => q{exec perl -e '$SIG{$_} = sub { kill STOP => $$ } for qw(TERM CONT HUP XCPU); kill STOP => $$; sleep 60 while 1'},
);
for my $what (sort keys %ways) {
    my $begin = time;
    my $r = $brood->sh(mallory => $ways{$what}, timeout => 0.4);
    is($r->{reason}, 'timeout', "$what: the deadline holds");
    cmp_ok(time - $begin, '<', 3, 'in time');
    is($brood->sh(mallory => 'set -- /proc/[0-9]*; echo $#')->{stdout}, "1\n", 'nobody is left');
}
# One that is stopped while its client goes away.
for my $what ('itself', 'everybody', 'a ring that stops each other') {
    my $conn = $brood->post(mallory => "touch stops; $ways{$what}", timeout => 60);
    ok($brood->wait_file('stops'), "$what: begun");
    $conn->close;
    is($brood->sh(mallory => 'rm stops; set -- /proc/[0-9]*; echo $#', timeout => 5)->{stdout}, "1\n", 'and ended with its client');
}
is($brood->zygote_of('mallory'), $zygote, 'pid 1 is the same, and runs');

$brood->stop;
done_testing;
