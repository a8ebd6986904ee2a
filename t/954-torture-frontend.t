# SPDX-License-Identifier: Apache-2.0
# Torture of the frontend, as t/950-torture.t.
BEGIN { $ENV{B} = 'build/fault' }
use lib 't/lib';
use Brood;
use Brood::Torture;

my $t = Brood::Torture->new;
$t->torture($_, 'frontend', $t->operation($_)) for 'connection', 'full run', 'large output', 'slow output', 'client that leaves', 'activation';
$t->finish;
