# SPDX-License-Identifier: Apache-2.0
# The cgroups of a zygote that has ended stay for the next one of its slot. What is told of a run, and what limits it, must be
# the same in such a one as in one that was made for it; nor may who reads the image's files first pay for it every time.
use lib 't/lib';
use Brood;
use Cwd;

require_layer('root', 'cgroup');
my $brood = Brood->start('languages-dir' => getcwd() . '/etc/languages.d', 'namespaces-spares' => 1, 'limits-memory' => '128M', 'limits-tmp' => '32M', 'limits-pids' => 32);

sub code { return $brood->request(POST => '/execute', body => {language => 'bash', @_})->{json} }
sub dirs { return map { my @stat = stat $_; @stat ? "$_ $stat[1]" : () } grep { m{/s\d+$} } $brood->cgroup_dirs }

# More ends than there are slots at a time: some of the directories must be the same ones.
code(code => 'true');
my %before = map { $_ => 1 } dirs();
code(code => 'true') for 1 .. 20;
my @same = grep { $before{$_} } dirs();
cmp_ok(scalar @same, '>', 0, 'after twenty fresh namespaces, cgroups of before are there: ' . @same);

# What one tenant did is none of the next one's facts.
my $r = code(code => 'cat /usr/bin/* 2>/dev/null | head -c 60000000 | wc -c');
is($r->{reason}, 'exit', 'one reads many files of the image') or diag explain $r;
for (1 .. 5) {
    $r = code(code => 'true');
    cmp_ok($r->{max_rss_kb}, '<', 8000, "what was read before is not this one's memory");
}
my $bomb = q{perl -e 'my @a; push @a, "x" x (1 << 20) while 1'};
is(code(code => "exec $bomb")->{reason}, 'oom', 'one runs out of memory');
for (1 .. 5) {
    $r = code(code => 'exit 3');
    is($r->{reason}, 'exit', 'others do not, when they fail');
}
my $forks = q{perl -e 'for (1 .. 100) { my $pid = fork; exit 1 if !defined $pid; if (!$pid) { sleep 60; exit } }'};
is(code(code => "exec $forks")->{reason}, 'pids', 'one runs out of processes');
is(code(code => 'exit 3')->{reason}, 'exit', 'others do not') for 1 .. 5;

# What limits them is all there.
is(code(code => "exec $bomb")->{reason}, 'oom', 'memory is limited in one that was kept') for 1 .. 2;
is(code(code => q{perl -e 'my $x = "x" x (40 << 20); print length $x'})->{stdout}, 40 << 20, 'and what is allowed can be had') for 1 .. 2;
is(code(code => 'cat /usr/bin/* 2>/dev/null | head -c 60000000 | wc -c; ' . $bomb, limits => {memory_mb => 16})->{reason}, 'oom', 'less memory, too');
is(code(code => 'true', limits => {memory_mb => 16})->{reason}, 'exit', 'and one with less finds room') for 1 .. 3;

# Named namespaces that take turns.
$brood->stop;
$brood = Brood->start('namespaces-spares' => 1, 'namespaces-active-max' => 2, 'limits-memory' => '128M', 'limits-tmp' => '32M');
$brood->sh("n$_" => 'echo mine >file; head -c 30000000 /dev/zero >large') for 1 .. 6;
$r = $brood->sh("n$_" => 'cat file') and cmp_ok($r->{max_rss_kb}, '<', 8000, "n$_: what others wrote is not its memory") for 1 .. 6;
is($brood->sh(n3 => $bomb)->{reason}, 'oom', 'one runs out of memory');
is($brood->sh("n$_" => 'exit 3')->{reason}, 'exit', "n$_ does not") for 1 .. 6;
$brood->stop;
is(scalar $brood->cgroup_dirs, 0, 'no cgroup is left');
done_testing;
