# SPDX-License-Identifier: Apache-2.0
# Torture of priv in the start of a service, with its probe, and in its stop, as t/950-torture.t: it works, or it ends
# with an error, and leaves nothing.
BEGIN { $ENV{B} = 'build/fault' }
use lib 't/lib';
use Brood;
use Brood::Torture;

my $t = Brood::Torture->new;
$t->torture_life(start => 'priv');
$t->torture_life(stop => 'priv');
$t->finish;
