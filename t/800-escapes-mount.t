# SPDX-License-Identifier: Apache-2.0
# The attacker changes what is mounted: a new file system, a bind, a writable /usr, a mask of /proc taken off.
use lib 't/lib';
use Brood;
use Brood::Attack;

my $brood = Brood->start;
my $attack = <<'PERL';
mkdir '/tmp/here'; mkdir '/tmp/there';
call(tmpfs => 165, "none\0", "/tmp/here\0", "tmpfs\0", 0, 0);
call(bind => 165, "/etc\0", "/tmp/here\0", "none\0", 4096, 0);
call(move => 165, "/tmp\0", "/tmp/there\0", "none\0", 8192, 0);
call(proc => 165, "proc\0", "/tmp/here\0", "proc\0", 0, 0);
call(open_tree => 428, -100, "/etc\0", 1);
call(fsopen => 430, "tmpfs\0", 0);
call(umount => 166, "/tmp/here\0", 2);
PERL
my $box = <<'PERL';
call(remount_usr => 165, "none\0", "/usr\0", "none\0", 32 | 4096, 0); # MS_REMOUNT | MS_BIND, writable
call(remount_root => 165, "none\0", "/\0", "none\0", 32 | 4096, 0);
call(suid_home => 165, "none\0", "/work\0", "none\0", 32 | 4096, 0);
call(unmask => 166, "/proc/kallsyms\0", 2);
call(unmount_proc => 166, "/proc\0", 2);
call(setattr => 442, -100, "/usr\0", 0, pack('Q4', 0, 1, 0, 0), 32); # clears MOUNT_ATTR_RDONLY
call(pivot_root => 155, "/tmp\0", "/tmp/there\0");
PERL

my $before = $brood->sh(mallory => 'cat /proc/self/mountinfo')->{stdout};
like($before, qr{ / /tmp | /tmp /tmp }, 'there is a mount table to attack');
my $got = attack($brood, mallory => $attack . $box);
my @tried = qw(tmpfs bind move proc open_tree fsopen umount);
refused($got, $_, qr/^(?:EPERM|EACCES|ENOSYS)$/) for @tried, qw(remount_usr remount_root suid_home unmask unmount_proc setattr pivot_root);
is($brood->sh(mallory => 'cat /proc/self/mountinfo')->{stdout}, $before, 'nothing of it is left in the mount table');
unlike($before, qr/^(?!.* (?:ro|rw)[^ ]*,?nosuid)/m, 'no mount without nosuid');
my @dev_allowed = grep { !/ \S*nodev\S* / } split /\n/, $before;
is(join("\n", grep { !m{ /(?:null)? /(?:dev|proc/)} } @dev_allowed), '', 'no mount without nodev but /dev and the masks made of its null');
my @writable = sort map { (split)[4] } grep { (split)[5] =~ /^rw/ } split /\n/, $before;
is_deeply([grep { !m{^/(?:dev/shm|dev/pts|work|proc|tmp)$} } @writable], [], 'writable are home, /tmp, /dev/shm, /dev/pts and proc only');
control(on_host($attack), qw(tmpfs bind proc open_tree fsopen));

$brood->stop;
done_testing;
