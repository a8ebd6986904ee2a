# SPDX-License-Identifier: Apache-2.0
# A companion has the limits of a run to itself and cannot take more: not memory, not processes, not processor time; what it
# takes is not taken from the runs beside it, and all of them together have what SECURITY.md says.
use lib 't/lib';
use Brood;
use Brood::Wire;
BEGIN { require_layer('cgroup') }

my $brood = Brood->start('limits-memory' => '64M', 'limits-tmp' => '8M', 'limits-pids' => 40, 'limits-cpu-percent' => 20,
    'terminals-per-namespace' => 3, 'namespaces-fresh' => '8M');
my $wire = Brood::Wire->new($brood);
my $count = 0;
sub beside { my ($cmd, %more) = @_; return $wire->send(ns => 'alice', terminal => 't' . ++$count, cmd => $cmd, %more) }

# Memory.
my $glutton = beside('touch eating; perl -e \'$x = "x" x (1 << 20); push @y, $x . $_ for 1 .. 500; print "ate it all"\'; echo status $?');
my $r = $brood->sh(alice => 'perl -e \'$x = "x" x (30 << 20); print length $x\'');
is($r->{stdout}, 30 << 20, 'a run has its memory while a companion wants all');
$r = $wire->result($glutton);
ok($r->{reason} == 4 || $r->{stdout} eq "status 137\n", 'which is stopped at its own limit: ' . ($r->{stdout} || 'oom'));
cmp_ok($r->{max_rss_kb}, '<=', 64 << 10, '... by the figures as well');
# Perl holds it twice: three quarters of the limit.
my @eaters = map { beside("perl -e '\$x = chr(120) x (24 << 20); open F, q(>ate-$_); select undef, undef, undef, 0.02 until -e q(enough); print length \$x'") } 1 .. 3;
ok($brood->wait_file("ate-$_"), "companion $_ has 48 MiB") for 1 .. 3;
is($brood->sh(alice => 'perl -e \'$x = "x" x (24 << 20); print length $x\'')->{stdout}, 24 << 20, 'and the run as much: each has its own limit');
is($wire->run(ns => 'alice', terminal => 'fourth', cmd => 'true')->{outcome}, 10, 'a fourth there is not: the namespace has four times its limit, no more');
$brood->sh(alice => 'touch enough');
is($wire->result($_)->{stdout}, 24 << 20, 'none of them was in the way of another') for @eaters;

# /tmp is one for all, and bounded.
$r = $wire->result(beside('head -c 20000000 /dev/zero > /tmp/fill; stat -c %s /tmp/fill'));
cmp_ok($r->{stdout} || 0, '<=', 8 << 20, '/tmp is no larger for a companion');
is($brood->sh(alice => 'stat -c %s /tmp/fill; rm /tmp/fill')->{stdout}, $r->{stdout}, 'it is the one /tmp of the namespace');

# Processes.
my $bomb = beside('touch bombing; for i in {1..200}; do sleep 60 & done 2>/dev/null; ls /proc | grep -c "^[0-9]" > counted; while [ ! -e defused ]; do sleep 0.02; done 2>/dev/null', timeout => 15000);
ok($brood->wait_file('bombing'), 'a companion makes processes');
my ($zygotes) = grep { $_ > 0 } scalar $brood->pids('zygote');
ok(until_true(10, sub { my @c = $brood->pids('child'); @c >= 20 }), 'as many as it can');
cmp_ok(scalar(my @c = $brood->pids('child')), '<=', 2 * 40 + 8, '... and no more than its limit');
is($brood->sh(bob => 'for i in {1..10}; do /bin/true & done; wait; echo fine')->{stdout}, "fine\n", 'another namespace does not notice');
$wire->cancel($bomb);
is($wire->result($bomb)->{reason}, 8, 'it is cancelled, all of it');
ok(until_true(5, sub { !grep { (slurp("/proc/$_/cmdline") // '') =~ /^sleep\0/ } $brood->pids('child') }), 'no process of it is left');
is($brood->sh(alice => 'for i in {1..10}; do /bin/true & done; wait; echo fine')->{stdout}, "fine\n", 'its namespace is as before');

# Processor time: a quota each.
my @spin = map { beside("touch spin-$_; while [ ! -e spun ]; do :; done", timeout => 20000) } 1 .. 2;
ok($brood->wait_file("spin-$_"), "companion $_ spins") for 1 .. 2;
$r = $brood->sh(alice => 'for i in {1..20000}; do :; done; echo counted');
is($r->{stdout}, "counted\n", 'a run beside them has its share');
$brood->sh(alice => 'touch spun');
for (@spin) {
    my $of = $wire->result($_);
    cmp_ok($of->{cpu_us}, '<=', 0.2 * $of->{wall_us} * 1.5 + 60_000, "a fifth of a processor: $of->{cpu_us} of $of->{wall_us} us");
}
$r = $wire->result(beside('while :; do :; done', cpu => 100, timeout => 20000));
is($r->{reason}, 3, 'a limit of processor time ends it');
$r = $wire->result(beside('trap "" TERM; while :; do :; done', timeout => 300));
is($r->{reason}, 2, 'a deadline, too');
$r = $wire->result(beside('head -c 1000 /dev/zero | tr "\0" x | wc -c', memory => 32 << 20, pids => 10));
is($r->{stdout}, "1000\n", 'a run in a companion may ask for less') or diag($r->{text}, $r->{stderr});
$r = $wire->result(beside('true', memory => 65 << 20));
is($r->{outcome}, 1, 'not for more');

# When they are gone nothing of them is.
ok(until_true(5, sub { $wire->stats->{terminals} == 0 }), 'all of them are gone');
my @lived_in = grep { m{/s\d+$} } $brood->cgroups_in_use;
my @trees = grep { m{brood-[^/]+$} } $brood->cgroup_dirs;
cmp_ok(scalar @lived_in, '>', 0, 'somebody lives in the cgroups of others');
cmp_ok(scalar @lived_in, '<=', (2 + 8) * @trees, 'and nobody is in their cgroups: two namespaces and eight spares have theirs');
$brood->stop;
is(scalar $brood->cgroup_dirs, 0, 'no cgroup is left');
done_testing;
