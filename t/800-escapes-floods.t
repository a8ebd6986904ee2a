# SPDX-License-Identifier: Apache-2.0
# Fifty attackers at once, each with a flood of its own: output, memory, processes, time, connections. A neighbour's runs take
# at most a few times as long as before, every flood ends and is answered for what it was.
use lib 't/lib';
use Brood;
use Time::HiRes qw(time);

require_layer('root', 'cgroup');
my $brood = Brood->start('limits-memory' => '32M', 'limits-tmp' => '8M', 'limits-pids' => 40, 'namespaces-spares' => 2, 'runs-grace' => '200ms', 'runs-output-max' => '64K');

sub once {
    my $at = time;
    my $r = $brood->sh(neighbour => 'echo hi', timeout => 20);
    return $r->{stdout} eq "hi\n" ? time - $at : undef;
}

my @floods = ( # what it does, what it may end as
    ['yes', qr/^(?:timeout|output|signal|exit)$/],
    ['while :; do echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa >&2; done', qr/^(?:timeout|output|signal|exit)$/],
    ['cat /dev/zero', qr/^(?:timeout|output|signal|exit)$/],
    ['base64 /dev/urandom >/dev/stderr', qr/^(?:timeout|output|signal|exit)$/],
    [q{exec perl -e 'my @a; push @a, "x" x (1 << 20) while 1'}, qr/^(?:oom|timeout)$/],
    ['x=x; while :; do x=$x$x; done', qr/^(?:oom|exit|timeout)$/],
    ['bomb() { bomb | bomb & }; bomb; sleep 60', qr/^(?:timeout|pids|oom)$/],
    ['while :; do :; done', qr/^timeout$/],
    [q{trap '' TERM; while :; do sleep 60; done}, qr/^timeout$/],
    ['while :; do /bin/true; done', qr/^timeout$/],
);
my ($slow, $quiet, $p50, $worst, @lost, @r);
for my $try (1 .. 3) { # what else runs on this machine is not the attacker
    once() for 1 .. 20;
    $quiet = median(grep { defined } map { once() } 1 .. 60);
    my @conns = map { $brood->post("flood-$_" => $floods[$_ % @floods][0], timeout => 1.5) } 0 .. 49;
    my @times;
    @lost = ();
    for (1 .. 400) {
        last unless grep { !$_->readable } @conns;
        my $took = once();
        defined $took ? push @times, $took : push @lost, $_;
    }
    @r = map { $brood->result($_, 60) } @conns;
    ($p50, $worst) = (median(@times), (sort { $a <=> $b } @times)[-1]);
    my $again = median(grep { defined } map { once() } 1 .. 60);
    $quiet = $again if $again > $quiet;
    # Two processors for fifty: a run that needs one waits for its turn, which the scheduler gives by milliseconds.
    $slow = $p50 > 10 * $quiet + 0.050;
    last unless $slow;
}
ok(!$slow, sprintf 'the neighbour: p50 %.1f ms beside them, %.1f ms when quiet, worst %.0f ms', 1000 * $p50, 1000 * $quiet, 1000 * $worst);
is("@lost", '', 'each of its runs is answered');
is(scalar(grep { $_->{http} == 200 } @r), 50, 'every flood is answered');
for my $i (0 .. $#floods) {
    my @reasons = map { $r[$_]{reason} // '-' } grep { $_ % @floods == $i } 0 .. 49;
    is(join(' ', grep { $_ !~ $floods[$i][1] } @reasons), '', "$floods[$i][0]: @reasons");
}
is(scalar(grep { length($_->{stdout}) > 1 << 16 || length($_->{stderr}) > 1 << 16 } @r), 0, 'no answer is larger than the limit of output');
is(join('', map { $brood->sh("flood-$_" => 'set -- /proc/[0-9]*; echo $#', timeout => 20)->{stdout} } 0 .. 49), "1\n" x 50, 'and in each namespace nobody is left');
my ($frontend) = $brood->pids('frontend');
cmp_ok($brood->memory->{"frontend $frontend"}, '<', 64 << 10, 'the frontend held no more than the outputs of fifty');

$brood->stop(30);
done_testing;
