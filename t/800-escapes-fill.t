# SPDX-License-Identifier: Apache-2.0
# The attacker fills what is shared by the runs of its namespace: /tmp and /dev/shm with bytes and with inodes, to
# make pid 1 a victim of the OOM killer or every later run one.
use lib 't/lib';
use Brood;

require_layer('root', 'cgroup');
my $brood = Brood->start('limits-memory' => '64M', 'limits-tmp' => '24M', 'limits-fsize' => '1G');
my $zygote = $brood->zygote_of('mallory');
my $r = $brood->sh(mallory => 'cat /dev/zero > /tmp/fill; cat /dev/zero > /dev/shm/fill; du -cB1 /tmp /dev/shm | tail -n 1', timeout => 20);
like($r->{stderr}, qr/No space left on device.*No space left on device/s, 'both are full at some time');
my ($used) = $r->{stdout} =~ /^(\d+)/;
cmp_ok($used, '<=', 24 << 20, "together they hold what one may ($used)");
cmp_ok($used, '>', 20 << 20, 'control: and were filled');
$r = $brood->sh(mallory => 'rm /tmp/fill /dev/shm/fill; i=0; while : > /tmp/f$i; do ((i++)); done 2>/tmp/err; echo $i', timeout => 30);
cmp_ok($r->{stdout}, '<', 20_000, "inodes end, too ($r->{stdout})");
cmp_ok($r->{stdout}, '>', 100, 'control: there were some');
for my $i (1 .. 3) { # each run dirties what it can; memory of the tmpfs stays charged to the namespace
    $brood->sh(mallory => 'rm -rf /tmp/* /dev/shm/*; cat /dev/zero > /tmp/fill; cat /dev/zero > /dev/shm/fill', timeout => 20);
    is($brood->sh(mallory => 'echo still here')->{stdout}, "still here\n", "full, time $i: the next run works");
}
is($brood->sh(mallory => q{perl -e 'my $x = "x"; $x x= 12 << 20; print length $x'})->{stdout}, 12 << 20, 'and has memory of its own');
$r = $brood->sh(mallory => q{perl -e 'my @a; push @a, "x" x (1 << 20) while 1'}, timeout => 20);
is($r->{reason}, 'oom', 'out of memory beside a full /tmp kills the run');
is($brood->zygote_of('mallory'), $zygote, 'never the zygote');
is($brood->sh(other => 'df --output=pcent /tmp | tail -n 1')->{stdout} =~ s/\s//gr, '0%', 'another namespace has a /tmp of its own');
is($brood->sh(mallory => 'for d in / /run /dev /usr /etc /var /proc; do head -c 1 /dev/zero > $d/x && echo "$d"; done 2>/dev/null; echo none')->{stdout}, "none\n", 'nothing else can be filled');

$brood->stop;
done_testing;
