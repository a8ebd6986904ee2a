# SPDX-License-Identifier: Apache-2.0
# The attacker leaves something running after its run: daemons, double forks, vforks, threads, stopped and traced
# ones, fork races - to spy on the next run, or to work on.
use lib 't/lib';
use Brood;
use Time::HiRes qw(time);

my $brood = Brood->start('limits-pids' => 150);
my $spy = 'while :; do echo spied >> ~/spied; sleep 0.01; done';
my @ways = (
    ['a background loop' => "($spy) &"],
    ['setsid' => "setsid bash -c '$spy' & sleep 0.03"],
    ['a double fork' => "( (setsid bash -c '$spy' </dev/null >/dev/null 2>&1 &) & ) ; sleep 0.03"],
    ['nohup, deaf to all signals' => "(trap '' HUP TERM INT QUIT USR1 USR2 PIPE ALRM; $spy) & disown; sleep 0.03"],
    ['stopped, to be continued' => "($spy) & kill -STOP \$!"],
    ['sixty' => "for i in {1..60}; do ($spy) & done"],
    ['a race of forks' => q{perl -e 'if (!fork) { while (1) { my $p = fork // next; exit if $p; } } select undef, undef, undef, 0.05'}],
    ['a vfork that never ends' => q{perl -e 'if (!fork) { my $p = syscall 58; sleep 60 } select undef, undef, undef, 0.05'}],
    ['a thread group without its leader' => q{python3 -c 'import threading, time, ctypes, os
pid = os.fork()
if pid == 0:
    threading.Thread(target=lambda: [open(os.path.expanduser("~/spied"), "a").write("t") or time.sleep(0.01) for _ in range(6000)]).start()
    ctypes.CDLL(None).syscall(60, 0)
time.sleep(0.1)'}],
    ['one that waits for the death of its parent' => q{perl -e 'my $parent = $$; if (!fork) { select undef, undef, undef, 0.001 while getppid == $parent; while (1) { open my $f, ">>", "$ENV{HOME}/spied"; print $f "x"; close $f; select undef, undef, undef, 0.01 } }'}],
    ['exec of the shell itself' => "(sleep 0.05; $spy) & exec true"],
    ['the shell killed by its child' => "($spy) & (sleep 0.05; kill -9 \$PPID; kill -9 \$\$) & sleep 5"],
);
for (@ways) {
    my ($what, $cmd) = @$_;
    my $begin = time;
    my $r = $brood->sh(mallory => $cmd, timeout => 8);
    is($r->{http}, 200, "$what: answered") or diag($r->{stderr});
    cmp_ok(time - $begin, '<', 4, 'the run ends with its first process');
    $r = $brood->sh(mallory => 'n=$(stat -c %s spied 2>/dev/null); for p in /proc/[0-9]*; do p=${p##*/}; [[ $p == $$ || ! -e /proc/$p/status ]] || { read -r _ name < /proc/$p/status; [[ $name == stat ]] || echo "stranger $p $name"; }; done; sleep 0.05; m=$(stat -c %s spied 2>/dev/null); [[ $n == "$m" ]] && echo quiet');
    is($r->{stdout}, "quiet\n", "$what: nobody is left, nothing is written any more");
    is(scalar(grep { (slurp("/proc/$_/comm") // '') =~ /^(?:perl|python3?|sleep)/ } $brood->pids('child')), 0, 'seen from outside, too');
}
ok(defined $brood->find('spied'), 'control: while their run was on the spies did work');

$brood->stop;
done_testing;
