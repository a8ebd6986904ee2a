# SPDX-License-Identifier: Apache-2.0
# Torture of the primordial and of pid 1 of a namespace, as t/950-torture.t: activations, runs with everything that a
# request can have, runs that leave processes, evictions, reloads.
BEGIN { $ENV{B} = 'build/fault' }
use lib 't/lib';
use Brood;
use Brood::Torture;

my $t = Brood::Torture->new;
$t->torture($_, 'primordial', $t->operation($_)) for 'activation', 'eviction', 'reload';
$t->torture($_, 'primordial', $t->operation($_), none => 1) for 'full run', 'leaving run';
$t->torture($_, 'zygote', $t->operation($_)) for 'first runs', 'full run', 'leaving run';
$t->finish;
