# SPDX-License-Identifier: Apache-2.0
# Activations and removals, again and again: what the kernel holds for the service afterwards is what it held before.
# What can be told to be ours must be the same to the last one: processes and zombies, descriptors, mounts, cgroups,
# entries of fs_root. The work is done in parts, and what the kernel counts for the whole machine must not grow with
# each of them, as what every namespace, or every tenth, loses does; what others on the machine hold comes and goes.
# CHURN=10000: as many namespaces in two parts, for `make soak`; 1,000 otherwise.
use lib 't/lib';
use Brood;
use Time::HiRes qw(time);

require_layer('root', 'cgroup');
my $total = $ENV{CHURN} // 1000;
my ($half, $at_once) = ($total / 2, 16);
alarm 170 + $total / 5;

# ---- what is counted ----------------------------------------------------------------------------

# The slab caches that a kernel object of a namespace comes from. Those of inodes and dentries of proc and directories
# are caches in the other sense, too: they are kept for later.
my @caches = qw(net_namespace user_namespace uts_namespace pid_namespace mnt_cache nsproxy pid cred task_struct
  signal_cache mm_struct files_cache filp sock_inode_cache shmem_inode_cache mqueue_inode_cache key_jar eventpoll_epi fsnotify_mark);

sub zombies {
    my %own = map { $_->{pid} => 1 } @_;
    return scalar grep { /\) Z (\d+)/ && $own{$1} } map { slurp("$_/stat") // () } glob '/proc/[0-9]*';
}

