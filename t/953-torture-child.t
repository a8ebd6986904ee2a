# SPDX-License-Identifier: Apache-2.0
# Torture of what pid 1 forks - standbys, reserves, moulds, runs up to their command - as t/950-torture.t.
BEGIN { $ENV{B} = 'build/fault' }
use lib 't/lib';
use Brood;
use Brood::Torture;

my $t = Brood::Torture->new;
$t->torture($_, 'child', $t->operation($_)) for 'first runs', 'full run', 'leaving run';
$t->finish;
