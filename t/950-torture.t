# SPDX-License-Identifier: Apache-2.0
# Torture of the engine: each call behind SYS() that a run, an activation, an eviction, a removal or a reload comes by
# fails in turn. What is asked of it then: t/lib/Brood/Torture.pm.
BEGIN { $ENV{B} = 'build/fault' }
use lib 't/lib';
use Brood;
use Brood::Torture;

my $t = Brood::Torture->new;
$t->torture($_, 'engine', $t->operation($_)) for 'activation', 'run', 'large run', 'eviction', 'removal', 'reload';
$t->finish;
