# SPDX-License-Identifier: Apache-2.0
# The attacker makes the kernel itself busy with what all share: its locks (routing, mounts, /proc), its file systems (sync), its
# processors (barriers, timers, signals), its directories. A neighbour must not be slowed by more than the machine's noise.
use lib 't/lib';
use Brood;
use Time::HiRes qw(time);

require_layer('root', 'cgroup', 'python3');
my $brood = Brood->start;
sub once { my $at = time; my $r = $brood->sh(neighbour => 'echo hi', timeout => 20); return $r->{stdout} eq "hi\n" ? time - $at : 99 }

my %noise = (
    'sync of all file systems' => q{perl -e 'syscall 162 while 1'},
    'fsync of its own file' => q{perl -e 'open F, ">", "f"; while (1) { syswrite F, "x" x 4096; syscall 74, fileno F }'},
    'the routing lock' => q{python3 -c 'import socket, struct
s = socket.socket(16, 3, 0); m = struct.pack("IHHIIBxHiII", 32, 18, 0x301, 1, 0, 0, 0, 0, 0, 0)
while True:
    s.send(m); s.recv(65536); s.recv(65536)'},
    'barriers on all processors' => q{python3 -c 'import ctypes
c = ctypes.CDLL(None); c.syscall(324, 4, 0, 0); c.syscall(324, 16, 0, 0)
while True: c.syscall(324, 2, 0, 0); c.syscall(324, 8, 0, 0)'},
    'timers of a nanosecond' => q{python3 -c 'import ctypes, signal, struct
c = ctypes.CDLL(None); signal.signal(signal.SIGUSR1, lambda *a: None); t = ctypes.c_int()
for i in range(30): c.syscall(222, 1, struct.pack("Qii", 0, 10, 0) + bytes(48), ctypes.byref(t)); c.syscall(223, t, 0, struct.pack("4q", 0, 1, 0, 1), 0)
while True: pass'},
    'signals to itself' => q{perl -e '$SIG{USR1} = sub { }; kill USR1 => $$ while 1'},
    'everything in /proc' => 'while :; do cat /proc/*/smaps /proc/*/maps /proc/net/* /proc/*/mountinfo /proc/stat /proc/vmstat /proc/interrupts; done >/dev/null 2>&1',
    'files made and removed' => q{perl -e 'while (1) { for (1 .. 50) { open F, ">", "n$_" } unlink glob "n*" }'},
    'mappings made and removed' => q{perl -e 'while (1) { my $a = syscall 9, 0, 64 << 20, 3, 0x8022, -1, 0; syscall 11, $a, 64 << 20 }'},
    'exec again and again' => q{echo 'exec bash ./again' > again; exec bash ./again},
    'watches of the image' => q{python3 -c 'import ctypes, os
c = ctypes.CDLL(None)
while True:
    fd = c.inotify_init1(0)
    for d in os.listdir("/usr/lib")[:200]: c.inotify_add_watch(fd, b"/usr/lib/" + d.encode(), 0xfff)
    os.close(fd)'},
    'a lock on the image, fought for' => q{for i in 1 2 3; do perl -e 'open F, "<", "/usr/bin/bash"; while (1) { flock F, 2; flock F, 8 }' & done; wait},
);
my $quiet;
for my $what (sort keys %noise) {
    my ($p50, $r, $n);
    for my $try (1 .. 3) {
        my $now = median(map { once() } 1 .. 40);
        $quiet = $now if !defined $quiet || $now > $quiet;
        my $conn = $brood->post(mallory => "touch begun; $noise{$what}", timeout => 0.5);
        $brood->wait_file('begun', 5);
        my @times;
        push @times, once() until $conn->readable || @times >= 2000;
        ($r, $n, $p50) = ($brood->result($conn, 30), scalar @times, median(@times, 0));
        $brood->sh(mallory => 'rm -f begun n* f again');
        last if $p50 < 3 * $quiet + 0.003;
    }
    is($r->{reason}, 'timeout', "$what: on until its deadline") or diag($r->{stdout}, $r->{stderr});
    cmp_ok($p50, '<', 3 * $quiet + 0.003, sprintf 'a neighbour: p50 %.2f ms beside it (%d runs), %.2f ms when quiet', 1000 * $p50, $n, 1000 * $quiet);
}

$brood->stop;
done_testing;
