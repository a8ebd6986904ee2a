# SPDX-License-Identifier: Apache-2.0
# The attacker takes more of the processors than its share - real-time classes, niceness, uclamp, I/O priority - or gives some
# of its own worse habits to others: everybody of its user, its group, the next run.
use lib 't/lib';
use Brood;
use Brood::Attack;

my $brood = Brood->start;
my $zygote = $brood->zygote_of('mallory');

# policy, priority, nice, affinity of our processes, as the host sees them
sub places {
    return join ' ', map {
        my $stat = slurp("/proc/$_/stat") // '';
        my @f = split ' ', $stat =~ s/.*\) //r;
        my ($cpus) = (slurp("/proc/$_/status") // '') =~ /^Cpus_allowed_list:\s+(\S+)/m;
        "$_ prio $f[15] nice $f[16] rt $f[37] policy $f[38] cpus " . ($cpus // '?');
    } @_;
}
my @service = map { $brood->pids($_) } qw(priv engine frontend primordial);
my $before = places(@service);
my $attr = q{sub attr { my ($policy, $nice, $prio, $runtime, $flags) = @_; return pack('LLQlLQQQLL', 56, $policy, $flags // 0, $nice, $prio, $runtime, $runtime * 2, $runtime * 2, 1024, 1024) }};
my $attack = "$attr\n" . <<'PERL';
call(fifo => 144, 0, 1, pack('i', 1));
call(rr => 144, 0, 2, pack('i', 99));
call('fifo, attr' => 314, 0, attr(1, 0, 50, 0), 0);
call(deadline => 314, 0, attr(6, 0, 0, 5_000_000), 0);
call('nice -20, attr' => 314, 0, attr(0, -20, 0, 0), 0);
call('nice -1' => 141, 0, 0, -1);
call('user -1' => 141, 2, 0, -1);
call('rt io' => 251, 1, 0, 1 << 13);
call('rt io of the user' => 251, 3, $>, 1 << 13);
PERL
my $got = attack($brood, mallory => $attack . <<'PERL');
call('nice pid 1' => 141, 0, 1, 19);
call('affinity pid 1' => 203, 1, 8, pack 'Q', 1);
call('scheduler pid 1' => 144, 1, 5, pack 'i', 0);
call('io pid 1' => 251, 1, 1, 3 << 13);
call('core cookie' => 157, 62, 1, 0, 0, 0);
call('core cookie from pid 1' => 157, 62, 3, 1, 0, 0);
PERL
refused($got, $_, qr/^(?:EPERM|EACCES)$/) for 'fifo', 'rr', 'fifo, attr', 'deadline', 'nice -20, attr', 'nice -1', 'user -1', 'rt io', 'rt io of the user';
refused($got, $_, qr/^(?:ESRCH|EPERM)$/) for 'nice pid 1', 'affinity pid 1', 'scheduler pid 1', 'io pid 1';
refused($got, $_, qr/^EPERM$/) for 'core cookie', 'core cookie from pid 1';
my $host = on_host($attack);
control($host, $_) for 'rr', 'nice -1', 'rt io';

# What it may change it changes, of itself and of all that have its user, its group, its session.
my $mine = 'read -r a < <(chrt -p $$ | tr "\n" " "); b=$(nice); read -r _ c < <(grep Cpus_allowed_list /proc/self/status); d=$(ionice); cat /proc/self/autogroup /proc/self/timerslack_ns 2>/dev/null | sed "s/.*nice/nice/"; echo "${a//[0-9]/} $b $c $d"';
my $clean = $brood->sh(fresh => $mine)->{stdout};
like($clean, qr/ 0 /, 'control: a new namespace\'s run has nice 0');
$brood->recycle('mallory');
my $change = <<'PERL';
call('nice' => 141, 0, 0, 19);
call('nice of the user' => 141, 2, 0, 19);
call('nice of the user, by number' => 141, 2, $>, 19);
call('nice of the group' => 141, 1, 0, 19);
call('idle' => 144, 0, 5, pack 'i', 0);
call('batch' => 144, 0, 3, pack 'i', 0);
call('one cpu' => 203, 0, 8, pack 'Q', 1);
call('idle io' => 251, 1, 0, 3 << 13);
call('idle io of the user' => 251, 3, $>, 3 << 13);
call('idle io of the group' => 251, 2, 0, 3 << 13);
call('slack' => 157, 29, 1_000_000_000, 0, 0, 0);
PERL
$got = attack($brood, mallory => $change);
done($got, $_, "control: $_ is its own affair") for 'nice', 'idle', 'one cpu', 'idle io', 'slack';
is($brood->sh(mallory => $mine)->{stdout}, $clean, "run $_ after it has what a new namespace has") for 1 .. 3;
is($brood->zygote_of('mallory'), $zygote, 'pid 1 is the same');
like(places($zygote), qr/nice 0 rt 0 policy 0/, 'and is scheduled as it was');
is(places(@service), $before, 'so is everything of the service');

$brood->stop;
done_testing;
