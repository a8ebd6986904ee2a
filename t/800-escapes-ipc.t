# SPDX-License-Identifier: Apache-2.0
# The attacker leaves things in memory that outlive a run - SysV shm, semaphores, queues, POSIX shm, mqueues - to
# fill what its namespace may use, or to pass something to a neighbour.
use lib 't/lib';
use Brood;
use Brood::Attack;

my $brood = Brood->start('limits-memory' => '128M', 'limits-tmp' => '16M');
my $make = <<'PERL';
call(shmget => 29, 4711, 4096, 01666);
call(semget => 64, 4711, 3, 01666);
call(msgget => 68, 4711, 01666);
PERL
my $find = $make =~ s/01666/0666/gr;
my $got = attack($brood, mallory => $make . 'my $id = syscall 29, 4711, 4096, 0666; call(shmat => 30, $id, 0, 0);');
done($got, 'shmget', 'control: a segment can be made');
done($got, 'shmat', 'control: and used');
$got = attack($brood, bob => $find);
refused($got, $_, qr/^(?:ENOENT|ENOSYS|EPERM)$/, "a neighbour does not find the $_") for qw(shmget semget msgget);
$got = attack($brood, mallory => 'my $id = syscall 29, 4711, 4096, 0666; report(left => $id >= 0, "$id");');
refused($got, 'left', qr//, 'a segment that nobody uses is gone with the run');
$got = attack($brood, mallory => 'my $n = 0; for my $i (1 .. 600) { my $id = syscall 29, 5000 + $i, 1 << 20, 01666; last if $id < 0; syscall 30, $id, 0, 0; $n++ } print "segments\tdone\t$n\n";');
cmp_ok(said($got, 'segments'), '<=', 64, 'of 600 segments of 1 MiB it gets ' . said($got, 'segments'));
cmp_ok(said($got, 'segments'), '>', 0, 'control: but some');
my $limits = $brood->sh(mallory => 'cat /proc/sys/kernel/msgmni /proc/sys/kernel/sem /proc/sysvipc/shm | wc -l')->{stdout};
is($limits + 0, 3, 'afterwards there are none');
for (1 .. 3) { attack($brood, mallory => 'for (1 .. 2000) { last if syscall(68, 6000 + $_, 01666) < 0 } for (1 .. 2000) { last if syscall(64, 6000 + $_, 200, 01666) < 0 }') }
my $r = $brood->sh(mallory => 'cat /proc/sysvipc/msg /proc/sysvipc/sem | wc -l');
cmp_ok($r->{stdout}, '<=', 60, 'queues and semaphores that are left are few (' . ($r->{stdout} - 2) . ')');
# Perl holds it twice: 116 of 128 MiB, so that 16 MiB of left-over segments would be too much.
is($brood->sh(mallory => q{perl -e 'my $x = "x" x (58 << 20); print length $x'})->{stdout}, 58 << 20, 'and the memory of the namespace is there for the next run');
$got = attack($brood, mallory => 'call(mq_open => 240, "brood\0", 0102, 0666, 0);');
refused($got, 'mq_open', qr/^(?:EPERM|ENOSYS|EMFILE|ENOSPC)$/, 'POSIX message queues are not to be had');
# POSIX shared memory is a file in /dev/shm: small, and of one namespace.
$brood->sh(mallory => 'echo left > /dev/shm/left');
is($brood->sh(bob => 'ls -A /dev/shm')->{stdout}, '', 'nothing of /dev/shm in another namespace');
my $host = on_host($make);
control($host, qw(shmget semget msgget));

$brood->stop;
done_testing;
