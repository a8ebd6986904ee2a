# SPDX-License-Identifier: Apache-2.0
# The attacker turns the kernel's knobs: /proc/sys, sysrq, and what else of /proc takes writes.
use lib 't/lib';
use Brood;
use Brood::Attack;

my $brood = Brood->start;
my @knobs = qw(kernel/core_pattern kernel/modprobe kernel/hostname kernel/domainname kernel/pid_max kernel/shmmax kernel/shmall kernel/msgmax kernel/sem
    kernel/randomize_va_space kernel/panic kernel/sysrq kernel/printk kernel/dmesg_restrict kernel/kptr_restrict kernel/threads-max kernel/ns_last_pid
    kernel/core_uses_pid kernel/perf_event_paranoid kernel/unprivileged_bpf_disabled fs/file-max fs/protected_symlinks fs/protected_hardlinks fs/suid_dumpable
    fs/binfmt_misc/register fs/mqueue/queues_max fs/inotify/max_user_instances net/ipv4/ip_forward net/ipv4/ping_group_range net/core/somaxconn
    net/ipv4/ip_unprivileged_port_start vm/overcommit_memory vm/drop_caches vm/mmap_min_addr user/max_user_namespaces user/max_inotify_instances);
my $got = attack($brood, mallory => 'my @knobs = qw(' . join(' ', @knobs) . <<'PERL');
);
for my $knob (@knobs) {
    my $path = "/proc/sys/$knob";
    next unless -e $path;
    try("sys $knob" => sub { sysopen my $f, $path, O_WRONLY | O_TRUNC });
    try("chmod $knob" => sub { chmod 0666, $path });
}
try("other $_" => sub { sysopen my $f, "/proc/$_", O_WRONLY }) for qw(sysrq-trigger kcore kmsg mtrr irq/0/smp_affinity bus/pci/00/00.0 fs/jbd2 driver/nvram self/uid_map self/gid_map self/setgroups self/projid_map self/loginuid self/timens_offsets self/oom_adj);
try("read $_" => sub { my $t = peek("/proc/$_"); $t && length($t) > 5 }) for qw(kcore kallsyms keys kmsg timer_list sched_debug slabinfo vmallocinfo kpagecount kpageflags iomem/x);
try('oom_score_adj up' => sub { spill('/proc/self/oom_score_adj', '500', O_WRONLY) });
try('oom_score_adj down' => sub { spill('/proc/self/oom_score_adj', '-1000', O_WRONLY) });
try('comm' => sub { spill('/proc/self/comm', 'name', O_WRONLY) });
PERL
my @tried = grep { /^sys / } keys %$got;
cmp_ok(scalar @tried, '>=', 20, scalar(@tried) . ' knobs');
is(join(' ', grep { $got->{$_}[0] ne 'refused' } sort grep { /^(?:sys|chmod) / } keys %$got), '', 'none turns');
my @other = grep { /^other / } sort keys %$got;
# A map of ids may be opened by whoever is mapped; writing it is what must fail.
is(join(' ', grep { $got->{$_}[0] ne 'refused' && !m{self/(?:uid_map|gid_map|setgroups|projid_map|loginuid|timens_offsets|oom_adj)} } @other), '', 'nor does anything else of /proc');
is(join(' ', grep { $got->{$_}[0] ne 'refused' } sort grep { /^read / } keys %$got), '', 'the kernel\'s tables tell nothing');
my $maps = attack($brood, mallory => <<'PERL');
try("write $_" => sub { spill("/proc/self/$_", $_ eq 'setgroups' ? 'allow' : '0 0 1', O_WRONLY) }) for qw(uid_map gid_map setgroups projid_map timens_offsets);
PERL
refused($maps, "write $_") for qw(uid_map gid_map setgroups projid_map timens_offsets);
done($got, 'comm', 'control: its own name may be written');
done($got, 'oom_score_adj up', 'control: a run may make itself the first victim');
refused($got, 'oom_score_adj down', qr/^EACCES$/, 'but not the last');
my $before = slurp('/proc/sys/kernel/core_pattern');
$brood->sh(mallory => 'echo "|/tmp/evil" > /proc/sys/kernel/core_pattern; sysctl -w kernel.core_pattern=evil');
is(slurp('/proc/sys/kernel/core_pattern'), $before, 'the host\'s core_pattern is as it was');
ok(sysopen(my $f, '/proc/sys/kernel/core_pattern', 1), 'control: outside root may open it for writing');

$brood->stop;
done_testing;