# Ours alone: must be equal.
sub own {
    my ($brood) = @_;
    my (%n, %dirs);
    my @processes = $brood->processes;
    for my $p (@processes) {
        $n{"processes: $p->{role}"}++;
        next unless $p->{role} =~ /^(?:priv|engine|frontend|primordial)$/;
        $n{"descriptors: $p->{role}"} += () = glob "/proc/$p->{pid}/fd/*";
        $n{"mounts seen by: $p->{role}"} = () = (slurp("/proc/$p->{pid}/mountinfo") // '') =~ /\n/g;
    }
    $dirs{m{^/sys/fs/cgroup/([^/]+)} ? $1 : $_}++ for $brood->cgroups_in_use;
    $n{"cgroups: $_"} = $dirs{$_} for keys %dirs;
    my %namespaces = map { $_ => 1 } map { my $p = $_->{pid}; map { readlink("/proc/$p/ns/$_") // () } qw(net user pid mnt ipc uts cgroup) } @processes;
    $n{'namespaces with a process'} = keys %namespaces;
    $n{'zombies'} = zombies(@processes);
    $n{'mounts of the host'} = () = $brood->mounts;
    $n{'entries of fs_root'} = () = grep { !/^\.blank-/ } $brood->entries; # one is made ahead for each start of a zygote, up to eight
    $n{'namespaces active'} = stats($brood)->{active};
    return \%n;
}

sub stats {
    my ($brood) = @_;
    my $text = `${\Brood::build()}/brood stats --socket $brood->{socket}`;
    return {$text =~ /^(\w+) +(\d+)$/mg};
}

# The whole machine's.
sub machine {
    my %n;
    my $slabs = slurp('/proc/slabinfo') // '';
    for my $cache (@caches) { $n{"slab $cache"} = $1 if $slabs =~ /^\Q$cache\E +(\d+)/m }
    my %cgroups = (slurp('/proc/cgroups') // '') =~ /^(memory|pids|cpu)\t\d+\t(\d+)/mg;
    $n{"cgroups alive or dying: $_"} = $cgroups{$_} for keys %cgroups;
    $n{'areas of loaded filters'} = () = (slurp('/proc/vmallocinfo') // '') =~ /bpf|seccomp/g;
    $n{'keys'} = () = (slurp('/proc/keys') // '') =~ /\n/g;
    $n{'links'} = () = (slurp('/proc/net/dev') // '') =~ /:/g;
    $n{'message queues, segments, semaphores'} = () = join('', map { slurp("/proc/sysvipc/$_") // '' } qw(msg shm sem)) =~ /\n/g;
    return \%n;
}

sub memory {
    my ($brood) = @_;
    my %n;
    for my $p (grep { $_->{role} =~ /^(?:priv|engine|frontend|primordial)$/ } $brood->processes) {
        ($n{$p->{role}}) = (slurp("/proc/$p->{pid}/smaps_rollup") // '') =~ /^Private_Dirty:\s+(\d+)/m;
    }
    return \%n;
}

sub differences {
    my ($was, $is, $allowed) = @_;
    return map { my $grown = ($is->{$_} // 0) - ($was->{$_} // 0); $allowed ? $grown > $allowed ? "$_: $was->{$_} + $grown" : () : $grown ? "$_: " . ($was->{$_} // 0) . ' -> ' . ($is->{$_} // 0) : () }
      sort keys %{{%$was, %$is}};
}

# ---- the work -----------------------------------------------------------------------------------

my ($made, $brood, @conns) = (0, Brood->start('namespaces-spares' => 8, config => "log:\n  level: warn\n"));
@conns = map { $brood->connect } 1 .. $at_once;

# Each leaves what can be left: a file, a pipe, a process, an object of SysV IPC, a POSIX queue's file system in use.
sub churn {
    my ($n) = @_;
    my $wrong = 0;
    while ($n > 0) {
        my @names = map { 'churn-' . ++$made } 1 .. ($n < $at_once ? $n : $at_once);
        $n -= @names;
        my @busy = map { my $ns = $names[$_]; [$conns[$_], $ns, $conns[$_]->put(Brood::Conn->request(POST => '/execute', body => {namespace_id => $ns,
            cmd => "echo $ns > file; mkfifo pipe; (sleep 60 &) ; " . ($_ % 8 ? '' : 'ipcmk -Q -M 4096 -S 1 >/dev/null; touch /dev/shm/x; ') . 'read x < file; echo $x'}))] } 0 .. $#names;
        for my $one (@busy) {
            my $res = $one->[0]->get(30);
            $wrong++ unless $res && $res->{status} == 200 && $res->{json}{stdout} eq "$one->[1]\n";
        }
        my $rm = join ' & ', map { my $from = $_; "${\Brood::build()}/brood ns rm --socket $brood->{socket} " . join ' ', grep { defined } @names[map { $from + 4 * $_ } 0 .. 3] } grep { defined $names[$_] } 0 .. 3;
        $wrong += () = `{ $rm & wait; } 2>&1` =~ /\n/g;
    }
    return $wrong;
}

sub is_settled {
    my ($was) = @_;
    my @other;
    until_true(20, sub { !(@other = differences($was, own($brood))) });
    return @other;
}

is(churn(64), 0, 'a warm-up');
ok(until_true(10, sub { my $s = stats($brood); $s->{spares} == 8 && !$s->{active} && !$s->{starting} && !$s->{ending} && !grep { /^\.trash/ } $brood->entries }), 'it is quiet');
my $begin = time;
my $calm = own($brood);
my (@memory, $machine, %lost) = memory($brood);
my $allowed = 100 + $half / 20;

# What has grown by more than that, unless it is seen to go away again: cgroups and kernel namespaces die late.
sub grown {
    my ($was) = @_;
    my @lost;
    until_true(10, sub { !(@lost = differences($was, machine(), $allowed)) });
    return map { /^(.*?): \d+ \+/ ? ($1 => $_) : () } @lost;
}

for my $part (1 .. 5) {
    is(churn($half), 0, "part $part: $half namespaces, $at_once at once, are activated and removed");
    is(join("\n", is_settled($calm)), '', 'what is ours is as it was');
    push @memory, memory($brood);
    my %now = $machine ? grown($machine) : ();
    %lost = $part == 2 ? %now : map { $now{$_} ? ($_ => "$lost{$_}, $now{$_}") : () } keys %lost;
    note(join "\n", map { "$_: $machine->{$_} before part $part" } sort keys %$machine) if $machine;
    $machine = machine();
    last if $part >= 2 && !%lost;
}
my $took = time - $begin;
is(join("\n", map { $lost{$_} } sort keys %lost), '', "nothing that the machine holds grows by more than $allowed with each part");
my @grown = map { my $role = $_; my @kb = map { $_->{$role} } @memory; $kb[-1] - $kb[-2] > 256 ? "$role: @kb KiB" : () } sort keys %{$memory[0]};
is(join(', ', @grown), '', 'none of our processes has grown in the last part by 256 KiB') unless Brood::build() =~ /asan/;

my @trees = grep { m{brood-[^/]+$} } $brood->cgroup_dirs;
cmp_ok(scalar(grep { m{/s\d+$} } $brood->cgroup_dirs), '<=', (8 + 64) * @trees, 'beside those of the spares no more than 64 are kept');

note(sprintf '%d namespaces in %.1f s, %.1f ms each', $made, $took, 1000 * $took / $made);
note(join "\n", map { "$_: $calm->{$_}" } sort keys %$calm);
note(join "\n", map { "$_: $machine->{$_} at the end" } sort keys %$machine);
note(join "\n", map { my $role = $_; "private memory of $role, KiB: " . join ' ', map { $_->{$role} } @memory } sort keys %{$memory[0]});
$brood->stop;
done_testing;
