# SPDX-License-Identifier: Apache-2.0
# The attacker uses up process numbers: threads, zombies, orphans, children that refuse to go - above all while pid 1 itself
# has to fork for the next run.
use lib 't/lib';
use Brood;
use Time::HiRes qw(time);

require_layer('root', 'cgroup', 'python3');
my $brood = Brood->start('limits-pids' => 100, 'limits-memory' => '256M', 'runs-grace' => '100ms');
my $zygote = $brood->zygote_of('mallory');
my $threads = <<'PYTHON';
import os, threading
n, stop = 0, threading.Event()
threading.stack_size(65536)
try:
    while n < 3000:
        threading.Thread(target=stop.wait, daemon=True).start(); n += 1
except RuntimeError:
    pass
print(n, flush=True)
os._exit(0)
PYTHON
my $r = $brood->sh(mallory => 'exec python3 -', stdin => $threads, timeout => 20);
cmp_ok($r->{stdout} || 9999, '<', 100, "a thread bomb gets $r->{stdout}");
cmp_ok($r->{stdout} || 0, '>', 50, 'control: but some');
is($brood->sh(mallory => 'echo a | cat')->{stdout}, "a\n", 'the next run can fork');

my %ways = (
    zombies => 'while (defined(my $p = fork)) { exit unless $p; $n++ }',
    orphans => 'while (defined(my $p = fork)) { if (!$p) { my $q = fork; sleep 60 if defined $q && !$q; exit } waitpid $p, 0; last if ++$n > 300 }',
    'the deaf' => '$SIG{$_} = "IGNORE" for qw(TERM HUP INT); while (defined(my $p = fork)) { $n++; sleep 60 unless $p }',
    'sessions' => 'use POSIX; while (defined(my $p = fork)) { $n++; if (!$p) { setsid; sleep 60 } }',
    'the stopped' => 'while (defined(my $p = fork)) { $n++; if (!$p) { kill STOP => $$; sleep 60 } }',
    'a relay' => 'if (!fork) { while (1) { my $p = fork; exit if $p } } $n = 1;', # one lives, each time another number
    'a relay of twenty' => 'for (1 .. 20) { next if fork; while (1) { my $p = fork; exit if $p } } $n = 20;',
);
for my $what (sort keys %ways) {
    for my $end ('exit', 'exec q(/bin/true)', 'kill KILL => $$') {
        $r = $brood->sh(mallory => 'exec perl -', stdin => "\$| = 1; my \$n = 0; $ways{$what} print qq(made \$n\\n); $end;", timeout => 10);
        like($r->{stdout}, qr/^made [1-9]/m, "$what, then $end: $r->{reason}") or diag($r->{stderr});
        # Back to back: pid 1 prepares the next children while what is left is being killed.
        my @got = map { $brood->sh(mallory => 'echo $((6 * 7)) | cat', timeout => 10)->{stdout} } 1 .. 3;
        is(join('', @got), "42\n" x 3, 'three runs right behind it');
    }
}
is($brood->zygote_of('mallory'), $zygote, 'pid 1 is the same');
my $seen = $brood->sh(mallory => 'set -- /proc/[0-9]*; echo $#')->{stdout};
is($seen, "1\n", 'and nobody is left') or diag($seen);
# Zombies that its shell never waits for, while the run goes on.
$r = $brood->sh(mallory => q{for i in {1..60}; do (exit 3) & done; exec sleep 0.1}, timeout => 10);
is($r->{exit_code}, 0, 'children that nobody waits for do not hang the run');

$brood->stop;
done_testing;
