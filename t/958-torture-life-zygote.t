# SPDX-License-Identifier: Apache-2.0
# Torture of the first zygote, which is probed, and of its children in the start of a service, as t/956.
BEGIN { $ENV{B} = 'build/fault' }
use lib 't/lib';
use Brood;
use Brood::Torture;

my $t = Brood::Torture->new;
$t->torture_life(start => $_) for qw(zygote child);
$t->finish;
