# SPDX-License-Identifier: Apache-2.0
# The attacker opens files by handle: a file system's inode number instead of a path, past every mount ("shocker").
use lib 't/lib';
use Brood;
use Brood::Attack;

my $brood = Brood->start;
my $attack = <<'PERL';
my $handle = pack('Ii', 128, 0) . "\0" x 128;
my $mount = pack 'i', 0;
my $r = call(name => 303, -100, "/usr\0", $handle, $mount, 0);
open my $dir, '<', $ENV{HOME} || '/root' or die;
sysopen $dir, '/usr', O_RDONLY | O_DIRECTORY or die;
substr($handle, 8) = pack('QI', 2, 0) . "\0" x 116 if $r < 0;         # inode 2, the root of an ext4
substr($handle, 0, 8) = pack('Ii', 8, 1) if $r < 0;
call(open => 304, fileno $dir, $handle, 0);
PERL
my $got = attack($brood, mallory => $attack);
refused($got, $_, qr/^EPERM$/) for qw(name open);
$got = attack($brood, mallory => <<'PERL');
sysopen my $home, $ENV{HOME}, O_RDONLY | O_DIRECTORY or die;
for my $inode (1 .. 200) { my $h = pack('IiII', 8, 1, $inode, 0) . "\0" x 64; my $fd = syscall 304, fileno $home, $h, O_RDONLY; report("inode $inode", 1, 'opened') if $fd >= 0 }
report('tried', 1, '200');
PERL
done($got, 'tried', '200 inodes of the volume\'s file system were tried');
is(scalar(grep { /^inode/ } keys %$got), 0, 'none could be opened');
my $host = on_host($attack);
control($host, 'name');
control($host, 'open');

$brood->stop;
done_testing;
