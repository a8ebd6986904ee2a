# SPDX-License-Identifier: Apache-2.0
# Our own processes as the kernel sees them: users, capabilities, no_new_privs, seccomp, limits, descriptors. What
# they can do from inside is t/unit/confine and t/unit/priv; each asks itself at its start.
use lib 't/lib';
use Brood;
use IPC::Open3;

require_layer(qw(root landlock));
my $brood = Brood->start(tcp => 1, 'http-threads' => 1, 'webhooks-allow' => 'hooks.test', config => "{}\n");
is($brood->sh(alice => 'echo hi')->{stdout}, "hi\n", 'it serves');

sub caps {
    my %bit = (CHOWN => 0, DAC_OVERRIDE => 1, KILL => 5, SETGID => 6, SETUID => 7, SETPCAP => 8, SYS_PTRACE => 19, SYS_ADMIN => 21, MKNOD => 27);
    my $mask = 0;
    $mask |= 1 << ($bit{$_} // die $_) for @_;
    return sprintf '%016x', $mask;
}

sub status_of {
    my ($pid) = @_;
    return {(slurp("/proc/$pid/status") // '') =~ /^(\w+):[ \t]*(.*)$/mg};
}

sub hard_limit {
    my ($pid, $name) = @_;
    return (slurp("/proc/$pid/limits") =~ /^\Q$name\E\s+(\S+)\s+(\S+)/m)[1];
}

my $none = caps();
my $priv = caps(qw(SYS_ADMIN SETUID SETGID SYS_PTRACE KILL CHOWN MKNOD SETPCAP DAC_OVERRIDE));
my $primordial = caps(qw(SYS_ADMIN SETUID SETGID SYS_PTRACE));
my %want = (    # permitted, effective, inheritable, bounding, ambient; no_new_privs; seccomp; root
    priv => [$priv, $priv, $none, $priv, $none, 1, 0, 1],
    primordial => [($primordial) x 5, 1, 0, 1],
    engine => [($none) x 5, 1, 2, 0],
    frontend => [($none) x 5, 1, 2, 0],
    courier => [($none) x 5, 1, 2, 0],
);
my %pid;
for my $role (sort keys %want) {
    my @pids = $brood->pids($role);
    is(scalar @pids, 1, "there is one $role");
    $pid{$role} = $pids[0];
    my $s = status_of($pids[0]);
    my @uids = split ' ', $s->{Uid};
    is_deeply([@$s{qw(CapPrm CapEff CapInh CapBnd CapAmb NoNewPrivs Seccomp)}, $uids[0] == 0 ? 1 : 0], $want{$role}, "$role: capabilities, no_new_privs, seccomp, user")
      or diag(join ' ', @$s{qw(CapPrm CapEff CapInh CapBnd CapAmb NoNewPrivs Seccomp Uid)});
    is_deeply([grep { $_ != $uids[0] } @uids, split ' ', $s->{Gid} =~ s/\b$uids[0]\b//gr], [], "$role: one user and one group, saved ones too");
    is($s->{Groups} // '', '', "$role: no other group") unless $role eq 'priv' || $role eq 'primordial';
    is(hard_limit($pids[0], 'Max core file size'), 0, "$role: no core");
}
my %user = map { (split ' ', status_of($pid{$_})->{Uid})[0] => 1 } qw(engine frontend courier);
is(scalar keys %user, 3, 'engine, frontend and courier are three users');
for my $role (qw(engine frontend courier)) {
    is((stat "/proc/$pid{$role}/mem")[4], 0, "$role: not dumpable, so its files in /proc are root's");
    # The frontend makes threads (one is the store's): its filter lets those and no process be made, t/unit/confine.
    is(hard_limit($pid{$role}, $_), 0, "$role: $_ 0") for $role eq 'engine' ? 'Max processes' : (), 'Max locked memory', 'Max msgqueue size';
}
is((stat "/proc/$pid{priv}/mem")[4], 0, 'priv: as well');
SKIP: {
    skip 'asan needs memory', 1 if Brood::build() =~ /asan/;
    my ($total) = slurp('/proc/meminfo') =~ /^MemTotal:\s+(\d+)/m;
    my $limit = hard_limit($pid{frontend}, 'Max data size');
    ok($limit ne 'unlimited' && $limit <= $total * 512, "frontend: at most half of the memory ($limit)");
}

# Whatever they were given or made: nothing of the host's files but the log, the devices and what priv hands over.
my %may = (
    engine => qr{^(?:socket:|anon_inode:\[eventpoll\]|/dev/null|/memfd:|\Q$brood->{log}\E|\Q$brood->{fs_root}\E|/sys/fs/cgroup/.*/(?:(?:memory|pids|cpuacct)\.\S+|cpu\.stat))},
    courier => qr{^(?:socket:|pipe:|anon_inode:\[event\w+\]|/dev/null$|\Q$brood->{log}\E$)},
    frontend => qr{^(?:socket:|pipe:|anon_inode:\[event\w+\]|/dev/null|/memfd:|\Q$brood->{log}\E|\Q$brood->{fs_root}\E\.state(?:/objects|/outputs|/store\.db(?:-wal)?)?$)},
);
for my $role (sort keys %may) {
    my @held = map { readlink } glob "/proc/$pid{$role}/fd/*";
    cmp_ok(scalar @held, '>', 4, "$role: holds something");
    is(join(' ', grep { !/$may{$role}/ } @held), '', "$role: and nothing that it should not");
}
# The directory of the namespaces: the engine may list it; no file below can be had through it.
my ($fd) = grep { (readlink // '') eq $brood->{fs_root} } glob "/proc/$pid{engine}/fd/*";
like(slurp($fd =~ s{/fd/}{/fdinfo/}r), qr/^flags:\s+0[0-7]*0$/m, 'engine: fs_root is open for reading only');

# Root's verbs are counted by root's process.
sub stats {
    my $pid = open3(my $in, my $out, undef, Brood::build() . '/brood', 'stats', '--socket', $brood->{socket});
    my %stat = map { split } <$out>;
    waitpid $pid, 0;
    return \%stat;
}
my $before = stats();
cmp_ok($before->{priv_start_zygote_total}, '>=', 1, 'zygotes were started');
is($before->{priv_attach_volume_total}, 2, "a volume for the probe, and alice's");
is($before->{priv_start_frontend_total}, 1, 'start_frontend once');
is($before->{priv_ask_limits_total}, 2, "limits are asked of the probe's zygote and of its companion");
is($before->{"priv_${_}_failed_total"}, 0, "$_: no failure") for qw(start_zygote attach_volume end_zygote discard_volume start_frontend begin_drain);
$brood->sh(bob => 'true');
is(stats()->{priv_attach_volume_total}, 3, 'one more namespace, one more volume');
$brood->sh(alice => 'true') for 1 .. 20;
is_deeply([grep { /^priv_(?:attach|discard)/ && stats()->{$_} != $before->{$_} } sort keys %$before], ['priv_attach_volume_total'], 'warm runs ask nothing of root');

# What it could not do without: reload, statistics after it, stop.
$brood->signal('HUP');
ok($brood->wait_log(qr/"event":"reloaded"/), 'a reload works');
is($brood->sh(alice => 'echo hi')->{stdout}, "hi\n", 'and runs after it');
$brood->stop;

subtest 'more threads' => sub {
    my $it = Brood->start('http-threads' => 3);
    my ($frontend) = $it->pids('frontend');
    my @threads = glob "/proc/$frontend/task/*";
    is(scalar @threads, 4, 'there are three, and the one of the store');
    is_deeply([map { slurp("$_/status") =~ /^Seccomp:\s+(\d)/m } @threads], [2, 2, 2, 2], 'all behind the filter');
    is($it->sh(alice => 'echo hi')->{stdout}, "hi\n", 'they serve');
    $it->stop;
};
done_testing;
