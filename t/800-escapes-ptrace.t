# SPDX-License-Identifier: Apache-2.0
# The attacker takes hold of another process: ptrace, process_vm_*, pidfd_getfd, everything below /proc/1.
use lib 't/lib';
use Brood;
use Brood::Attack;

my $brood = Brood->start;
my $attack = <<'PERL';
my $child = fork // die;
if (!$child) { sleep 20; exit }
for my $who ([pid1 => 1], [child => $child], [parent => getppid]) {
    my ($name, $pid) = @$who;
    call("attach $name" => 101, 16, $pid, 0, 0);
    call("seize $name" => 101, 0x4206, $pid, 0, 0);
    my ($buf, $n) = ("\0" x 8);
    my $local = pack 'pQ', $buf, 8;
    my $remote = pack 'QQ', 0x400000, 8;
    call("vm_readv $name" => 310, $pid, $local, 1, $remote, 1, 0);
    call("vm_writev $name" => 311, $pid, $local, 1, $remote, 1, 0);
    my $pidfd = syscall 434, $pid, 0;
    call("getfd $name" => 438, $pidfd, 0, 0);
    call("madvise $name" => 440, $pidfd, $remote, 1, 20, 0);
    call("kcmp $name" => 312, $$, $pid, 0, 0, 0);
}
call(traceme => 101, 0, 0, 0, 0);
kill KILL => $child;
PERL
my $got = attack($brood, mallory => $attack . <<'PERL');
for my $name (qw(mem maps smaps environ cmdline auxv stat status root cwd exe fd fd/0 fdinfo ns/pid ns/user ns/mnt map_files task/1/mem pagemap syscall stack io limits oom_score_adj cgroup mountinfo net/dev)) {
    try("pid1 $name" => sub { -d "/proc/1/$name" ? opendir(my $d, "/proc/1/$name") : -l "/proc/1/$name" ? readlink("/proc/1/$name") : peek("/proc/1/$name") });
    try("write pid1 $name" => sub { spill("/proc/1/$name", '0', O_WRONLY) });
}
try('own status' => sub { peek('/proc/self/status') });
try('own mem' => sub { sysopen my $f, '/proc/self/mem', O_RDONLY });
PERL
for my $who (qw(pid1 child parent)) {
    refused($got, "$_ $who", qr/^(?:EPERM|ESRCH|EBADF|ENOENT)$/) for qw(attach seize vm_readv vm_writev getfd madvise kcmp);
}
refused($got, 'traceme', qr/^EPERM$/);
my @tried = grep { /pid1 / && !/^(?:attach|seize|vm_|getfd|madvise|kcmp)/ } keys %$got;
cmp_ok(scalar @tried, '>=', 54, scalar(@tried) . ' ways into /proc/1 were tried');
is(join(' ', grep { $got->{$_}[0] ne 'refused' } @tried), '', 'none leads in');
done($got, 'own status', 'control: its own /proc is open to it');
done($got, 'own mem', 'control: so is its own memory');
control(on_host($attack), 'attach child', 'getfd child', 'kcmp child');

# The zygote's memory is the next run's: from outside root sees that it is not dumpable for anybody else.
my $zygote = $brood->zygote_of('mallory');
my @stat = stat "/proc/$zygote/mem";
is($stat[4], 0, 'the zygote is not dumpable: its /proc belongs to root');

$brood->stop;
done_testing;
