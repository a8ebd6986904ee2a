# SPDX-License-Identifier: Apache-2.0
# The attacker turns to the file system below its files: freezes it, trims it, shuts it down, makes files that cannot be removed,
# leaves its quota project, or holds leases and locks on what all share.
use lib 't/lib';
use Brood;
use Brood::Attack;

require_layer('root', 'cgroup');
my $brood = Brood->start;
my $harmless = <<'PERL';
my $home = $ENV{BROOD_HOME} || $ENV{HOME} || '/tmp';
sysopen my $f, "$home/ioctl", O_RDWR | O_CREAT or die "open: $!";
sysopen my $dir, $home, O_RDONLY | O_DIRECTORY or die;
my ($fd, $dfd) = (fileno $f, fileno $dir);
sub long { return pack 'q', $_[0] }
call('immutable' => 16, $fd, 0x40086602, long(0x10));
call('append only' => 16, $fd, 0x40086602, long(0x20));
PERL
my $got = attack($brood, mallory => $harmless . <<'PERL');
call('immutable home' => 16, $dfd, 0x40086602, long(0x10));
call('journal data' => 16, $fd, 0x40086602, long(0x4000));
call('freeze' => 16, $dfd, 0xc0045877, 0);
call('thaw' => 16, $dfd, 0xc0045878, 0);
call('trim' => 16, $dfd, 0xc0185879, pack('QQQ', 0, ~0, 0));
call('shutdown' => 16, $dfd, 0x8004587d, pack('L', 2));
call('swap boot' => 16, $fd, 0x6611, 0);
call('resize' => 16, $dfd, 0x40086610, pack('Q', 1000));
call('label' => 16, $dfd, 0x41009432, "mallory\0" . "\0" x 248);
call('uuid' => 16, $dfd, 0x4008662c, "\0" x 64);
call('group add' => 16, $dfd, 0x40286608, "\0" x 64);
call('project' => 16, $fd, 0x401c5820, pack('LLLLL', 0, 0, 0, 4711, 0) . "\0" x 8);
call('block of file' => 16, $fd, 1, pack('i', 0));
call('setlease write' => 72, $fd, 1024, 1);
sysopen my $image, '/usr/bin/bash', O_RDONLY or die;
call('lease on the image' => 72, fileno $image, 1024, 0);
call('truncate the image' => 76, "/usr/bin/bash\0", 0);
call('xattr on the image' => 190, fileno $image, "user.x\0", "x", 1, 0);
call('trusted xattr' => 190, $fd, "trusted.x\0", "x", 1, 0);
call('security xattr' => 190, $fd, "security.x\0", "x", 1, 0);
call('capability' => 190, $fd, "security.capability\0", pack('LLLLL', 0x02000001, 0xff, 0, 0, 0), 20, 0);
call('user xattr' => 190, $fd, "user.x\0", "x", 1, 0);
my $flags = long(0);
call('flags' => 16, $fd, 0x80086601, $flags);
PERL
refused($got, $_, qr/^(?:EPERM|EACCES)$/) for 'immutable', 'append only', 'immutable home', 'freeze', 'thaw', 'lease on the image', 'truncate the image', 'capability', 'trusted xattr';
refused($got, $_, qr/^(?:EPERM|EACCES|ENOTTY|EOPNOTSUPP|ENOTSUP|EINVAL|EROFS)$/) for 'journal data', 'trim', 'shutdown', 'swap boot', 'resize', 'label', 'uuid', 'group add', 'project', 'block of file', 'xattr on the image', 'security xattr';
done($got, $_, "control: $_ works") for 'setlease write', 'user xattr', 'flags';
my $dir = "$brood->{dir}/host";
mkdir $dir;
local $ENV{BROOD_HOME} = $dir;
my $host = on_host($harmless);
control($host, 'immutable');
system 'chattr', '-i', '-a', "$dir/ioctl";

# Whatever flags and leases a run leaves, its namespace can be used and removed.
$brood->sh(mallory => q{mkdir d; touch d/x; chattr +A +d +D +S +c +u +s d d/x . 2>/dev/null; perl -e 'open F, "+>", "d/leased"; fcntl F, 1024, 1; fork and exit; sleep 60'});
is($brood->sh(mallory => 'ls d')->{stdout}, "leased\nx\n", 'the next run reads it');
my $out = `${\Brood::build()}/brood ns rm --socket $brood->{socket} mallory 2>&1`;
is($?, 0, 'the namespace is removed') or diag($out);
ok(until_true(20, sub { !grep { !/^\.(?:lock|blank-.*)$/ } $brood->volumes }), 'with everything in it') or diag(join ' ', $brood->volumes);

$brood->stop;
done_testing;
