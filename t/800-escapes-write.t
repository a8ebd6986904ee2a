# SPDX-License-Identifier: Apache-2.0
# The attacker writes outside home, /tmp and /dev/shm: files, directories, links, renames, times, attributes.
use lib 't/lib';
use Brood;
use Brood::Attack;

my $brood = Brood->start;
my $attack = <<'PERL';
my @dirs = qw(/ /usr /usr/bin /usr/lib /etc /etc/alternatives /dev /proc /sys /run /run/empty /var /home /root /sys/devices/system/cpu);
for my $dir (@dirs) {
    try("create $dir" => sub { spill("$dir/brood-was-here", 'x') });
    try("mkdir $dir" => sub { mkdir "$dir/brood-dir" });
    try("symlink $dir" => sub { symlink '/etc/passwd', "$dir/brood-link" });
    try("chmod $dir" => sub { chmod 0777, $dir });
    try("rename $dir" => sub { rename $dir, "$dir-2" });
    try("remove $dir" => sub { rmdir $dir });
}
for my $file (qw(/etc/passwd /etc/group /etc/hosts /usr/bin/ls /usr/bin/bash)) {
    try("append $file" => sub { spill($file, 'x', O_WRONLY | O_APPEND) });
    try("truncate $file" => sub { truncate $file, 0 });
    try("unlink $file" => sub { unlink $file });
    try("over $file" => sub { spill('/tmp/new', 'x'); rename '/tmp/new', $file });
    try("utime $file" => sub { utime 0, 0, $file });
    try("chown $file" => sub { chown 1000, 1000, $file });
    try("link $file" => sub { link $file, '/work/linked' });
}
PERL
my $got = attack($brood, mallory => $attack);
my @tried = grep { / / } sort keys %$got;
cmp_ok(scalar @tried, '>=', 110, scalar(@tried) . ' attempts were made');
my @worked = grep { $got->{$_}[0] ne 'refused' } @tried;
is("@worked", '', 'none of them worked');
my %why;
$why{$got->{$_}[1]}++ for @tried;
# An attempt on what is not there proves nothing: only /proc's virtual directories may say ENOENT.
is(join(' ', grep { $got->{$_}[1] eq 'ENOENT' && !m{ /proc} } @tried), '', 'each was refused, not aimed at nothing (' . join(', ', map { "$_ x $why{$_}" } sort keys %why) . ')');
# Through a link or a descriptor in home it is the same file.
$got = attack($brood, mallory => <<'PERL');
symlink '/etc', '/work/etc'; symlink '/usr/bin/ls', '/work/ls';
try('through a link' => sub { spill('/work/etc/passwd', 'x', O_WRONLY) });
try('create through a link' => sub { spill('/work/etc/new', 'x') });
try('a program through a link' => sub { spill('/work/ls', 'x', O_WRONLY) });
open my $fd, '<', '/etc/passwd';
try('reopened for writing' => sub { spill('/proc/self/fd/' . fileno $fd, 'x', O_WRONLY) });
open my $dir, '<', '/etc';
try('through the root link' => sub { spill('/proc/self/root/etc/passwd', 'x', O_WRONLY) });
try('through the cwd link' => sub { chdir '/etc'; spill('/proc/self/cwd/new', 'x') });
try('home' => sub { spill('/work/mine', 'x') });
try('tmp' => sub { spill('/tmp/mine', 'x') });
try('shm' => sub { spill('/dev/shm/mine', 'x') });
PERL
refused($got, $_, qr/^(?:EACCES|EROFS|EPERM)$/) for 'through a link', 'create through a link', 'a program through a link', 'reopened for writing', 'through the root link', 'through the cwd link';
done($got, $_, "control: writing to $_ works") for qw(home tmp shm);

$brood->stop;
done_testing;
