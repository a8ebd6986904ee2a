# SPDX-License-Identifier: Apache-2.0
# Started inside a cgroup of somebody else (a systemd slice, a container), the service stays below it: all of its own
# cgroups are there, the limits above hold for its runs, what they do is told as it is, and nothing is left behind.
use lib 't/lib';
use Brood;

require_layer('root', 'cgroup');
my $v2 = !-e '/sys/fs/cgroup/memory/cgroup.procs';
my @kinds = (qw(memory pids cpu), $v2 ? () : 'cpuacct');
my $name = "brood-nest-$$";
my %nest;

# Our own cgroup of each controller, with a fresh child.
for my $kind (@kinds) {
    my ($mount) = map { (split)[4] } grep { $v2 ? / - cgroup2 / : m{ - cgroup \S+ (?:\S+,)?$kind\b} } split /\n/, slurp('/proc/self/mountinfo');
    my ($own) = slurp('/proc/self/cgroup') =~ ($v2 ? qr/^0::(.*)$/m : qr/^\d+:(?:\S+,)?$kind(?:,[^:]*)?:(.*)$/m);
    my $parent = "$mount$own" =~ s{/$}{}r;
    $parent = $mount unless -d $parent;
    $nest{$kind} = "$parent/$name";
    -d $nest{$kind} || mkdir $nest{$kind} or plan skip_all => "no cgroup can be made below $parent: $!";
}
my @nests = do { my %seen; grep { !$seen{$_}++ } values %nest };

sub put {
    my ($kind, $v1_file, $v2_file, $value) = @_;
    open my $out, '>', "$nest{$kind}/" . ($v2 ? $v2_file : $v1_file) or return 0;
    return syswrite $out, $value;
}

# The supervisor joins, nobody else.
my $join = join '; ', map { "echo \$\$ > $_/cgroup.procs" } @nests;
my $brood = Brood->start('namespaces-spares' => 1, wrap => ['sh', '-ec', "$join; exec \"\$@\"", 'sh']);
is($brood->sh(alice => 'echo hi')->{stdout}, "hi\n", 'a service inside a cgroup serves');
my @dirs = $brood->cgroup_dirs;
cmp_ok(scalar @dirs, '>=', @nests * 2, 'it has made cgroups');
my @outside = grep { my $dir = $_; !grep { index($dir, "$_/") == 0 } @nests } @dirs;
is("@outside", '', 'all of them below the one it was started in');
my @strays = grep { slurp("/proc/$_->{pid}/cgroup") !~ m{/\Q$name\E/?} } $brood->processes;
is(join(' ', map { "$_->{role} $_->{pid}" } @strays), '', 'and all its processes');

# An exit code says nothing: only the kernel's counter does.
sub reason {
    my ($cmd) = @_;
    my $r = $brood->sh(alice => $cmd);
    return $r->{reason} // "HTTP $r->{http}";
}
my $eat = q{perl -e '$x = "x" x (300 << 20); print length $x'};
is(reason('exit 137'), 'exit', '137 by itself is an exit');
is(reason('kill -9 $$'), 'signal', 'kill -9 is a signal');
is(reason("$eat; true"), 'exit', 'control: 300 MiB are within the limit of a namespace');

SKIP: {
    put(memory => 'memory.limit_in_bytes', 'memory.max', 160 << 20) or skip "the limit cannot be set: $!", 6;
    put(memory => 'memory.memsw.limit_in_bytes', 'memory.swap.max', $v2 ? 0 : 160 << 20);
    is(reason($eat), 'oom', 'memory: the limit above holds, and the run is told');
    is(reason('exit 137'), 'exit', 'but not the next one, which exits with 137');
    is(reason('kill -9 $$'), 'signal', 'nor one that kills itself');
    is(reason("$eat; true"), 'exit', 'a run that survives what was killed has exited');
    is(reason('exit 3'), 'exit', 'and the next one is not told of it');
    is($brood->sh(alice => 'echo hi')->{stdout}, "hi\n", 'the service itself was not killed');
    put(memory => 'memory.memsw.limit_in_bytes', 'memory.swap.max', $v2 ? 'max' : -1);
    put(memory => 'memory.limit_in_bytes', 'memory.max', $v2 ? 'max' : -1);
}

SKIP: {
    my $now = slurp("$nest{pids}/pids.current") + 0;
    put(pids => 'pids.max', 'pids.max', $now + 20) or skip "the limit cannot be set: $!", 2;
    my $r = $brood->sh(alice => q{perl -e 'for (1 .. 100) { my $pid = fork; last if !defined $pid; if (!$pid) { sleep 20; exit } $n++ } print $n; exit 1'});
    cmp_ok($r->{stdout} || 100, '<=', 20, "processes: no more than the limit above leaves ($r->{stdout})");
    put(pids => 'pids.max', 'pids.max', 'max');
    is($brood->sh(alice => 'echo hi')->{stdout}, "hi\n", 'and all goes on');
}

SKIP: {
    put(cpu => 'cpu.cfs_quota_us', 'cpu.max', $v2 ? '40000 100000' : 40000) or skip "the quota cannot be set: $!", 1;
    my $r = $brood->sh(alice => 'end=$((${EPOCHREALTIME/./} + 1500000)); while (( ${EPOCHREALTIME/./} < end )); do :; done');
    cmp_ok($r->{cpu_ms}, '<', 900, "processor: 1.5 s of looping get 40 % ($r->{cpu_ms} ms)");
    put(cpu => 'cpu.cfs_quota_us', 'cpu.max', $v2 ? 'max 100000' : -1);
}

$brood->stop;
is(join(' ', $brood->cgroup_dirs), '', 'no cgroup is left');
is(join(' ', grep { !rmdir } @nests), '', 'not even a process in the outer one: it can be removed');
done_testing;
END { rmdir for @nests }
