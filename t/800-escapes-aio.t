# SPDX-License-Identifier: Apache-2.0
# The attacker reserves all asynchronous I/O of the machine: fs.aio-max-nr is one number for everybody, databases of the host included.
use lib 't/lib';
use Brood;
use Brood::Attack;

my $brood = Brood->start;
my $take = <<'PERL';
my $n = 0;
for (1 .. 5000) { my $ctx = "\0" x 8; last if syscall(206, 2000, $ctx) < 0; $n++ }
print "contexts\tdone\t$n\n";
PERL
my $before = slurp('/proc/sys/fs/aio-nr');
my $got = attack($brood, mallory => 'my $ctx = "\0" x 8; call(io_setup => 206, 1, $ctx);' . $take);
refused($got, 'io_setup', qr/^(?:ENOSYS|EPERM)$/);
is(said($got, 'contexts'), 0, 'mallory gets no context');
cmp_ok(slurp('/proc/sys/fs/aio-nr') - $before, '<', 4000, 'the machine\'s number is as it was');
control(on_host('my $ctx = "\0" x 8; call(io_setup => 206, 1, $ctx);'), 'io_setup');
is($brood->sh(mallory => 'dd if=/dev/zero of=x bs=64k count=4 oflag=sync 2>/dev/null && stat -c %s x')->{stdout}, "262144\n", 'control: files work without');

$brood->stop;
done_testing;
