# SPDX-License-Identifier: Apache-2.0
# Companion and run share a directory, so a socket in it, so descriptors: one side hands the other its pidfd, its /proc, its
# root, and that one tries to make something of them that it may not do by itself: signal, enter, become.
use lib 't/lib';
use Brood;
use Brood::Wire;
BEGIN { require_layer('python3') }

my $brood = Brood->start;
my $wire = Brood::Wire->new($brood);
my $giver = <<'PY';
import os, socket, time
s = socket.socket(socket.AF_UNIX); s.bind('/work/hand'); s.listen(1)
c, _ = s.accept()
fds = [os.open(p, os.O_RDONLY | os.O_DIRECTORY) for p in ('/proc', '/proc/self', '/', '/dev/pts')]
fds += [os.open(p, os.O_RDONLY) for p in ('/proc/self/ns/pid', '/proc/self/ns/mnt')]
try: fds.append(os.pidfd_open(os.getpid()))
except OSError: pass
socket.send_fds(c, [b'%d' % os.getpid()], fds)
c.recv(1)
print('alive')
PY
my $taker = <<'PY';
import ctypes, errno, os, signal, socket, time
libc = ctypes.CDLL(None, use_errno=True)
s = socket.socket(socket.AF_UNIX)
while True:
    try: s.connect('/work/hand'); break
    except OSError: time.sleep(0.02)
pid, fds, _, _ = socket.recv_fds(s, 100, 10)
proc, itself, root, pts, ns_pid, ns_mnt = fds[:6]

def attempt(name, act):
    try: r = act(); print(name, 'done', r)
    except OSError as e: print(name, 'refused', errno.errorcode[e.errno])
def raw(nr, *a):
    r = libc.syscall(nr, *a)
    if r < 0: raise OSError(ctypes.get_errno(), '')
    return r
def others():
    found = [n for n in os.listdir(proc) if n.isdigit() and n != pid.decode()]
    if not found: raise OSError(errno.ENOENT, '')
    return found
attempt('control', lambda: 'usr' in os.listdir(root) and 'uptime' in os.listdir(proc))
attempt('pid1', lambda: os.stat('1', dir_fd=proc))
attempt('pid1-mem', lambda: os.open('1/mem', os.O_RDWR, dir_fd=proc))
attempt('pid1-root', lambda: os.open('1/root', os.O_RDONLY, dir_fd=proc))
attempt('others', others)
attempt('sysctl', lambda: os.write(os.open('sys/kernel/pid_max', os.O_WRONLY, dir_fd=proc), b'400'))
attempt('enter-pid', lambda: raw(308, ns_pid, 0))
attempt('enter-mnt', lambda: raw(308, ns_mnt, 0))
attempt('chroot', lambda: (os.fchdir(root), os.chroot('.'))[1])
attempt('shadow', lambda: os.open('etc/shadow', os.O_RDONLY, dir_fd=root))
attempt('usr', lambda: os.open('usr/x', os.O_WRONLY | os.O_CREAT, dir_fd=root))
attempt('outside', lambda: os.open('../../../../etc/shadow', os.O_RDONLY, dir_fd=proc))
if len(fds) > 6:
    attempt('signal', lambda: signal.pidfd_send_signal(fds[6], signal.SIGKILL))
    attempt('getfd', lambda: raw(438, fds[6], 0, 0))
    attempt('madvise', lambda: raw(440, fds[6], 0, 0, 0, 0))
    attempt('setns-pidfd', lambda: raw(308, fds[6], 0x20000000))
attempt('tty', lambda: os.open('0', os.O_RDWR, dir_fd=pts))
attempt('owner', lambda: __import__('fcntl').fcntl(s, 8, int(pid)))
s.send(b'x')
PY
my @refused = qw(pid1 pid1-mem pid1-root others sysctl enter-pid enter-mnt chroot shadow usr outside signal getfd madvise setns-pidfd tty);

sub exchange {
    my ($giving, $taking, $what) = @_;
    $brood->sh(alice => 'rm -f hand');
    my $handle = $giving->($giver);
    my $r = $taking->($taker);
    my %said = ($r->{stdout} // '') =~ /^(\S+) (.*)$/mg;
    is($said{control}, 'done True', "$what: descriptors are handed over") or diag($r->{stdout}, $r->{stderr}, $r->{text});
    like($said{$_} // 'refused: there is no pidfd', qr/^refused/, "$what: $_ is refused (" . ($said{$_} // '-') . ')') for @refused;
    is($handle->()->{stdout}, "alive\n", "$what: who gave them lives");
}

sub of_run { my ($code) = @_; my $c = $brood->post(alice => 'python3 -', stdin => $code); return sub { $brood->result($c, 10) } }
sub of_companion { my ($code) = @_; my $t = $wire->send(ns => 'alice', terminal => 'g', cmd => 'python3 -', stdin => $code); return sub { $wire->result($t) } }
exchange(\&of_companion, sub { of_run($_[0])->() }, 'from companion to run');
ok(until_true(5, sub { $wire->stats->{terminals} == 0 }), 'the first companion is gone');
exchange(\&of_run, sub { of_companion($_[0])->() }, 'from run to companion');

$brood->stop;
done_testing;
