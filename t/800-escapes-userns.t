# SPDX-License-Identifier: Apache-2.0
# The attacker makes kernel namespaces of its own, above all a userns, in which it would be root again.
use lib 't/lib';
use Brood;
use Brood::Attack;

my $brood = Brood->start;
my %flags = (user => 0x10000000, mnt => 0x20000, pid => 0x20000000, net => 0x40000000, ipc => 0x8000000, uts => 0x4000000, cgroup => 0x2000000);
my $attack = join '', map { "call(unshare_$_ => 272, $flags{$_});\n" } qw(user mnt net ipc uts cgroup pid);
# A child of clone() leaves at once; the parent reports.
my $clone = join '', map { "{ \$! = 0; my \$p = syscall 56, $flags{$_} | 17, 0, 0, 0, 0; syscall 231, 0 if \$p == 0; my \$e = error(); waitpid \$p, 0 if \$p > 0; report('clone_$_', \$p > 0, \$e) }\n" } sort keys %flags;
my $all = 0;
$all |= $_ for values %flags;
$clone .= "{ \$! = 0; my \$p = syscall 56, $all | 17, 0, 0, 0, 0; syscall 231, 0 if \$p == 0; my \$e = error(); report('clone_all', \$p > 0, \$e) }\n";
my $clone3 = "call(clone3 => 435, pack('Q8', $flags{user}, 0, 0, 0, 17, 0, 0, 0), 64);\n";
my $join = <<'PERL';
for my $what (qw(user mnt pid net ipc uts cgroup)) {
    open my $ns, '<', "/proc/self/ns/$what" or do { report("setns_$what", 0, error()); next };
    call("setns_$what" => 308, fileno $ns, 0);
}
call(setns_pidfd => 308, syscall(434, $$, 0), 0x20000);
PERL
my $got = attack($brood, mallory => "$clone$clone3$join$attack");
refused($got, "clone_$_", qr/^(?:EPERM|ENOSPC)$/) for sort keys %flags;
refused($got, 'clone_all', qr/^EPERM$/);
refused($got, 'clone3', qr/^(?:ENOSYS|EPERM)$/);
refused($got, "unshare_$_", qr/^(?:EPERM|ENOSPC)$/) for sort keys %flags;
refused($got, "setns_$_", qr/^EPERM$/) for sort keys %flags;
refused($got, 'setns_pidfd', qr/^EPERM$/);
isnt($brood->sh(mallory => 'unshare -Ur id')->{exit_code}, 0, 'unshare -Ur');
is($brood->sh(mallory => 'cat /proc/sys/user/max_user_namespaces')->{stdout}, "0\n", 'and the kernel would give none');
is($brood->sh(mallory => 'cat /proc/self/uid_map | wc -l; id -u')->{stdout}, "1\n1000\n", 'still uid 1000 of one userns');
like($brood->sh(mallory => 'grep ^Cap /proc/self/status')->{stdout}, qr/\A(?:Cap\w+:\t0{16}\n){5}\z/, 'without any capability');
control(on_host($clone), map { "clone_$_" } sort keys %flags);
# As a plain user of the host the userns is the door to all others.
my $plain = `setpriv --reuid 1000 --regid 1000 --clear-groups unshare -Ur id -u 2>/dev/null`;
is($plain, "0\n", 'control: a plain user of this host becomes root of a userns') if (slurp('/proc/sys/user/max_user_namespaces') // 0) > 0;

$brood->stop;
done_testing;
