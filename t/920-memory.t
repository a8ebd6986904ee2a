# SPDX-License-Identifier: Apache-2.0
# Our own processes stay as small as they are: whatever a run prints, however many runs there were. Descriptors,
# processes, mounts and cgroups are as many after a thousand runs as before.
use lib 't/lib';
use Brood;

my $asan = Brood::build() =~ /asan/; # its shadow and quarantine grow as they like
my $brood = Brood->start(tcp => 1);

sub fds {
    my %n;
    for my $p (grep { $_->{role} =~ /^(?:priv|engine|frontend|primordial)$/ } $brood->processes) {
        $n{$p->{role}} = () = glob "/proc/$p->{pid}/fd/*";
    }
    return \%n;
}

# Watches how much our processes grow from now on: a function that takes a sample and returns (most, who).
# It reads their files only, so that it comes round often enough to see a peak.
sub watch {
    my $before = $brood->memory;
    my ($most, $who) = (0, 'none');
    return sub {
        for my $name (keys %$before) {
            my ($kb) = (slurp('/proc/' . (split ' ', $name)[1] . '/status') // '') =~ /^VmRSS:\s+(\d+)/m or next;
            ($most, $who) = ($kb - $before->{$name}, $name) if $kb - $before->{$name} > $most;
        }
        return ($most, $who);
    };
}

sub growth_during {
    my ($conn, $seconds) = @_;
    my $sample = watch();
    my $ended = until_true($seconds, sub { $sample->(); $conn->readable });
    my $r = $brood->result($conn, 20);
    return ($sample->(), $ended ? $r : {});
}

sub is_flat {
    my ($what, $cmd, $check, %more) = @_;
    my ($most, $who, $r) = growth_during($brood->post(alice => $cmd, timeout => 60, %more), 60);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok($check->($r), "$what: answered as it should be") or diag("http $r->{http}, reason ", $r->{reason} // '-', ", stdout $r->{stdout_bytes}, stderr $r->{stderr_bytes}");
    ok($asan || $most < 8192, "$what: none grew by 8 MiB (most: $most KiB, $who)");
}

$brood->sh(alice => 'true') for 1 .. 5;
$brood->sh(alice => 'head -c 2000000 /dev/zero');
is_flat('200 MB to stdout', q{head -c 200000000 /dev/zero | tr '\0' y}, sub { $_[0]{stdout_bytes} == 200_000_000 && $_[0]{stdout_truncated} && length $_[0]{stdout} == 1048576 });
is_flat('200 MB to stderr', q{head -c 200000000 /dev/zero | tr '\0' y >&2}, sub { $_[0]{stderr_bytes} == 200_000_000 && $_[0]{stderr_truncated} });
is_flat('200 MB of what JSON must escape', q{head -c 200000000 /dev/zero}, sub { $_[0]{stdout_bytes} == 200_000_000 && $_[0]{stdout} eq "\0" x 1048576 });
is_flat('200 MB as base64', q{head -c 200000000 /dev/zero}, sub { $_[0]{stdout_bytes} == 200_000_000 }, encoding => 'base64');
is_flat('a million lines', q{yes | head -n 1000000}, sub { $_[0]{stdout_bytes} == 2_000_000 });
{
    my $slow = $brood->post(alice => q{head -c 100000000 /dev/zero | tr '\0' z; echo end >&2});
    my $sample = watch();
    until_true(1.5, sub { $sample->(); 0 }); # it does not read
    my ($most) = $sample->();
    ok($asan || $most < 8192, "an answer that the client does not read: none grew by 8 MiB ($most KiB)");
    is($brood->result($slow)->{stderr}, "end\n", 'it is complete when it is read at last');
}
{
    open my $cli, '-|', Brood::build() . "/brood exec -n alice --socket $brood->{socket} -- 'head -c 200000000 /dev/zero'" or die;
    my ($sample, $n, $reads) = (watch(), 0, 0);
    while (my $got = sysread $cli, my $bytes, 1 << 20) {
        $n += $got;
        $sample->() if $reads++ % 32 == 0;
    }
    close $cli;
    my ($most) = $sample->();
    is($n, 200_000_000, 'the CLI streams 200 MB');
    ok($asan || $most < 8192, "past our processes ($most KiB)");
}

subtest 'a thousand runs' => sub {
    my $run = sub {
        my ($n) = @_;
        for my $i (1 .. $n) {
            my $kind = $i % 10;
            my ($cmd, %more) = $kind == 0 ? ('(sleep 60; sleep 60) & (trap "" TERM; setsid sleep 60) & exit 3') : $kind == 1 ? ('cat | wc -c', stdin => 'x' x 20_000)
              : $kind == 2 ? ('echo "$A" | tr a-z A-Z', env => {A => 'x' x 1000}) : $kind == 3 ? ('kill -9 $$') : $kind == 4 ? (q{head -c 300000 /dev/zero | tr '\0' z}) : $kind == 5 ? ('if then')
              : ('echo hi');
            my $r = $brood->sh('ns-' . $i % 7 => $cmd, %more);
            return fail("run $i: $r->{http}") unless $r->{http} == 200;
        }
        return 1;
    };
    $run->(100);
    my $count = sub { my %n; $n{$_->{role}}++ for $brood->processes; delete $n{child}; return \%n };
    my ($fds, $mounts, $dirs, $procs, $memory) = (fds(), join("\n", $brood->mounts), scalar($brood->cgroup_dirs), $count->(), $brood->memory);
    ok($run->(1000), 'all are answered');
    my $after;
    ok(until_true(5, sub { $after = fds(); !grep { $after->{$_} > $fds->{$_} } keys %$fds }), 'no more descriptors: ' . join(', ', map { "$_ $after->{$_}" } sort keys %$after)) or diag(join ', ', map { "$_ $fds->{$_}" } sort keys %$fds);
    is_deeply($count->(), $procs, 'as many processes');
    is(join("\n", $brood->mounts), $mounts, 'as many mounts');
    is(scalar($brood->cgroup_dirs), $dirs, 'as many cgroups');
    my $now = $brood->memory;
    my @grown = map { sprintf '%s +%d KiB', $_, $now->{$_} - $memory->{$_} } grep { defined $now->{$_} && $now->{$_} - $memory->{$_} > 1024 } keys %$memory;
    is($asan ? '' : "@grown", '', 'none of our processes grew by 1 MiB');
    my @kids;
    ok(until_true(8, sub { (@kids = grep { $_->{role} eq 'child' } $brood->processes) == 8 }), 'soon only the first children of the spares wait') or diag(scalar @kids);
};

subtest 'a hundred namespaces come and go' => sub {
    my $cycle = sub {
        my ($round) = @_;
        my @conns = map { $brood->post("cycle-$_" => 'echo x > x') } 1 .. 25;
        my @bad = grep { $brood->result($_)->{http} != 200 } @conns;
        my $names = join ' ', map { "cycle-$_" } 1 .. 25;
        until_true(10, sub { 0 == system Brood::build() . "/brood ns rm --socket $brood->{socket} $names 2>/dev/null" });
        return !@bad;
    };
    $cycle->(0);
    my $spares = sub { until_true(10, sub { my $n = () = $brood->pids('zygote'); $n == 8 + 8 }) }; # alice, ns-0 .. 6; eight spares
    ok($spares->(), 'the pool is full');
    until_true(5, sub { !grep { /^\.trash/ } $brood->volumes });
    my ($fds, $dirs, $memory) = (fds(), scalar($brood->cgroups_in_use), $brood->memory);
    ok($cycle->($_), "round $_") for 1 .. 4;
    ok($spares->(), 'the pool is full again');
    my $after;
    ok(until_true(10, sub { $after = fds(); !grep { $after->{$_} > $fds->{$_} } keys %$fds }), 'no more descriptors: ' . join(', ', map { "$_ $after->{$_}" } sort keys %$after)) or diag(join ', ', map { "$_ $fds->{$_}" } sort keys %$fds);
    ok(until_true(10, sub { $brood->cgroups_in_use <= $dirs }), "no more cgroups ($dirs)");
    my $now = $brood->memory;
    my @grown = map { sprintf '%s +%d KiB', $_, $now->{$_} - $memory->{$_} } grep { defined $now->{$_} && $now->{$_} - $memory->{$_} > 1024 } keys %$memory;
    is($asan ? '' : "@grown", '', 'none of our processes grew by 1 MiB');
};

# Last, since memory that was used once stays with a process and would hide what the others look for.
{
    my $sample = watch();
    my $held = 'x' x 900_000;
    my @conns = map { $brood->post(alice => 'sleep 0.3', stdin => $held) } 1 .. 20;
    ok(until_true(10, sub { ($sample->())[0] > 2048 }) || $asan, 'control: twenty large requests at once are seen in the figures');
    $brood->result($_) for @conns;
}

$brood->stop;
done_testing;
