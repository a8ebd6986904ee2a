# SPDX-License-Identifier: Apache-2.0
# The attacker signals pid 1 of its namespace, the zygote, with everything there is, and everybody at once.
use lib 't/lib';
use Brood;
use Brood::Attack;
use Time::HiRes qw(time);

my $brood = Brood->start;
my $zygote = $brood->zygote_of('mallory');
ok($zygote, 'there is a zygote');
for my $cmd ('kill -9 1', 'kill -9 -1', 'kill -STOP 1', 'kill -STOP -1; true', 'kill -TERM 1', 'kill -9 0', 'trap "" TERM; kill -TERM 0; kill -9 -1', 'kill -SEGV 1; kill -ABRT 1') {
    my $begin = time;
    my $r = $brood->sh(mallory => "$cmd; echo \$?", timeout => 5);
    is($r->{http}, 200, "$cmd: answered");
    unlike($r->{reason}, qr/^(?:internal|timeout)$/, "as $r->{reason}");
    cmp_ok(time - $begin, '<', 2, 'at once');
}
my $got = attack($brood, mallory => <<'PERL');
for my $sig (0 .. 64) {
    next if $sig == 32 || $sig == 33;
    call("kill $sig" => 62, 1, $sig);
    call("rt_sigqueue $sig" => 129, 1, $sig, pack('iiii', $sig, 0, -1, 0) . "\0" x 112) if $sig;
    call("tgkill $sig" => 234, 1, 1, $sig) if $sig;
}
my $fd = syscall 434, 1, 0;
call(pidfd => 424, $fd, 9, 0, 0);
PERL
my @tried = grep { /^(?:kill|rt_|tgkill|pidfd)/ } keys %$got;
cmp_ok(scalar @tried, '>=', 180, scalar(@tried) . ' signals sent to pid 1');
is(join(' ', grep { $got->{$_}[0] ne 'refused' } sort @tried), '', 'none was accepted by the kernel');
is($brood->zygote_of('mallory'), $zygote, 'the same zygote serves');
is($brood->sh(mallory => 'echo hi')->{start}, ($ENV{BROOD_TEST_ZYGOTE} // '') eq 'exec' ? 'exec' : 'warm', 'and is warm');
my $r = $brood->sh(mallory => 'sleep 30 & kill -9 $!; wait $!; echo $?');
is($r->{stdout}, "137\n", 'control: a child of its own is killed');
# A process group or a parent's death signal is no way to the zygote either.
$r = $brood->sh(mallory => q{perl -e 'print getppid, " ", getpgrp == $$ || getpgrp == getppid ? "own" : "foreign", "\n"; kill "KILL", -getpgrp(getppid); '}, timeout => 5);
is($r->{http}, 200, 'killing the group of the parent: answered');
$brood->sh(mallory => 'perl -e "syscall 157, 1, 9, 0, 0, 0; fork and exit; sleep 1"', timeout => 5);
is($brood->zygote_of('mallory'), $zygote, 'still the same');
is(scalar(grep { ($_->{event} // '') =~ /^(?:zygote_lost|zygote_overdue|bug_\w+)$/ } $brood->log_lines), 0, 'the service saw nothing odd');

$brood->stop;
done_testing;
