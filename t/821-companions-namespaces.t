# SPDX-License-Identifier: Apache-2.0
# From a companion: back into its zygote's pidns, out through its /proc or what lay under that, out of its mounts, its
# cgroupns. What holds in a run holds here, and the copy of the mounts leaves no way to the other processes.
use lib 't/lib';
use Brood;
use Brood::Attack;
use Brood::Wire;

my $brood = Brood->start('terminals-per-namespace' => 8);
my $wire = Brood::Wire->new($brood);
my $beside = $wire->beside;
my $hold = $brood->post(alice => 'touch on; exec perl -e "select undef, undef, undef, 0.02 until -e q(off)"'); # there is somebody to be found
ok($brood->wait_file('on'), 'a run is on');

my $got = attack($beside, alice => <<'PERL');
call("setns $_->[0]" => 308, fileno($_->[1]), 0) for grep { $_->[1] } map { my $h; sysopen($h, "/proc/self/ns/$_", 0) ? [$_, $h] : () } qw(pid mnt net user);
try('pid 1 ns' => sub { sysopen my $h, '/proc/1/ns/pid', 0 });
try('pid 1 root' => sub { opendir my $d, '/proc/1/root' });
try('more than one proc' => sub { my $m = do { local (@ARGV, $/) = '/proc/self/mountinfo'; <> }; my @p = $m =~ m{^(?:\S+ ){4}/proc \S+.* - proc }mg; @p > 2 ? "@p" : 0 });
call(umount => 166, "/proc\0", 2); call('umount work' => 166, "/work\0", 2); call(mount => 165, "none\0", "/tmp\0", "tmpfs\0", 0, 0);
call(unshare => 272, 0x20000000); call(pivot => 155, "/work\0", "/work\0"); call(chroot => 161, "/work\0");
call(open_tree => 428, -100, "/\0", 1); call(move_mount => 429, -1, "\0", -100, "/tmp\0", 4);
try('see others' => sub { my @p = grep { $_ != $$ && $_ != getppid } map { m{(\d+)$} } glob '/proc/[0-9]*'; @p ? "@p" : 0 });
try('up from proc' => sub { opendir my $d, '/proc/../proc/..' or die; grep { $_ eq 'etc' } readdir $d or die; peek('/proc/../../proc/1/environ') });
try('sysctl' => sub { spill('/proc/sys/kernel/pid_max', '400', O_WRONLY) });
try('sysctl userns' => sub { spill('/proc/sys/user/max_user_namespaces', '100', O_WRONLY) });
try('sysrq' => sub { spill('/proc/sysrq-trigger', 'b', O_WRONLY) });
try('kcore' => sub { my $c = peek('/proc/kcore'); $c && $c ne 'read:' });
try('cgroup path' => sub { my $c = do { local (@ARGV, $/) = '/proc/self/cgroup'; <> }; $c =~ m{:/.*\w}m ? $c : 0 });
try('sys' => sub { opendir my $d, '/sys/fs/cgroup' or die; grep { !/^\.\.?$/ } readdir $d });
call(setuid => 105, 0); call(hostname => 170, "mallory\0", 7);
call(userns => 56, 0x10000000 | 17, 0, 0, 0, 0); call(mknod => 133, "/work/dev\0", 020600, 0x103);
call(device => 133, "/work/kmem\0", 060600, 0x800);
PERL
refused($got, $_, undef, "$_") for 'setns pid', 'setns mnt', 'setns net', 'setns user', 'pid 1 ns', 'pid 1 root', 'more than one proc', 'umount', 'umount work', 'mount', 'unshare',
  'pivot', 'chroot', 'open_tree', 'move_mount', 'see others', 'up from proc', 'sysctl', 'sysctl userns', 'sysrq', 'kcore', 'cgroup path', 'sys', 'setuid', 'hostname', 'userns', 'mknod', 'device';

# The same mounts with the same flags as in a run; only proc and devpts are others.
sub mounts { my ($by) = @_; return join "\n", sort map { join ' ', (split)[4, 5] } grep { length } split /\n/, $by->sh(alice2 => 'cat /proc/self/mountinfo')->{stdout} }
is(mounts($beside), mounts($brood), 'mount points and their flags are those of a run');
sub status { my ($by) = @_; return $by->sh(alice2 => 'grep -E "^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:)" /proc/self/status; ulimit -a; cat /proc/self/uid_map')->{stdout} }
is(status($beside), status($brood), 'ids, capabilities, no_new_privs, seccomp and limits, too');
is($beside->sh(alice2 => 'cat /proc/self/cgroup | grep -vc ":/$"; ls /proc/self/fd | wc -l')->{stdout}, "0\n4\n", 'paths of cgroups say nothing, no descriptor more is open');
my ($tty) = $beside->sh(alice2 => q(python3 -c 'import os; m, s = os.openpty(); print(os.ttyname(s)); import subprocess; print(sorted(os.listdir("/dev/pts")))'))->{stdout};
is($tty, "/dev/pts/0\n['0', 'ptmx']\n", 'terminals are its own');

# Landlock and seccomp are installed, not only inherited by chance.
$got = attack($beside, alice => <<'PERL');
try('write usr' => sub { spill('/usr/x', 'x') }); try('write etc' => sub { spill('/etc/x', 'x') }); try('write run' => sub { spill('/run/x', 'x') });
try('write work' => sub { spill('/work/x', 'x') }); try('write tmp' => sub { spill('/tmp/x', 'x') }); try('write shm' => sub { spill('/dev/shm/x', 'x') });
call(null => 133, "/work/landlocked\0", 020600, 0); call(keyctl => 250, 0, -3, 0, 0, 0); call(bpf => 321, 0, 0, 0); call(io_uring => 425, 1, "\0" x 120); call(clone3 => 435, "\0" x 88, 88);
PERL
refused($got, "write $_") for qw(usr etc run);
done($got, "write $_") for qw(work tmp shm);
refused($got, 'null', qr/EACCES|EPERM/);
refused($got, $_, qr/EPERM|ENOSYS/) for qw(keyctl bpf io_uring clone3);

# One ipcns for a namespace and all that is beside it, as SECURITY.md says; nobody else's.
my $find = q(perl -e 'print defined semget(4712, 1, 0) ? "there" : "not there"');
is($beside->sh(alice2 => q(perl -e 'print defined semget(4712, 1, 01666) ? "made" : $!'))->{stdout}, 'made', 'a semaphore of a companion');
is($brood->sh(alice2 => $find)->{stdout}, 'there', 'is there for runs');
is($_->sh(ipc => $find)->{stdout}, 'not there', 'and for no other namespace') for $brood, $beside;

$brood->sh(alice2 => 'true');
spew("$brood->{fs_root}/alice/off");
is($brood->result($hold, 5)->{http}, 200, 'the run ended by itself');
$brood->stop;
done_testing;
