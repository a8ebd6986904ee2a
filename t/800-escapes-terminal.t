# SPDX-License-Identifier: Apache-2.0
# The attacker pushes characters into a terminal (TIOCSTI, TIOCLINUX), or takes the operator's one as its own.
use lib 't/lib';
use Brood;
use Brood::Attack;

my $brood = Brood->start;
my $got = attack($brood, mallory => <<'PERL');
try('open /dev/tty' => sub { sysopen my $f, '/dev/tty', O_RDWR });
call("tiocsti $_" => 16, $_, 0x5412, "x") for 0 .. 2;
call("high bits" => 16, 0, 0x5412 | 1 << 32, "x"); # the kernel looks at 32 bits only
call("tioclinux" => 16, 0, 0x541c, "\2");
call("take it" => 16, 0, 0x540e, 1);
call("console" => 16, 0, 0x541d, 0);
try("isatty $_" => sub { -t $_ }) for *STDIN, *STDOUT, *STDERR;
my $n = pack 'i', 0;
call("fionread" => 16, 0, 0x541b, $n);
PERL
refused($got, 'open /dev/tty', qr/^(?:ENXIO|EACCES)$/, 'there is no controlling terminal');
refused($got, "tiocsti $_", qr/^EPERM$/) for 0 .. 2; # not ENOTTY: the filter comes first
refused($got, 'high bits', qr/^EPERM$/);
refused($got, 'tioclinux', qr/^EPERM$/);
refused($got, $_, qr/^(?:EPERM|ENOTTY)$/) for 'take it', 'console';
refused($got, "isatty *main::$_") for qw(STDIN STDOUT STDERR);
is($brood->sh(mallory => 'cut -d " " -f 7 /proc/self/stat')->{stdout}, "0\n", 'tty_nr is 0');
is($brood->sh(mallory => 'tty')->{stdout}, "not a tty\n", 'tty(1) agrees');
# Terminals of its own there are, a few, which no other namespace sees or misses.
my $grab = 'my @t; for (1 .. 64) { sysopen my $f, "/dev/ptmx", O_RDWR | 256 or last; push @t, $f } my $why = error(); report(count => 1, scalar @t); report(more => @t == 64, $why);';
$got = attack($brood, mallory => $grab . ' sysopen my $s, "/dev/pts/0", O_RDWR | 256; call("tiocsti own" => 16, fileno($t[0]), 0x5412, "x"); spill("/tmp/holding", "1"); sleep 1;');
is(said($got, 'count'), 32, 'of 64 terminals it gets 32');
refused($got, 'more', qr/^(?:ENOSPC|EIO|EMFILE)$/);
refused($got, 'tiocsti own', qr/^EPERM$/, 'typing into one of its own');
is($brood->sh(mallory => 'echo /dev/pts/*')->{stdout}, "/dev/pts/ptmx\n", 'they are gone with the run');
my $hoard = $brood->post(mallory => 'exec perl -MFcntl -e \'for (1 .. 32) { sysopen my $f, "/dev/ptmx", O_RDWR | 256 or die; push @t, $f } open my $h, ">", "holding"; close $h; sleep 20\'', timeout => 20);
ok($brood->wait_file('holding'), 'while it holds all of its own');
$got = attack($brood, bob => $grab . 'try("their terminal" => sub { @t = (); sysopen my $f, "/dev/pts/0", O_RDWR | 256 });');
is(said($got, 'count'), 32, 'a neighbour has as many');
refused($got, 'their terminal', qr/^ENOENT$/);
$hoard = undef;
# Of the session that started the service nothing is left either.
for my $role (qw(zygote primordial)) {
    my ($pid) = $brood->pids($role);
    my ($tty) = slurp("/proc/$pid/stat") =~ /\) \S \d+ \d+ \d+ (\d+)/;
    is($tty, 0, "the $role has no terminal");
}

$brood->stop;
done_testing;
