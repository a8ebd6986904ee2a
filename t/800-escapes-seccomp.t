# SPDX-License-Identifier: Apache-2.0
# The attacker makes calls that the profile refuses: one by one, through every kind of child, by the thousand to wear
# out the pid 1 that answers them, hidden behind a filter of its own. Each stays refused, and the facts tell of it.
use lib 't/lib';
use Brood;
use Brood::Attack;

my @calls = (
    'call(mount => 165, "none", "/tmp", "tmpfs", 0, 0);',
    'call(umount2 => 166, "/tmp", 2);',
    'call(pivot_root => 155, ".", ".");',
    'call(chroot => 161, "/tmp");',
    'call(open_tree => 428, -100, "/tmp", 1);',
    'call(move_mount => 429, -1, "", -100, "/tmp", 4);',
    'call(fsopen => 430, "tmpfs", 0);',
    'call(fsmount => 432, -1, 0, 0);',
    'call(mount_setattr => 442, -100, "/", 0, fresh(), 32);',
    'call(open_tree_attr => 467, -100, "/tmp", 1, fresh(), 32);',
    'call(unshare => 272, 0x10000000);',
    'call(setns => 308, 0, 0);',
    'call(keyctl => 250, 0, -3, 1);',
    'call(add_key => 248, "user", "x", "x", 1, -3);',
    'call(request_key => 249, "user", "x", 0, -3);',
    'call(bpf => 321, 0, fresh(), 72);',
    'call(perf_event_open => 298, fresh(), 0, -1, -1, 0);',
    'call(userfaultfd => 323, 0);',
    'call(kexec_load => 246, 0, 0, 0, 0);',
    'call(init_module => 175, fresh(), 4096, "");',
    'call(ptrace => 101, 0, 0, 0, 0);',
    'call(process_vm_readv => 310, 1, 0, 0, 0, 0, 0);',
    'call(kcmp => 312, $$, $$, 0, 0, 0);',
    'call(pidfd_getfd => 438, 0, 0, 0);',
    'call(process_madvise => 440, 0, 0, 0, 0, 0);',
    'call(mq_open => 240, "brood", 0102, 0600, 0);',
    'call(vmsplice => 278, 1, 0, 0, 0);',
    'call(modify_ldt => 154, 0, fresh(), 64);',
    'call(open_by_handle_at => 304, -100, fresh(), 0);',
    'call(reboot => 169, 0xfee1dead, 672274793, 0, 0);',
    'call(personality => 135, 0x400000);',
    'call(socketpair => 53, 30, 1, 0, fresh());',
);
my $fresh = 'sub fresh { return "\0" x 4096 }';
sub names { return map { /^call\((\w+)/ } @_ }
sub told { my ($r) = @_; return join ' ', @{$r->{denied} // ['nothing']} }

my $brood = Brood->start('runs-grace' => '300ms');
while (my @some = splice @calls, 0, 16) {
    my $got = attack($brood, mallory => join "\n", $fresh, @some);
    refused($got, $_, qr/^EPERM$/) for names(@some);
    is(told($got->{''}), join(' ', names(@some)), 'and each is told, in order');
}
my $got = attack($brood, mallory => <<'PERL');
call("clone $_->[0]" => 56, $_->[1] | 17, 0, 0, 0, 0) for ['ns', 0x20000], ['cgroup', 0x2000000], ['uts', 0x4000000], ['ipc', 0x8000000], ['user', 0x10000000], ['pid', 0x20000000], ['net', 0x40000000], ['high', 1 << 40 | 0x10000000];
call("socket $_->[0]" => 41, $_->[1], $_->[2], $_->[3]) for ['netfilter', 16, 3, 12], ['packet', 17, 3, 768], ['alg', 38, 5, 0], ['vsock', 40, 1, 0], ['vsock high', 1 << 32 | 40, 1, 0];
call(tiocsti => 16, 0, 1 << 32 | 0x5412, "x");
PERL
refused($got, "clone $_", qr/^EPERM$/) for qw(ns cgroup uts ipc user pid net high);
refused($got, "socket $_", qr/^EPERM$/) for 'netfilter', 'packet', 'alg', 'vsock', 'vsock high';
refused($got, 'tiocsti', qr/^EPERM$/);
is(told($got->{''}), 'clone socket ioctl', 'a name is told once');
$got = attack($brood, mallory => <<'PERL');
my $buf = "\0" x 4096;
call("quiet $_" => $_, $buf, 88, 0, 0, 0, 0) for 435, 425, 426, 427, 447, 451, 457, 458, 459, 468, 469, 470, 999;
PERL
refused($got, "quiet $_", qr/^ENOSYS$/) for 435, 425, 426, 427, 447, 451, 457, 458, 459, 468, 469, 470, 999;
is(told($got->{''}), '', 'what libraries probe for is not told');
$got = attack($brood, mallory => 'call("n$_" => $_, 0, 0, 0, 0, 0, 0) for 165, 166, 155, 161, 428 .. 433, 272, 308, 248 .. 250, 321, 298, 323, 246, 175;');
is(scalar @{$got->{''}{denied}}, 16, 'of twenty names sixteen are kept');
refused($got, 'n175', qr/^EPERM$/, 'the twentieth is refused as well');

# Every kind of child: the first of its zygote, a fork, a cast in recycled memory; with and without an exec.
my $mount = q{perl -e 'syscall 165, 0, 0, 0, 0, 0; print 0 + $!'};
for my $kind (qw(first fork cast)) {
    $brood->recycle('carol') if $kind eq 'cast';
    my $r = $brood->sh(carol => $mount);
    is("$r->{stdout} " . told($r), '1 mount', "the $kind child");
    is(told($brood->sh(carol => 'echo clean')), '', 'and the run after it is told nothing');
}
is(told($brood->sh(carol => "($mount) & ($mount) & wait; setsid $mount")), 'mount', 'children of the run');

# A filter of the attacker's own, on top of ours: it can take, not give. The last one ends its maker.
my $filter = <<'PERL';
sub filter { my ($flags, @program) = @_; my $code = pack '(SCCL)*', @program; my $prog = pack 'Sx6P', @program / 4, $code; return syscall 317, 1, $flags, $prog }
PERL
$got = attack($brood, mallory => $filter . <<'PERL');
try(listener => sub { filter(8, 6, 0, 0, 0x7fff0000) >= 0 });
try(allow => sub { filter(0, 6, 0, 0, 0x7fff0000) == 0 });
call(mount => 165, 0, 0, 0, 0, 0);
PERL
refused($got, 'listener', qr/^EBUSY$/, 'no listener beside pid 1');
done($got, 'allow', 'control: a filter that allows everything is loaded');
refused($got, 'mount', qr/^EPERM$/, 'and changes nothing');
is(told($got->{''}), 'mount', 'nor what is told');
my $r = $brood->sh(mallory => 'exec perl -', stdin => $filter . 'filter(0, 0x20, 0, 0, 0, 0x15, 0, 1, 110, 6, 0, 0, 0x80000000, 6, 0, 0, 0x7fff0000); getppid; print "alive"');
is("$r->{stdout} $r->{reason} $r->{signal}", ' seccomp SYS', 'a run that a filter killed says so');

# A flood, from many processes. Waiting for an answer is a wait like others: the deadline and the client end it.
sub cpu_of { my ($pid) = @_; my @f = split ' ', slurp("/proc/$pid/stat") =~ s/.*\) //sr; return ($f[11] + $f[12]) / POSIX::sysconf(POSIX::_SC_CLK_TCK()) }
sub p50 { return median(map { $brood->sh(bob => 'echo hi')->{wall_ms} } 1 .. 60) }
my $flood = q{exec perl -e '$SIG{TERM} = "IGNORE"; for (1 .. 15) { fork // last } syscall 165, 0, 0, 0, 0, 0 while 1'};
my $zygote = $brood->zygote_of('mallory');
p50();
my $before = p50();
my $used = cpu_of($zygote);
my $conn = $brood->post(mallory => $flood, timeout => 3);
my $during = median(map { p50() } 1 .. 5);
$r = $brood->result($conn, 20);
$used = cpu_of($zygote) - $used;
is("$r->{reason} " . told($r), 'timeout mount', 'the flood ends at its deadline');
cmp_ok($r->{wall_ms}, '<', 6_000, "soon after: $r->{wall_ms} ms");
cmp_ok($used, '<', 0.6, "pid 1 spent $used s of 3 s on it");
cmp_ok($during, '<', 3 * $before + 1, "a neighbour's run takes $during ms meanwhile, before $before ms");
ok($brood->wait_log(qr/"event":"run","run_id":$r->{run_id},/), 'the log has its line, soon after the answer');
my ($log) = grep { ($_->{run_id} // 0) == $r->{run_id} && $_->{event} eq 'run' } $brood->log_lines;
my ($times) = ($log // {denied => ''})->{denied} =~ /^mount:(\d+)$/;
cmp_ok($times // 0, '>', 256, 'the log has the number: ' . ($times // 'none'));
cmp_ok($times // 1e9, '<', 1000 + 1100 * $r->{wall_ms} / 1000, 'which is bounded');
is($brood->sh(mallory => 'echo hi')->{stdout}, "hi\n", 'the namespace works');
is(kill(0 => $zygote), 1, 'with the same zygote');
$conn = $brood->post(mallory => "echo > flooding; $flood", timeout => 60);
ok($brood->wait_file('flooding'), 'another flood');
$conn = undef;
ok(until_true(10, sub { $brood->sh(mallory => 'echo hi', timeout => 5)->{stdout} eq "hi\n" }), 'ends when its client goes away');

# The static zygote does the same.
my $static = Brood->start(zygote => 'exec');
is(told($static->sh(alice => "$mount; true")), 'mount', "zygote = exec, run $_") for 1 .. 3;
is(told($static->sh(alice => 'echo clean')), '', 'and nothing of another run');
$static->stop;

$brood->stop;
done_testing;
