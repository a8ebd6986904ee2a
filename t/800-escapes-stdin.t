# SPDX-License-Identifier: Apache-2.0
# The attacker changes its stdin's open file: flags, owner, locks. Nobody else may see that.
use lib 't/lib';
use Brood;

require_layer('root', 'cgroup');
my $brood = Brood->start;
my $flags = q{perl -MFcntl -e 'printf "%o\n", fcntl(STDIN, F_GETFL, 0)'};
my $before = $brood->sh(bob => $flags)->{stdout};
my $own = $brood->sh(mallory => q{perl -MFcntl -e 'fcntl(STDIN, F_SETFL, O_APPEND | O_NONBLOCK) or die $!; printf "%o\n", fcntl(STDIN, F_GETFL, 0)'})->{stdout};
isnt($own, $before, 'control: it can change its own');
is($brood->sh(bob => $flags)->{stdout}, $before, 'another namespace has its own');
is($brood->sh(mallory => $flags)->{stdout}, $before, 'and so has the next run');
is($brood->sh(bob => 'readlink /proc/self/fd/0; cat')->{stdout}, "/dev/null\n", 'which is /dev/null');
$brood->stop;
done_testing();
