# SPDX-License-Identifier: Apache-2.0
# The attacker makes device nodes and opens devices of the host.
use lib 't/lib';
use Brood;
use Brood::Attack;

my $brood = Brood->start;
my $nodes = <<'PERL';
my %device = (disk => [0060600, 254, 0], mem => [0020600, 1, 1], kmsg => [0020600, 1, 11], kvm => [0020600, 10, 232], zero => [0020666, 1, 5]);
for my $dir ('/tmp', $ENV{HOME} // '/tmp') {
    for my $name (sort keys %device) {
        my ($mode, $major, $minor) = @{$device{$name}};
        my $path = "$dir/node-$name";
        call("mknod $name $dir" => 133, "$path\0", $mode, $major << 8 | $minor);
        unlink $path;
    }
}
PERL
my $got = attack($brood, mallory => $nodes . <<'PERL');
for my $name (qw(mem kmem port kmsg vda sda nvme0n1 loop0 loop-control kvm fuse net/tun ptmx pts/0 console tty0 tty1 ttyS0 input/event0 hpet rtc0 vhost-net uinput snapshot mapper/control autofs cuse userfaultfd udmabuf dri/card0 nvram watchdog vsock)) {
    try("open $name" => sub { sysopen my $f, "/dev/$name", O_RDONLY | O_NONBLOCK });
}
try("open $_" => sub { sysopen my $f, "/dev/$_", O_RDWR }) for qw(null zero full random urandom);
try('fifo' => sub { !system 'mkfifo', '/tmp/fifo' });
call(socket_node => 133, "/tmp/sock\0", 0140600, 0);
PERL
for my $name (qw(disk mem kmsg kvm zero)) {
    for my $dir ('/tmp', '/work') { refused($got, "mknod $name $dir", qr/^(?:EPERM|EACCES)$/) }
}
my @opened = grep { /^open / && $got->{$_}[0] eq 'done' } keys %$got;
is(join(' ', sort map { s/^open //r } @opened), 'full null ptmx random urandom zero', 'five harmless devices can be opened, and terminals of its own');
my $listed = $brood->sh(mallory => 'ls /dev')->{stdout};
is($listed =~ s/\n/ /gr, 'fd full null ptmx pts random shm stderr stdin stdout tty urandom zero ', 'and that is all there is');
done($got, 'fifo', 'control: a fifo may be made');
# A node that lies in the volume already (a hostile or careless operator's tar) is no device there.
my $node = "$brood->{fs_root}/mallory/zero";
is(system('mknod', $node, 'c', 1, 5), 0, 'control: the host makes a node in the volume');
chmod 0666, $node;
ok(defined sysopen(my $f, $node, 0), 'control: which works on the host');
chown 1000, 1000, $node;
isnt($brood->sh(mallory => 'head -c 1 zero')->{exit_code}, 0, 'and inside is no device (nodev)');
control(on_host($nodes), 'mknod zero /tmp', 'mknod mem /tmp');
my $r = $brood->sh(mallory => 'ls /sys; ls /sys/class /sys/block /sys/kernel /sys/firmware 2>/dev/null; ls -d /sys/devices/*');
is($r->{stdout}, "devices\n/sys/devices/system\n", '/sys shows the CPU topology only');

$brood->stop;
done_testing;
