# SPDX-License-Identifier: Apache-2.0
# The service itself runs below a seccomp filter that has a listener, as inside a container: there is room for no
# other, so refused calls cannot be counted. They must be refused all the same, with the same error.
use lib 't/lib';
use Brood;
use Brood::Attack;

require_layer('root');
# In this very process, so that the listener lives as long as the service; the filter allows everything.
my $program = pack 'SCCL', 6, 0, 0, 0x7fff0000;
my $listener = syscall 317, 1, 8, pack 'Sx6P', 1, $program;
cmp_ok($listener, '>=', 0, "control: there was room for this one ($!)");
my $brood = Brood->start;
for my $run (qw(first second third)) {
    my $got = attack($brood, mallory => <<'PERL');
call(mount => 165, 0, 0, 0, 0, 0);
call(unshare => 272, 0x10000000);
call(ptrace => 101, 0, 0, 0, 0);
call(clone_newuser => 56, 0x10000011, 0, 0, 0, 0);
call(clone3 => 435, 0, 0);
PERL
    refused($got, $_, qr/^EPERM$/, "$run run: $_") for qw(mount unshare ptrace clone_newuser);
    refused($got, 'clone3', qr/^ENOSYS$/);
    is_deeply($got->{''}{denied}, [], 'but not told');
}
ok($brood->recycle('mallory'), 'moulds are made');
is($brood->sh(mallory => q{perl -e 'syscall 165, 0, 0, 0, 0, 0; print 0 + $!'})->{stdout}, 1, 'and what they cast is refused too');

$brood->stop;
done_testing;
