# SPDX-License-Identifier: Apache-2.0
# A run wants to see, stop, slow down or take over what lives beside it in a companion, and the other way round: one user, one
# set of files, two pidns.
use lib 't/lib';
use Brood;
use Brood::Attack;
use Brood::Wire;

my $brood = Brood->start('terminals-per-namespace' => 8, 'terminals-max' => 32);
my $wire = Brood::Wire->new($brood);
my $loop = q(exec -a the-victim perl -e '$| = 1; open my $f, q(>), shift; close $f; select undef, undef, undef, 0.02 until -e q(done)');

sub host_pid {
    my $found;
    until_true(5, sub { ($found) = grep { (slurp("/proc/$_/cmdline") // '') =~ /^the-victim/ } $brood->pids('child') });
    return $found;
}

sub state_of {
    my ($pid) = @_;
    my $stat = slurp("/proc/$pid/stat") // return 'gone';
    my @f = split ' ', $stat =~ s/.*\) //sr;
    return "nice $f[16], tracer " . ((slurp("/proc/$pid/status") // '') =~ /^TracerPid:\s+(\d+)/m)[0];
}

sub assault {
    my ($attacker, $victim, $what) = @_;
    my $before = state_of($victim);
    my $own_ns = ((slurp("/proc/$victim/status") // '') =~ /^NSpid:.*\s(\d+)$/m)[0];
    my $got = attack($attacker, alice => <<"PERL", env => {VICTIM => $victim, INSIDE => $own_ns});
try('see' => sub { grep { my \$c = peek("/proc/\$_/cmdline"); \$c && \$c =~ /the-vic[t]im/ } map { m{(\\d+)\$} } glob '/proc/[0-9]*' });
try('kill' => sub { my \$n = 0; for (2 .. 3000, \$ENV{VICTIM}) { \$n += kill 9, \$_ unless \$_ == \$\$ } \$n });
try('kill threads' => sub { my \$n = 0; for (1 .. 600, \$ENV{VICTIM}) { next if \$_ == \$\$; \$n++ if syscall(200, \$_, 19) != -1 || syscall(234, \$_, \$_, 19) != -1 } \$n });
try('kill group' => sub { my \$n = 0; for (1 .. 600, \$ENV{INSIDE}, \$ENV{VICTIM}) { \$n += kill -9, \$_ unless \$_ == getpgrp } \$n });
call(nice => 141, 2, 1000, 19);
call(idle => 251, 3, 1000, 3 << 13);
call(trace => 101, 16, \$ENV{VICTIM} + 0, 0, 0);
try('pidfd' => sub { my \$n = 0; for (2 .. 600, \$ENV{VICTIM}) { next if \$_ == \$\$; my \$fd = syscall(434, \$_, 0); \$n++ if \$fd >= 0 } \$n });
call(vm => 310, \$ENV{VICTIM} + 0, "\\0" x 16, 1, "\\0" x 16, 1, 0);
try('owner' => sub { socketpair my \$a, my \$b, AF_UNIX, SOCK_STREAM, 0; syscall(72, fileno \$a, 8, \$ENV{VICTIM} + 0) != -1 });
try('affinity' => sub { syscall(203, \$ENV{VICTIM} + 0, 8, pack 'Q', 1) != -1 });
try('limits' => sub { syscall(302, \$ENV{VICTIM} + 0, 7, pack('QQ', 0, 0), 0) != -1 });
kill 9, -1;
print "everybody\\tdone\\t\\n";
PERL
    refused($got, $_, undef, "$what: $_") for 'see', 'kill', 'kill threads', 'kill group', 'trace', 'pidfd', 'vm', 'owner', 'affinity', 'limits';
    done($got, 'everybody', "$what: all it can signal is signalled");
    is(state_of($victim), $before, "$what: the victim is as it was ($before)");
}

my $run = $wire->send(ns => 'alice', terminal => 'victim', cmd => "$loop ready-1");
ok($brood->wait_file('ready-1'), 'a victim in a companion');
assault($brood, host_pid(), 'from a run');
assault($wire->beside, host_pid(), 'from another companion');
$brood->sh(alice => 'touch done');
is($wire->result($run)->{exit_code}, 0, 'and it ends by itself');

$brood->sh(alice => 'rm done');
my $conn = $brood->post(alice => "$loop ready-2");
ok($brood->wait_file('ready-2'), 'a victim in a run');
assault($wire->beside, host_pid(), 'from a companion');
is($wire->run(ns => 'alice', terminal => 'last', cmd => 'touch done; kill -9 -1; echo here')->{stdout}, "here\n", 'a companion that kills all it can');
is($brood->result($conn, 5)->{exit_code}, 0, '... does not reach the run');

$brood->stop;
done_testing;
