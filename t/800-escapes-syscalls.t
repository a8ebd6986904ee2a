# SPDX-License-Identifier: Apache-2.0
# The attacker calls what the kernel should not offer to strangers: bpf, perf, userfaultfd, io_uring, modules,
# kexec, clocks, ports and other corners. A refusal must name itself (EPERM, or ENOSYS where libraries probe).
use lib 't/lib';
use Brood;
use Brood::Attack;

my $brood = Brood->start;
my $attack = <<'PERL';
my $zero = "\0" x 4096;
sub fresh { return "\0" x 4096 }
call(bpf => 321, 0, pack('LLLL', 2, 4, 8, 1) . fresh(), 72);             # BPF_MAP_CREATE
call(bpf_prog => 321, 5, fresh(), 72);
call(perf => 298, pack('LLQ', 1, 112, 1) . fresh(), 0, -1, -1, 0);      # a software counter
call(userfaultfd => 323, 0);
call(io_uring => 425, 4, fresh());
call(io_uring_enter => 426, 0, 0, 0, 0, 0, 0);
call(io_uring_register => 427, 0, 0, 0, 0);
call(fanotify => 300, 0, 0);
call(memfd_secret => 447, 0);
call(modify_ldt => 154, 0, fresh(), 64);
call(mbind => 237, 0, 0, 0, 0, 0, 0);
call(set_mempolicy => 238, 0, 0, 0);
call(uselib => 134, "/bin/ls\0");
call(ustat => 136, 0, fresh());
call(sysfs => 139, 3);
call(quotactl => 179, 0x800001, "/dev/vda\0", 0, fresh());
PERL
my $harmful = <<'PERL';
call(init_module => 175, fresh(), 4096, "\0");
call(finit_module => 313, 0, "\0", 0);
call(delete_module => 176, "brood_none\0", 0);
call(kexec_load => 246, 0, 0, 0, 0);
call(kexec_file_load => 320, 0, 0, 0, "\0", 0);
call(reboot => 169, 0xfee1dead, 672274793, 0, 0);                        # Ctrl-Alt-Del off
call(swapon => 167, "/dev/vda\0", 0);
call(swapoff => 168, "/dev/vda\0");
call(acct => 163, 0);
call(settimeofday => 164, pack('qq', 0, 0), 0);
call(clock_settime => 227, 0, pack('qq', 0, 0));
call(adjtimex => 159, pack('L', 2) . fresh());
call(clock_adjtime => 305, 0, pack('L', 2) . fresh());
call(sethostname => 170, "mallory", 7);
call(setdomainname => 171, "mallory", 7);
call(iopl => 172, 3);
call(ioperm => 173, 0x70, 2, 1);
call(vhangup => 153);
call(lookup_dcookie => 212, 0, fresh(), 64);
call(move_pages => 279, 1, 0, 0, 0, 0, 0);
call(migrate_pages => 256, 1, 0, 0, 0);
call(remap_file_pages => 216, 0, 4096, 0, 0, 0);
PERL
my $got = attack($brood, mallory => $attack . $harmful . <<'PERL');
call("x32 $_->[0]" => 0x40000000 | $_->[1], 0, 0, 0, 0, 0, 0) for [getpid => 39], [mount => 165], [bpf => 321], [keyctl => 250], [ptrace => 521];
call(getpid => 39);
PERL
my @names = map { /^call\((\w+) =>/ ? $1 : () } split /\n/, $attack . $harmful;
cmp_ok(scalar @names, '>=', 38, scalar(@names) . ' calls');
refused($got, $_, qr/^(?:EPERM|ENOSYS)$/) for @names;
refused($got, "x32 $_", qr/^(?:ENOSYS|EPERM)$/) for qw(getpid mount bpf keyctl ptrace);
done($got, 'getpid', 'control: getpid is no harm');
control(on_host($attack), qw(bpf perf userfaultfd io_uring fanotify));
is($brood->sh(mallory => 'grep ^Seccomp: /proc/self/status')->{stdout}, "Seccomp:\t2\n", 'a filter is on');
is($brood->sh(mallory => 'hostname')->{stdout}, "mallory\n", 'the name of the host is the namespace\'s');

$brood->stop;
done_testing;
