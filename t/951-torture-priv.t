# SPDX-License-Identifier: Apache-2.0
# Torture of priv, as t/950-torture.t. A run does not need it.
BEGIN { $ENV{B} = 'build/fault' }
use lib 't/lib';
use Brood;
use Brood::Torture;

my $t = Brood::Torture->new;
$t->torture('run', 'priv', $t->operation('run'), none => 1);
$t->torture($_, 'priv', $t->operation($_)) for 'activation', 'eviction', 'removal', 'reload';
$t->finish;
