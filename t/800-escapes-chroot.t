# SPDX-License-Identifier: Apache-2.0
# The attacker changes the root directory, and walks up and out of the one it has.
use lib 't/lib';
use Brood;
use Brood::Attack;

my $brood = Brood->start;
my $attack = 'mkdir "/tmp/root"; call(chroot => 161, "/tmp/root\0");';
my $got = attack($brood, mallory => <<"PERL");
$attack
call(dot => 161, ".\\0");
opendir my \$dir, '/' or die;
try('up' => sub { chdir '../' x 64; -e 'etc/shadow' || -e 'boot' });
try('through proc' => sub { chdir '/proc/self/root/../../..'; -e 'etc/shadow' || -e 'boot' });
try('through cwd' => sub { chdir '/proc/self/cwd/../../../..'; -e 'etc/shadow' || -e 'boot' });
call(openat2 => 437, -100, "../../../../../../etc/shadow\\0", pack('QQQ', 0, 0, 0), 24);
call(fchdir => 81, fileno \$dir);
PERL
refused($got, $_, qr/^EPERM$/) for qw(chroot dot);
refused($got, $_) for 'up', 'through proc', 'through cwd', 'openat2';
is($brood->sh(mallory => 'ls /')->{stdout} =~ s/\n/ /gr, 'bin dev etc home lib lib32 lib64 mnt opt proc root run sbin srv sys tmp usr var work ' =~ s/lib32 /-d '\/lib32' ? 'lib32 ' : ''/er, 'the root image and nothing else');
is($brood->sh(mallory => 'ls /root /home /run /var')->{stdout} =~ s/\n/ /gr, '/home:  /run: empty  /var: tmp ', 'nothing of the host in it');
is($brood->sh(mallory => 'cut -d: -f1 /etc/passwd')->{stdout}, "root\nuser\nnobody\n", 'not even its users');
ok(-e '/etc/shadow', 'control: the host has a shadow file');
control(on_host($attack), 'chroot');

$brood->stop;
done_testing;
