# SPDX-License-Identifier: Apache-2.0
# The attacker plays with prctl: what it makes of itself must not save it from being ended, fool who looks from outside, or
# reach the run after it.
use lib 't/lib';
use Brood;
use Brood::Attack;
use Time::HiRes qw(time);

my $brood = Brood->start('runs-grace' => '100ms');
my $zygote = $brood->zygote_of('mallory');
my $prctl = 'sub prctl { syscall 157, map { $_ // 0 } @_[0 .. 4] }';
my $got = attack($brood, mallory => <<'PERL');
call('no_new_privs off' => 157, 38, 0, 0, 0, 0);
call('mm start_brk' => 157, 35, 6, 0x10000, 0, 0);
call('mm exe' => 157, 35, 13, 0, 0, 0);
call('dumpable as root' => 157, 4, 2, 0, 0, 0);
call('bounding set' => 157, 24, 21, 0, 0, 0);
call('keep caps for ever' => 157, 28, 1 << 5 | 1 << 4, 0, 0, 0);
call('ambient' => 157, 47, 2, 21, 0, 0);
call('seccomp off' => 157, 22, 0, 0, 0, 0);
call('perf events' => 157, 32, 0, 0, 0, 0);
call('io flusher' => 157, 57, 1, 0, 0, 0);
PERL
refused($got, $_, qr/^(?:EPERM|EINVAL|EACCES)$/) for 'no_new_privs off', 'mm start_brk', 'mm exe', 'dumpable as root', 'bounding set', 'keep caps for ever', 'ambient', 'seccomp off', 'io flusher';

# Nothing it makes of itself keeps it alive.
my %ways = (
    'not dumpable' => 'prctl(4, 0); sleep 60 while 1;',
    'subreaper of its orphans' => 'prctl(36, 1); for (1 .. 5) { fork or do { fork and exit; sleep 60 while 1 } } sleep 60 while 1;',
    'deaf parent death signal' => '$SIG{TERM} = "IGNORE"; for (1 .. 3) { fork or do { prctl(1, 0); prctl(1, 18); sleep 60 while 1 } } sleep 60 while 1;',
    'machine check kill' => 'prctl(33, 1, 1); prctl(26, 2); $SIG{$_} = "IGNORE" for qw(SEGV BUS TERM); sleep 60 while 1;',
    'named as the service' => 'for my $name (qw(brood-superviso brood-frontend bash kthreadd)) { fork or do { prctl(15, $name); $0 = $name; sleep 60 while 1 } } sleep 60 while 1;',
    'in strict seccomp' => 'fork or do { prctl(22, 1); 1 while 1 }; sleep 60 while 1;',
    'syscalls dispatched to itself' => 'fork or do { my $on = "\1"; prctl(59, 1, 0, 0, $on); sleep 60 while 1 }; sleep 60 while 1;',
);
for my $what (sort keys %ways) {
    my $begin = time;
    my $r = $brood->sh(mallory => 'exec perl -', stdin => "$prctl; print qq(begun\\n); close STDOUT; $ways{$what}", timeout => 0.4);
    is_deeply([@$r{qw(stdout reason)}], ["begun\n", 'timeout'], "$what: the deadline holds") or diag($r->{stderr});
    cmp_ok(time - $begin, '<', 3, 'in time');
    is($brood->sh(mallory => 'set -- /proc/[0-9]*; echo $#')->{stdout}, "1\n", 'nobody is left');
}
is(scalar(grep { $_->{role} eq 'frontend' } $brood->processes), 1, 'the service is told by its program, not by a name');

# Nor does it come with the next run.
my $look = <<'PERL';
sub value { my ($nr, @more) = @_; return syscall 157, $nr, @more, (0) x (4 - @more) }
my $sig = pack 'i', -1; syscall 157, 2, $sig, 0, 0, 0;
my $reaper = pack 'i', -1; syscall 157, 37, $reaper, 0, 0, 0;
my $tsc = pack 'i', -1; syscall 157, 25, $tsc, 0, 0, 0;
open my $f, '<', '/proc/' . getppid . '/comm'; my $name = <$f> // '-'; chomp $name;
print join(' ', 'dumpable', value(3), 'nnp', value(39), 'thp', value(42), 'slack', value(30), 'pdeath', unpack('i', $sig), 'reaper', unpack('i', $reaper), 'tsc', unpack('i', $tsc), 'mce', value(34), 'shell', $name), "\n";
PERL
my $first = $brood->sh(fresh => "perl -; true", stdin => $look)->{stdout};
like($first, qr/^dumpable 1 nnp 1 thp 0 slack \d+ pdeath 0 reaper 0 tsc 1 mce \d shell bash$/, 'control: how a new run is');
$brood->recycle('mallory');
my $spoil = <<'PERL';
prctl(4, 0); prctl(36, 1); prctl(1, 15); prctl(41, 1); prctl(29, 50_000_000); prctl(33, 1, 1); prctl(15, 'spoilt');
print "spoilt\n";
PERL
is($brood->sh(mallory => 'exec perl -', stdin => "$prctl; $spoil")->{stdout}, "spoilt\n", 'a run changes all it can of itself');
is($brood->sh(mallory => 'perl -; true', stdin => $look)->{stdout}, $first, "the next is a new one ($_)") for 1, 2;
is($brood->zygote_of('mallory'), $zygote, 'pid 1 is the same');

$brood->stop;
done_testing;
