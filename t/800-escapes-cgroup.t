# SPDX-License-Identifier: Apache-2.0
# The attacker leaves its cgroups, loosens their limits, or makes the kernel run a release agent.
use lib 't/lib';
use Brood;
use Brood::Attack;

require_layer('root', 'cgroup');
my $brood = Brood->start('limits-memory' => '128M', 'limits-pids' => 50, 'limits-tmp' => '16M');
my $r = $brood->sh(mallory => 'cat /proc/self/cgroup');
my @lines = split /\n/, $r->{stdout};
cmp_ok(scalar @lines, '>=', 1, 'there are cgroups');
is_deeply([grep { !m{:/$} } @lines], [], 'and the run sees itself at the root of each');
is($brood->sh(mallory => 'grep -E " - cgroup2? " /proc/self/mountinfo; ls -d /sys/fs 2>/dev/null; echo none')->{stdout}, "none\n", 'no cgroup file system is mounted');
my $attack = 'mkdir "/tmp/cg"; call(cgroup2 => 165, "none\0", "/tmp/cg\0", "cgroup2\0", 0, 0); call(cgroup1 => 165, "none\0", "/tmp/cg\0", "cgroup\0", 0, "memory\0"); call(unshare => 272, 0x2000000);';
my $got = attack($brood, mallory => $attack);
refused($got, $_, qr/^EPERM$/) for qw(cgroup2 cgroup1 unshare);
is($brood->sh(mallory => 'find / -name "cgroup.procs" -o -name release_agent -o -name "memory.max" -o -name memory.limit_in_bytes 2>/dev/null')->{stdout}, '', 'nothing of one can be found');
like($brood->sh(mallory => 'tail -n +2 /proc/cgroups | grep -c .')->{stdout}, qr/^\d+$/, 'control: the kernel has some');

# Seen from outside: a run is in directories of its slot, below ours; the zygote is not limited with it.
my $conn = $brood->post(mallory => 'touch cg-started; sleep 20');
$brood->wait_file('cg-started');
my ($child) = grep { (slurp("/proc/$_/comm") // '') =~ /^(?:bash|sleep)/ } $brood->pids('child');
my ($zygote) = slurp("/proc/$child/status") =~ /^PPid:\s+(\d+)/m;
$zygote = (slurp("/proc/$zygote/status") =~ /^PPid:\s+(\d+)/m)[0] if (split ' ', (slurp("/proc/$zygote/status") =~ /^NSpid:\s+(.*)/m)[0])[-1] != 1;
my %of;
for my $pid ($child, $zygote) {
    for (split /\n/, slurp("/proc/$pid/cgroup")) {
        my (undef, $controllers, $path) = split /:/, $_, 3;
        $of{$pid}{$controllers} = $path;
    }
}
for my $controller (grep { defined $of{$child}{$_} } qw(memory pids), '') {
    next if $controller eq '' && $of{$child}{''} eq '/';
    isnt($of{$child}{$controller}, $of{$zygote}{$controller}, "the run is in another '$controller' cgroup than pid 1");
    isnt($of{$child}{$controller}, (map { (split /:/, $_, 3)[2] } grep { /:\Q$controller\E:/ } split /\n/, slurp('/proc/self/cgroup'))[0], 'and not in the host\'s');
}
$conn->close;
# Whatever it does the limits hold: processes of a double fork are counted, too.
$r = $brood->sh(mallory => q{perl -e 'use POSIX; my $n = 0; while ($n < 500) { my $p = fork // last; if (!$p) { setsid; sleep 30; exit } $n++ } print $n'}, timeout => 10);
cmp_ok($r->{stdout}, '<', 50, "setsid does not leave the pids limit ($r->{stdout})");
$r = $brood->sh(mallory => q{perl -e 'my $x = "x" x (200 << 20); print length $x'}, timeout => 10);
isnt($r->{stdout}, 200 << 20, 'nor does anything leave the memory limit');

$brood->stop;
done_testing;
