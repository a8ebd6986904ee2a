# SPDX-License-Identifier: Apache-2.0
# The attacker uses set-uid programs, makes some of its own, and asks for ids and capabilities.
use lib 't/lib';
use Brood;
use Brood::Attack;

my $brood = Brood->start;
my @programs = grep { -u $_ } map { glob "$_/*" } qw(/usr/bin /usr/sbin /usr/lib/openssh /usr/lib/dbus-1.0);
ok(scalar(grep { m{/su$} } @programs), 'control: the image has set-uid programs: ' . scalar @programs);
for my $path ('/usr/bin/su', '/usr/bin/mount', '/usr/bin/passwd', '/usr/bin/newgrp') {
    next unless -u $path;
    like($brood->sh(mallory => "stat -c %a $path")->{stdout}, qr/^4/, "$path is set-uid inside, too");
}
is($brood->sh(mallory => 'echo | su -c id root; echo "status $?"')->{stdout} =~ /uid=0/ ? 'root' : 'nobody', 'nobody', 'su gives nothing');
isnt($brood->sh(mallory => 'mount -t tmpfs none /tmp')->{exit_code}, 0, 'mount does not mount');
# A set-uid program that tells its ids: a copy of a shell, as the attacker could make one.
my $r = $brood->sh(mallory => 'cp /usr/bin/id ~/id && chmod 6755 ~/id && stat -c %a ~/id && ~/id -u && cp /usr/bin/id /tmp/id && chmod 6755 /tmp/id && /tmp/id -u');
is($r->{stdout}, "6755\n1000\n1000\n", 'one of its own runs as the same user');
$r = $brood->sh(mallory => 'chown 0:0 ~/id');
isnt($r->{exit_code}, 0, 'and cannot be given to root');
$r = $brood->sh(mallory => 'setcap cap_sys_admin+ep ~/id; getfattr -d -m - ~/id 2>/dev/null | grep -c capability');
unlike($r->{stdout}, qr/^[1-9]/, 'no file capability can be set');

# What is set-uid root on disk must not matter either: the volume seen from outside, as an operator may have left it.
my $planted = "$brood->{fs_root}/mallory/planted";
system 'cp', '/usr/bin/id', $planted;
chown 0, 0, $planted;
chmod 04755, $planted;
$r = $brood->sh(mallory => '~/planted -u');
unlike($r->{stdout}, qr/^0$/m, 'a file of the host\'s root in the volume gives nothing');

my $attack = <<'PERL';
call(setuid => 105, 0);
call(setresuid => 117, 0, 0, 0);
call(setgid => 106, 0);
call(setfsgid_root => 119, 0, 0, 0);
call(setgroups => 116, 1, pack 'I', 0);
call(capset => 126, pack('Ii', 0x20080522, 0), pack('I6', (0xffffffff, 0xffffffff, 0) x 2));
call(ambient => 157, 47, 2, 21, 0, 0);
PERL
my $got = attack($brood, mallory => $attack . 'call(no_new_privs_off => 157, 38, 0, 0, 0, 0); call(securebits => 157, 28, 0x10, 0, 0, 0); call(keepcaps => 157, 8, 1, 0, 0, 0); call(other_user => 105, 1001);');
refused($got, $_, qr/^(?:EPERM|EINVAL)$/) for qw(setuid setresuid setgid setfsgid_root setgroups capset ambient no_new_privs_off securebits other_user);
is($brood->sh(mallory => 'grep -E "^(NoNewPrivs|CapBnd|Groups)" /proc/self/status | tr -s "\t " " "')->{stdout} =~ s/ \n/\n/r, "Groups:\nCapBnd: 0000000000000000\nNoNewPrivs: 1\n" =~ s/\AGroups:\n(CapBnd: 0+\n)(.*\n)\z/Groups:\n$1$2/r, 'no groups, an empty bounding set, no_new_privs');
control(on_host($attack), qw(setuid setresuid setgid setgroups));
# The same copy outside does gain: the plain user of the host becomes root with it.
my $dir = "$brood->{dir}/suid";
mkdir $dir;
chmod 0755, $dir;
system 'cp', '/usr/bin/id', "$dir/id";
chmod 04755, "$dir/id";
is(`setpriv --reuid 1000 --regid 1000 --clear-groups $dir/id -u`, "0\n", 'control: outside a set-uid copy of id says 0');

$brood->stop;
done_testing;
