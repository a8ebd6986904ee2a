# SPDX-License-Identifier: Apache-2.0
# The attacker gets more file than its limits allow, without writing: holes, fallocate in all its modes, truncate, mappings,
# copies inside the kernel - in its home, and in /tmp, which is memory.
use lib 't/lib';
use Brood;
use Brood::Attack;

require_layer('root', 'cgroup');
my $brood = Brood->start('limits-fsize' => '4M', 'limits-tmp' => '8M', 'limits-memory' => '64M');
my $got = attack($brood, mallory => <<'PERL', timeout => 20);
$SIG{XFSZ} = 'IGNORE';
for my $dir ('/tmp', '/dev/shm', $ENV{HOME}) {
    my $path = "$dir/sparse";
    sysopen my $f, $path, O_RDWR | O_CREAT or die;
    my $fd = fileno $f;
    call("truncate $dir" => 76, "$path\0", 1 << 40);
    call("ftruncate $dir" => 77, $fd, 5 << 20);
    call("huge $dir" => 77, $fd, (1 << 63) - 1);
    call("negative $dir" => 77, $fd, -1);
    call("fallocate $dir" => 285, $fd, 0, 0, 5 << 20);
    call("far $dir" => 285, $fd, 0, 1 << 40, 4096);
    call("overflow $dir" => 285, $fd, 0, (1 << 63) - 4096, 8192);
    call("insert $dir" => 285, $fd, 0x20, 0, 8 << 20);
    call("zero range $dir" => 285, $fd, 0x10, 0, 5 << 20);
    try("write far $dir" => sub { sysseek $f, 1 << 40, 0; syswrite $f, 'x' });
    try("pwrite far $dir" => sub { my $x = 'x'; my $r = syscall 18, $fd, $x, 1, 1 << 50; $r >= 0 });
    call("within $dir" => 77, $fd, 1 << 20);
    close $f;
    unlink $path;
}
# Reserved beyond the end: in memory it must be counted.
sysopen my $f, '/tmp/keep', O_RDWR | O_CREAT or die;
call("keep size" => 285, fileno $f, 1, 0, 64 << 20);
my $n = 0;
for (1 .. 40) { sysopen my $g, "/tmp/k$_", O_RDWR | O_CREAT or last; last if syscall(285, fileno $g, 1, 0, 1 << 20) < 0; $n++ }
print "reserved\tdone\t$n\n";
PERL
for my $dir ('/tmp', '/dev/shm', '/work') {
    refused($got, "$_ $dir", qr/^(?:EFBIG|EINVAL|ENOSPC|EOPNOTSUPP|ENOTSUP)$/) for 'truncate', 'ftruncate', 'huge', 'negative', 'fallocate', 'far', 'overflow', 'insert', 'write far', 'pwrite far';
    done($got, "within $dir", "control: a hole of 1 MiB in $dir");
}
refused($got, "zero range $_", qr/^(?:EFBIG|EOPNOTSUPP|ENOTSUP)$/) for '/tmp', '/work';
refused($got, 'keep size', qr/^(?:EFBIG|ENOSPC)$/);
cmp_ok(said($got, 'reserved'), '<=', 8, 'and of 40 reservations of 1 MiB ' . said($got, 'reserved') . ' are given');
cmp_ok(said($got, 'reserved'), '>', 2, 'control: but some');
is($brood->sh(mallory => 'rm -f /tmp/*; perl -e \'my $x = "x"; $x x= 24 << 20; print length $x\'')->{stdout}, 24 << 20, 'the memory is there again');
my $r = $brood->sh(mallory => 'truncate -s 4M hole; for i in {1..50}; do cp --sparse=always hole h$i; done; du -s . | cut -f1; cat h* > whole; ls -l whole | cut -d" " -f5', timeout => 20);
my ($used, $whole) = split ' ', $r->{stdout};
cmp_ok($used, '<', 2000, "holes take no place ($used KiB)");
cmp_ok($whole, '<=', 4 << 20, "and a file made of them ends where files end ($whole)");
is($brood->sh(alice => 'echo x > /tmp/x; cat /tmp/x')->{stdout}, "x\n", 'a neighbour notices nothing');

$brood->stop;
done_testing;
