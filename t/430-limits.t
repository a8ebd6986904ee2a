# SPDX-License-Identifier: Apache-2.0
# Limits: memory, processes, /tmp, file size, descriptors, cpu. Who hits one ends with the right reason,
# the namespace works afterwards, and a neighbour hardly notices.
use lib 't/lib';
use Brood;
use Time::HiRes qw(time);

require_layer('root', 'cgroup');
my $brood = Brood->start('limits-memory' => '128M', 'limits-pids' => 64, 'limits-tmp' => '32M', 'limits-nofile' => 200,
    'limits-fsize' => '10M', 'runs-grace' => '300ms');

sub neighbour {
    my ($n) = @_;
    return map { my $at = time; $brood->sh(neighbour => 'echo hi'); time - $at } 1 .. $n;
}

# Times a neighbour's runs until the given run is answered: (answer, median).
sub beside {
    my ($conn) = @_;
    my @times;
    push @times, neighbour(1) until $conn->readable || @times > 5000;
    my $r = $brood->result($conn);
    return ($r, @times ? median(@times) : 0, scalar @times);
}

neighbour(20);
my $quiet = median(neighbour(100));
my $eat = q{exec perl -e 'my @a; push @a, "x" x (1 << 20) while 1'};

subtest 'a memory bomb' => sub {
    my ($r, $p50, $n) = beside($brood->post(bomb => $eat, timeout => 20));
    is($r->{reason}, 'oom', 'reason oom');
    is($r->{exit_code}, undef, 'no exit code');
    is($r->{signal}, 'KILL', 'killed');
    cmp_ok($r->{max_rss_kb}, '>', 50_000, 'it had used a lot') if defined $r->{max_rss_kb};
    cmp_ok($r->{max_rss_kb}, '<', 160_000, 'but not more than its limit');
    SKIP: {
        skip 'it was over too soon to measure a neighbour', 1 if $n < 5;
        cmp_ok($p50, '<', 3 * $quiet + 0.002, sprintf 'neighbour p50 %.2f ms of %.2f ms when quiet', 1000 * $p50, 1000 * $quiet);
    }
    is($brood->sh(bomb => 'echo still here')->{stdout}, "still here\n", 'the next command works');
    $r = $brood->sh(bomb => "($eat); echo \"status \$?\"", timeout => 20);
    is($r->{http}, 200, 'a bomb in a subprocess');
    is($brood->sh(bomb => 'echo still here')->{stdout}, "still here\n", 'the next command works');
    $r = $brood->sh(bomb => 'x=x; while :; do x=$x$x; done', timeout => 20);
    ok($r->{reason} eq 'oom' || ($r->{reason} eq 'exit' && $r->{exit_code} != 0), "bash's own memory: $r->{reason}");
    is($brood->sh(bomb => 'echo still here')->{stdout}, "still here\n", 'the next command works');
    is($brood->sh(bomb => q{perl -e 'my $x = "x" x (40 << 20); print length $x'})->{stdout}, 40 << 20, 'and may use what is allowed');
};

subtest 'a fork bomb' => sub {
    my $bomb = 'bomb() { bomb | bomb & }; bomb; sleep 60';
    my ($r, $p50, $n) = beside($brood->post(forks => $bomb, timeout => 1.5));
    like($r->{reason}, qr/^(?:pids|timeout)$/, "reason $r->{reason}");
    cmp_ok($p50, '<', 3 * $quiet + 0.002, sprintf 'neighbour p50 %.2f ms of %.2f ms when quiet (%d runs)', 1000 * $p50, 1000 * $quiet, $n);
    is($brood->sh(forks => 'echo still here | cat')->{stdout}, "still here\n", 'the next command works');
    $r = $brood->sh(forks => 'for i in {1..40}; do sleep 0.3 & done; wait; echo all')->{stdout};
    is($r, "all\n", '40 processes are allowed');
    $r = $brood->sh(forks => q{exec perl -e '$| = 1; $n = 0; while ($n < 500) { $p = fork; last unless defined $p; if (!$p) { sleep 5; exit } $n++ } print $n'}, timeout => 5);
    cmp_ok($r->{stdout} || 0, '<', 65, '500 are not');
};

subtest 'a busy neighbour' => sub {
    my @conns = map { $brood->post("busy-$_" => 'while :; do :; done', timeout => 1.5) } 1 .. 2;
    my @times = neighbour(100);
    cmp_ok(median(@times), '<', 0.2, sprintf 'beside two busy loops: p50 %.2f ms of %.2f ms', 1000 * median(@times), 1000 * $quiet);
    is($brood->result($_)->{reason}, 'timeout', 'they end at their deadline') for @conns;
};

subtest '/tmp' => sub {
    my $r = $brood->sh(tmp => 'for i in 1 2 3 4; do head -c 9M /dev/zero > /tmp/big$i || echo $?; done; du -s -B1 /tmp | cut -f1', timeout => 20);
    my ($status, $size) = split ' ', $r->{stdout};
    is($status, 1, 'too much for /tmp is an error'); # the fourth: fsize is 10 MiB, tmp 32 MiB
    like($r->{stderr}, qr/No space left on device/, 'that says so');
    cmp_ok($size, '<=', 32 << 20, 'and does not take place');
    is($brood->sh(tmp => 'echo still here')->{stdout}, "still here\n", 'the next command works');
    $brood->sh(tmp => 'for d in /tmp /dev/shm; do for i in 1 2 3 4 5 6 7 8; do head -c 9M /dev/zero > $d/f$i; done; done; true', timeout => 20);
    is($brood->sh(tmp => q{perl -e 'my $x = "x" x (40 << 20); print length $x'})->{stdout}, 40 << 20, 'what a run leaves in memory does not kill the next');
    is($brood->sh('tmp-other' => 'ls -A /tmp')->{stdout}, '', 'it is private');
};

subtest 'a file' => sub {
    my $r = $brood->sh(file => 'head -c 20M /dev/zero > big; echo $?; stat -c %s big');
    my ($status, $size) = split ' ', $r->{stdout};
    isnt($status, 0, 'larger than fsize: it fails');
    is($size, 10 << 20, 'at the limit');
    is($brood->sh(file => 'rm big; head -c 9M /dev/zero > big; stat -c %s big')->{stdout}, (9 << 20) . "\n", 'below it works');
};

subtest 'descriptors' => sub {
    my $r = $brood->sh(files => q{ulimit -n; perl -e 'my @f; while (open my $f, "<", "/dev/null") { push @f, $f } print scalar @f'});
    my ($limit, $opened) = split /\n/, $r->{stdout};
    is($limit, 200, 'ulimit -n');
    cmp_ok($opened, '<', 200, 'is a limit');
    isnt($brood->sh(files => 'ulimit -n 100000')->{exit_code}, 0, 'that cannot be raised');
};

subtest 'cpu' => sub {
    my $r = $brood->sh(cpu => 'for i in 1 2 3 4; do (while :; do :; done) & done; wait', timeout => 1);
    is($r->{reason}, 'timeout', 'four busy loops');
    cmp_ok($r->{cpu_ms}, '<', 1.6 * $r->{wall_ms} + 150, sprintf 'get one cpu: %d ms in %d ms', $r->{cpu_ms}, $r->{wall_ms});
};

$brood->stop;
done_testing;
